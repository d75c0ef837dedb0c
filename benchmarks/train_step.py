"""Compares one update of nets A and D with a plain loop: python benchmarks/train_step.py.

The plain loop is that of torchvision's reference script (references/classification/train.py):
its vgg11 or vgg16, SGD with momentum and weight decay, top-1, top-5 and the loss read after every
step; in half precision with autocast. Every variant steps in turn with the plain loop of its
precision (A B A B), on the same random images, which are on the device already. Rows are saved as
they come.

On a CPU each variant and the plain loop run in processes of their own, as they would alone: the
C library's settings and waiting threads belong to a process. `--plain-precision fp32` compares
with the plain loop in float32, whatever the variant computes in. `--sources DIR` adds our update
from another version's sources.

On a GPU it also measures TFLOP/s and their share of what the largest matrix product of the same
type reaches, and variants of our update that show what costs time. `first_loss` and `third_loss`
are the losses of the first and third update: ours must agree with each other, because they start
from the same weights and draw the same dropout. `queue_ms` is how long the CPU takes to queue one
step.

With --profile nothing is compared. It measures the GPU time of each variant by operation and by
kernel.
"""

import json
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass, replace
from itertools import count
from operator import attrgetter
from pathlib import Path

import click
import numpy as np
import torch
import torchvision
from apart import Apart, served
from gpu_variants import fused_relu, padded_input, pool_first
from result_rows import ResultRows
from torch import nn
from torch.autograd.profiler_util import FunctionEventAvg
from torch.nn.functional import cross_entropy
from torchvision.models import vgg

from bench.results.environment import describe_environment
from bench.speed.gpu import matmul_ceiling
from train.feed.examples import Examples
from train.options.run_settings import RunSettings
from train.recipe.config import TrainConfig
from train.session import set_up_torch
from train.step.trainee import shape_for_training, shaped
from train.step.update import Updater
from vgg_deploy.job import ALONE
from vgg_deploy.machine import available_cores, pick_device
from vgg_deploy.net.archs import ARCHS, macs
from vgg_deploy.net.model import VGG, initialise
from vgg_deploy.net.spec import NetSpec, numbered

CLASSES, LR = 1000, 1e-4
PLAIN = {"A": torchvision.models.vgg11, "D": torchvision.models.vgg16}
HIDDEN = 4096  # outputs of fc6 and fc7
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
WARM_UP = 3  # steps of every variant; cuDNN searches and torch.compile compiles in them
OPERATIONS, KERNELS = 75, 25  # rows of a profile by operation and by kernel

Step = Callable[[], torch.Tensor]  # one update, not waited for; returns its mean loss
Change = Callable[[VGG], VGG]
VARIANTS: dict[str, tuple[tuple[Change, ...], str]] = {  # changes of the net, mode of torch.compile
    "ours": ((), ""),
    "ours, pool first": ((pool_first,), ""),
    "ours, compiled": ((), "default"),
    "ours, pool first, compiled": ((pool_first,), "default"),
    "ours, padded input, pool first": ((padded_input, pool_first), ""),
    "ours, pool first, fused ReLU": ((pool_first, fused_relu), ""),
    "ours, pool first, fused ReLU, compiled": ((pool_first, fused_relu), "default"),
    "ours, padded input, pool first, compiled": ((padded_input, pool_first), "default"),
    "ours, pool first, autotuned": ((pool_first,), "max-autotune-no-cudagraphs"),
}
OTHER = ", other sources"
PLAIN_LOOP, PLAIN_LAST = "plain loop", "plain loop, channels last"


@dataclass(frozen=True)
class Problem:
    """Sizes of the net and its input, and where they are."""

    arch: str
    width: float
    crop: int
    batch: int
    device: str
    precision: str

    def images(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Random images (N, 3, crop, crop) about as pixels minus their mean, and labels (N,)."""
        draw = torch.Generator().manual_seed(0)
        images = 64 * torch.randn(self.batch, 3, self.crop, self.crop, generator=draw)
        labels = torch.randint(CLASSES, (self.batch,), generator=draw)
        return images.to(self.device), labels.to(self.device)

    def flop(self) -> int:
        """Operations per image: forward, gradients of weights, and of inputs except the first."""
        arch, crop = ARCHS[self.arch], self.crop
        first = arch.stages(self.width)[0][0]
        forward = macs(arch, crop, crop, CLASSES, self.width, crop)
        return 2 * (3 * forward - first.kernel**2 * first.c_in * first.c_out * crop * crop)


def ours(problem: Problem, changes: tuple[Change, ...], mode: str) -> Step:
    """`python -m train`'s update with dropout, decay and tallies.

    Args:
        problem: Net and input.
        changes: Applied to the net in this order.
        mode: Of torch.compile; empty for none.
    """
    side = max(256, problem.crop)
    config = TrainConfig(
        arch=problem.arch,
        width=problem.width,
        crop=problem.crop,
        side=(side, side),
        batch=problem.batch,
        lr=LR,
        precision=problem.precision,
    )
    net = VGG(NetSpec(problem.arch, numbered(CLASSES), width=problem.width, crop=problem.crop))
    initialise(net, "he", torch.Generator().manual_seed(0))
    for change in changes:
        net = change(net)
    net = shape_for_training(net, problem.device, problem.precision)
    updater = Updater(net, False, config, ALONE, compiled=False)
    if mode:
        updater.forward = torch.compile(updater.trainee, mode=mode)
    inputs, labels = problem.images()
    rows = torch.arange(problem.batch, device=problem.device)
    examples = Examples(shaped(inputs, problem.precision), labels, rows)
    numbers = count()

    def step() -> torch.Tensor:
        return updater.step(examples, next(numbers), problem.batch)[0] / problem.batch

    return step


def plain_net(arch: str, width: float) -> nn.Module:
    """The net of torchvision; for rehearsals a thin one of the same layers."""
    if width == 1:
        return PLAIN[arch](num_classes=CLASSES)
    layers = [v if v == "M" else round(width * v) for v in vgg.cfgs[arch]]
    hidden = round(width * HIDDEN)
    return nn.Sequential(
        vgg.make_layers(layers),
        nn.AdaptiveAvgPool2d(7),
        nn.Flatten(),
        nn.Linear(49 * layers[-2], hidden),
        nn.ReLU(True),
        nn.Dropout(),
        nn.Linear(hidden, hidden),
        nn.ReLU(True),
        nn.Dropout(),
        nn.Linear(hidden, CLASSES),
    )


def plain(problem: Problem, channels_last: bool) -> Step:
    """The reference loop of torchvision."""
    device, precision = problem.device, problem.precision
    net = plain_net(problem.arch, problem.width).to(device).train()
    optimiser = torch.optim.SGD(net.parameters(), lr=LR, momentum=0.9, weight_decay=5e-4)
    scaler = torch.amp.GradScaler(device, enabled=precision == "fp16")
    inputs, labels = problem.images()
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
        inputs = inputs.contiguous(memory_format=torch.channels_last)

    def step() -> torch.Tensor:
        half = precision != "fp32"
        with torch.autocast(device, TYPES[precision]) if half else nullcontext():
            output = net(inputs)
            loss = cross_entropy(output, labels)
        optimiser.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()
        with torch.inference_mode():
            hits = output.topk(5, 1).indices.t() == labels[None]
            shares = [hits[:k].flatten().sum(dtype=torch.float32) / len(labels) for k in (1, 5)]
            _ = loss.item(), *(share.mul(100) for share in shares)
        return loss.detach()

    return step


def step_of(name: str, problem: Problem) -> Step:
    """The variant of this name, ready to step."""
    if name == PLAIN_LOOP:
        return plain(problem, False)
    if name == PLAIN_LAST:
        return plain(problem, True)
    return ours(problem, *VARIANTS[name])


def on_its_own(name: str, problem: Problem, sources: Path | None = None) -> Apart:
    """A variant in a process of its own, warmed.

    Args:
        name: Of the variant.
        problem: Net and input.
        sources: Where the package lies that it imports; None for this one.
    """
    ours_here = not name.startswith(PLAIN_LOOP)
    # as the training command sets it before it imports PyTorch
    environment = {"OMP_WAIT_POLICY": "PASSIVE"} if ours_here else {}
    request = json.dumps([name.removesuffix(OTHER), asdict(problem)])
    return Apart([sys.executable, __file__, "--serve", request], sources, environment)


def serve(request: str) -> None:
    """Step as often as standard input asks for, see `apart.served`.

    Args:
        request: JSON of the name of a variant and the fields of a Problem.
    """
    name, fields = json.loads(request)
    problem = Problem(**fields)
    torch.set_num_threads(available_cores())
    if not name.startswith(PLAIN_LOOP):
        set_up_torch(RunSettings("cpu", available_cores(), 0, "stop"))
    served(step_of(name, problem))


def wait(device: str) -> None:
    """Until everything queued has run."""
    if device == "cuda":
        torch.cuda.synchronize()


def warmed(step: Step, device: str) -> tuple[float, list[float]]:
    """Run the first steps.

    Returns:
        Seconds of the first one, and the losses of all.
    """
    wait(device)
    start = time.perf_counter()
    losses = [step().item()]
    first_s = time.perf_counter() - start
    for _ in range(WARM_UP - 1):
        losses.append(step().item())
    wait(device)
    return first_s, losses


def timed(step: Step, calls: int, device: str) -> float:
    """Seconds per step, by the wall clock over `calls` steps."""
    wait(device)
    start = time.perf_counter()
    for _ in range(calls):
        step()
    wait(device)
    return (time.perf_counter() - start) / calls


def queue_s(step: Step, device: str) -> float:
    """Seconds until one step is queued; on a CPU, until it is done."""
    wait(device)
    start = time.perf_counter()
    step()
    queued = time.perf_counter() - start
    wait(device)
    return queued


def compared(
    name: str, problem: Problem, partner: Step, rounds: int, calls: int
) -> dict[str, object]:
    """The row of one variant on a GPU, timed in turn with the plain loop."""
    device = problem.device
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    step = step_of(name, problem)
    first_s, losses = warmed(step, device)
    peak_mib = torch.cuda.max_memory_allocated() / 2**20 if device == "cuda" else float("nan")
    pairs = [(timed(partner, calls, device), timed(step, calls, device)) for _ in range(rounds)]
    more = {
        "first_step_s": first_s,
        "queue_ms": 1000 * queue_s(step, device),
        "first_loss": losses[0],
        "third_loss": losses[-1],
        "peak_mib": peak_mib,
    }
    return row_of(name, problem, pairs, calls, more)


def compared_apart(
    name: str, problem: Problem, partner: Apart, rounds: int, calls: int, sources: Path | None
) -> dict[str, object]:
    """The row of one variant on a CPU, timed in turn with the plain loop."""
    with closing(on_its_own(name, problem, sources)) as own:
        losses = [own.step(1) for _ in range(WARM_UP)]
        pairs = [(partner.step(calls).seconds, own.step(calls).seconds) for _ in range(rounds)]
        more = {
            "first_step_s": losses[0].seconds,
            "first_loss": losses[0].loss,
            "third_loss": losses[-1].loss,
            "peak_mib": own.peak_mib(),
        }
    return row_of(name, problem, pairs, calls, more)


def row_of(
    name: str,
    problem: Problem,
    pairs: list[tuple[float, float]],
    calls: int,
    more: dict[str, object],
) -> dict[str, object]:
    """The row of a variant.

    Args:
        name: Of the variant.
        problem: Net and input.
        pairs: Seconds per step of the plain loop and of the variant, one pair per round.
        calls: Steps per turn.
        more: Further columns.
    """
    plain_s, own_s = np.array(pairs).T
    median = float(np.median(own_s))
    tflop_per_s = problem.batch / median * problem.flop() / 1e12
    row = {
        "net": problem.arch,
        "way": name,
        "precision": problem.precision,
        "batch": problem.batch,
        "crop_px": problem.crop,
        "width": problem.width,
        "rounds": len(pairs),
        "calls": calls,
        "median_ms": 1000 * median,
        "images_per_s": problem.batch / median,
        "against_plain": float(np.median(plain_s / own_s)),
        "slowest_round": float((plain_s / own_s).min()),
        "fastest_round": float((plain_s / own_s).max()),
        "plain_median_ms": 1000 * float(np.median(plain_s)),
        "tflop_per_s": tflop_per_s,
        **more,
    }
    if problem.device == "cuda":
        ceiling = matmul_ceiling(problem.precision)
        row |= {"matmul_tflop_per_s": ceiling, "of_matmul_pct": 100 * tflop_per_s / ceiling}
    return row


def profile(name: str, problem: Problem, results: ResultRows) -> None:
    """Add one step's time by operation with its input shapes, and by kernel."""
    step = step_of(name, problem)
    warmed(step, problem.device)
    on_gpu = problem.device == "cuda"
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if on_gpu:
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=kinds, record_shapes=True) as recorded:
        step()
        wait(problem.device)
    clock = attrgetter("self_device_time_total" if on_gpu else "self_cpu_time_total")
    on_cpu = torch.autograd.DeviceType.CPU
    by_shape = recorded.key_averages(group_by_input_shape=True)
    operations = [event for event in by_shape if event.device_type == on_cpu]
    kernels = [event for event in recorded.key_averages() if event.device_type != on_cpu]
    for event in sorted(operations, key=clock, reverse=True)[:OPERATIONS]:
        shapes = str(event.input_shapes)[:160]
        results.add(profile_row(name, problem, "operation", event, clock(event), shapes))
    for event in sorted(kernels, key=clock, reverse=True)[:KERNELS]:
        results.add(profile_row(name, problem, "kernel", event, clock(event), ""))


def profile_row(
    name: str, problem: Problem, kind: str, event: FunctionEventAvg, us: float, shapes: str
) -> dict[str, object]:
    """A row of train_profile_DEVICE.csv."""
    return {
        "net": problem.arch,
        "way": name,
        "kind": kind,
        "name": event.key[:160],
        "input_shapes": shapes,
        "calls": event.count,
        "ms": us / 1000,
    }


def failure(error: BaseException) -> str:
    """One line that says what went wrong."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]}"


def default_variants(device: str) -> list[str]:
    """Names, most useful first."""
    if device == "cpu":
        return ["ours"]
    return [*list(VARIANTS)[:-1], PLAIN_LAST, list(VARIANTS)[-1]]


def measured_apart(
    problem: Problem,
    names: list[str],
    plain_precision: str,
    sources: Path | None,
    rounds: int,
    calls: int,
    results: ResultRows,
) -> None:
    """Add a row for every variant on a CPU.

    Args:
        problem: Net and input.
        names: Of the variants.
        plain_precision: Of the plain loop that all are compared with.
        sources: Of another version, whose update is compared too; None for none.
        rounds: Turns.
        calls: Steps per turn.
        results: Gets the rows.
    """
    versions = [(name, None) for name in names]
    if sources:
        versions.append((f"ours{OTHER}", sources))
    with closing(on_its_own(PLAIN_LOOP, replace(problem, precision=plain_precision))) as partner:
        for _ in range(WARM_UP):
            partner.step(1)
        for name, where in versions:
            row = compared_apart(name, problem, partner, rounds, calls, where)
            results.add({**row, "plain_precision": plain_precision})
            print("measured:", json.dumps(results.rows[-1]), flush=True)


def measured(
    problem: Problem, names: list[str], rounds: int, calls: int, results: ResultRows
) -> None:
    """Add a row for every variant on a GPU, or a note that it failed."""
    partner = plain(problem, False)
    warmed(partner, problem.device)
    for name in names:
        torch._dynamo.reset()  # or the second compiled net counts as a recompilation of the first
        try:
            results.add(compared(name, problem, partner, rounds, calls))
            print("measured:", json.dumps(results.rows[-1]), flush=True)
        except Exception as error:  # one variant that fails must not lose the others
            what = f"{problem.arch} {name} {problem.precision}: {failure(error)}"
            results.note(f"- not measured: {what}")
            print("failed:", what, flush=True)
        if problem.device == "cuda":
            torch.cuda.empty_cache()


def known_variants(text: str | None, device: str) -> list[str]:
    """Read the names of variants.

    Raises:
        click.BadParameter: A name is unknown.
    """
    if text is None:
        return default_variants(device)
    known = (PLAIN_LOOP, PLAIN_LAST, *VARIANTS)
    names = [part.strip() for part in text.split(";")]
    for name in names:
        if name not in known:
            raise click.BadParameter(f"{name!r} is unknown; choose from: {'; '.join(known)}")
    return names


TABLE = {
    "net": "net", "way": "way", "type": "precision", "batch": "batch", "ms": "median_ms:.1f",
    "images/s": "images_per_s:.1f", "plain loop in": "plain_precision",
    "× plain loop": "against_plain:.2f",
    "slowest round": "slowest_round:.2f", "fastest round": "fastest_round:.2f",
    "TFLOP/s": "tflop_per_s:.3g", "% of matmul peak": "of_matmul_pct:.1f",
    "ms to queue": "queue_ms:.1f", "first step s": "first_step_s:.1f",
    "first loss": "first_loss:.4f", "third loss": "third_loss:.4f", "peak MiB": "peak_mib:.0f",
}  # fmt: skip
PROFILE_TABLE = {
    "net": "net", "way": "way", "kind": "kind", "name": "name", "input shapes": "input_shapes",
    "calls": "calls", "ms": "ms:.2f",
}  # fmt: skip


@click.command(context_settings={"show_default": True})
@click.option("--archs", default="A,D", help="Nets, comma-separated.")
@click.option(
    "--device", type=click.Choice(("cpu", "cuda")), help="[default: cuda if there is one]"
)
@click.option("--batch", type=int, help="Images per update.  [default: 8 on the CPU, 256 on a GPU]")
@click.option("--crop", default=224, help="Side of the images, pixels.")
@click.option("--width", default=1.0, help="Multiplier of all channels; below 1 for rehearsals.")
@click.option("--precisions", help="fp32, bf16, fp16.  [default: fp32 on the CPU, bf16 on a GPU]")
@click.option("--ways", help="Names, separated by semicolons.  [default: all that suit the device]")
@click.option("--rounds", default=7, help="Turns of the plain loop and a variant.")
@click.option(
    "--plain-precision",
    type=click.Choice(tuple(TYPES)),
    help="Of the plain loop, on a CPU.  [default: as --precisions]",
)
@click.option("--sources", type=click.Path(path_type=Path), help="Of another version, on a CPU.")
@click.option("--serve", "request", hidden=True, help="Step in a process of its own.")
@click.option("--calls", type=int, help="Steps per turn.  [default: 1 on the CPU, 5 on a GPU]")
@click.option("--profile", "profiled", is_flag=True, help="Time by operation and kernel instead.")
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(
    archs: str,
    device: str | None,
    batch: int | None,
    crop: int,
    width: float,
    precisions: str | None,
    ways: str | None,
    rounds: int,
    plain_precision: str | None,
    sources: Path | None,
    request: str | None,
    calls: int | None,
    profiled: bool,
    out: Path,
) -> None:
    """Write train_step_DEVICE.csv and .md, or with --profile train_profile_DEVICE.csv and .md."""
    if request:
        serve(request)
        return
    device = pick_device(device)
    batch = batch or {"cpu": 8, "cuda": 256}[device]
    calls = calls or {"cpu": 1, "cuda": 5}[device]
    precisions = precisions or {"cpu": "fp32", "cuda": "bf16"}[device]
    names = known_variants(ways, device)
    torch.set_num_threads(available_cores())
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = False
    warnings.filterwarnings("ignore", message=".*TensorFloat32.*")
    card = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    kind, title, table = "train_step", "An update", TABLE
    if profiled:
        kind, title, table = "train_profile", "GPU time of an update", PROFILE_TABLE
    title = f"{title} of {archs}, batch {batch}, crop {crop}, {card}"
    results = ResultRows(out / f"{kind}_{device}.csv", title, table)
    for arch in archs.split(","):
        for precision in precisions.split(","):
            problem = Problem(arch, width, crop, batch, device, precision)
            if profiled:
                for name in names:
                    profile(name, problem, results)
            elif device == "cpu":
                partner = plain_precision or precision
                measured_apart(problem, names, partner, sources, rounds, calls, results)
            else:
                measured(problem, names, rounds, calls, results)
    environment = json.dumps(describe_environment(available_cores()), indent=2)
    results.note(f"\n```json\n{environment}\n```")
    print(results.markdown())


if __name__ == "__main__":
    main()
