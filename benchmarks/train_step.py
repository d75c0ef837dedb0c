"""An update of full-width A and D against a plain loop with the same net: python benchmarks/train_step.py [--device cuda]

The plain loop is that of torchvision's reference script (references/classification/train.py): its vgg11 or vgg16, SGD with
momentum and weight decay, top-1, top-5 and the loss asked for after every step; on a GPU in float32 and with autocast. All
ways step in turn (A B A B), on the same random pictures already on the device. On a GPU also images/s as a share of what the
largest matrix product of the same type reaches.
"""

import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import click
import numpy as np
import pandas as pd
import torch
import torchvision
from torch.nn.functional import cross_entropy

from bench.environment import describe_environment
from bench.gpu import matmul_ceiling
from train.config import TrainConfig
from train.trainee import shape_for_training, shaped
from train.update import Examples, Updater
from vgg_deploy.archs import ARCHS, macs
from vgg_deploy.machine import available_cores, pick_device
from vgg_deploy.model import VGG, initialise
from vgg_deploy.ranks import ALONE
from vgg_deploy.spec import NetSpec, numbered

CLASSES, CROP, LR = 1000, 224, 1e-4
PLAIN = {"A": torchvision.models.vgg11, "D": torchvision.models.vgg16}
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
WARM_UP = 2  # steps of every way; torch.compile compiles within

Step = Callable[[], None]  # one update, waited for by nobody


def ours(arch: str, batch: int, device: str, precision: str, compiled: bool) -> Step:
    """`python -m train`'s update with dropout, decay, tallies."""
    config = TrainConfig(arch=arch, batch=batch, lr=LR, precision=precision)
    net = VGG(NetSpec(arch, numbered(CLASSES)))
    initialise(net, "he", torch.Generator().manual_seed(0))
    updater = Updater(shape_for_training(net, device, precision), False, config, ALONE, compiled)
    inputs, labels = pictures(batch, device)
    examples, steps = Examples(shaped(inputs, precision), labels, torch.arange(batch, device=device)), iter(range(10**9))
    return lambda: updater.step(examples, next(steps), batch, LR)


def plain(arch: str, batch: int, device: str, precision: str) -> Step:
    """torchvision's reference loop."""
    net = PLAIN[arch](num_classes=CLASSES).to(device).train()
    optimiser = torch.optim.SGD(net.parameters(), lr=LR, momentum=0.9, weight_decay=5e-4)
    scaler = torch.amp.GradScaler(device, enabled=precision == "fp16")
    inputs, labels = pictures(batch, device)

    def step() -> None:
        with torch.autocast(device, TYPES[precision]) if precision != "fp32" else nullcontext():
            output = net(inputs)
            loss = cross_entropy(output, labels)
        optimiser.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimiser)
        scaler.update()
        with torch.inference_mode():
            hits = output.topk(5, 1).indices.t() == labels[None]
            _ = [hits[:k].flatten().sum(dtype=torch.float32) * (100 / batch) for k in (1, 5)], loss.item()

    return step


def pictures(batch: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    return 64 * torch.randn(batch, 3, CROP, CROP, generator=draw).to(device), torch.randint(CLASSES, (batch,), generator=draw).to(device)


def training_flop(arch: str) -> int:
    """Of one image: forward, gradients of weights, and gradients of inputs but for the first layer's."""
    first = ARCHS[arch].stages()[0][0]
    return 2 * (3 * macs(ARCHS[arch], CROP, CROP) - first.kernel**2 * first.c_in * first.c_out * CROP * CROP)


def ways_of(arch: str, batch: int, device: str) -> dict[tuple[str, str], Step]:
    """(name, precision) -> a step; the plain float32 loop first."""
    precisions = ("fp32", "bf16", "fp16") if device == "cuda" else ("fp32",)
    ways = {("plain loop", p): plain(arch, batch, device, p) for p in precisions}
    ways |= {("ours", p): ours(arch, batch, device, p, compiled=False) for p in precisions}
    if device == "cuda":
        ways |= {("ours, compiled", p): ours(arch, batch, device, p, compiled=True) for p in ("bf16", "fp16")}
    return ways


def in_turn(ways: dict[tuple[str, str], Step], rounds: int, calls: int, device: str) -> pd.DataFrame:
    """Seconds a step of every way (columns) in every round (rows)."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    seconds = np.empty((rounds, len(ways)))
    for name, step in ways.items():
        for _ in range(WARM_UP):
            step()
        wait()
        print("warm:", *name, flush=True)
    for turn in seconds:
        for w, step in enumerate(ways.values()):
            wait()
            begun = time.perf_counter()
            for _ in range(calls):
                step()
            wait()
            turn[w] = (time.perf_counter() - begun) / calls
    return pd.DataFrame(seconds, columns=pd.MultiIndex.from_tuples(list(ways)))


def rows_of(arch: str, batch: int, seconds: pd.DataFrame, device: str) -> list[dict]:
    rows = []
    for way, precision in seconds:
        own, same = seconds[way, precision], seconds["plain loop", precision]
        ratios, speed = same / own, batch / own.median()
        row = {
            "net": arch, "way": way, "precision": precision, "batch": batch, "rounds": len(seconds), "median_ms": 1000 * own.median(),
            "images_per_s": speed, "against_plain": ratios.median(), "slowest_round": ratios.min(), "fastest_round": ratios.max(),
            "tflop_per_s": speed * training_flop(arch) / 1e12,
        }  # fmt: skip
        if device == "cuda":
            row |= {"matmul_tflop_per_s": matmul_ceiling(precision), "of_matmul_pct": 100 * row["tflop_per_s"] / matmul_ceiling(precision)}
        rows.append(row)
    return rows


@click.command(context_settings={"show_default": True})
@click.option("--archs", default="A,D")
@click.option("--device", type=click.Choice(("cpu", "cuda")))
@click.option("--batch", type=int, help="[default: 8 on the CPU, 256 on a GPU]")
@click.option("--rounds", default=7)
@click.option("--calls", type=int, help="Steps a round.  [default: 1 on the CPU, 5 on a GPU]")
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(archs, device, batch, rounds, calls, out):
    device = pick_device(device)
    batch, calls = batch or {"cpu": 8, "cuda": 256}[device], calls or {"cpu": 1, "cuda": 5}[device]
    torch.set_num_threads(available_cores())
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = False
    rows = []
    for arch in archs.split(","):
        rows += rows_of(arch, batch, in_turn(ways_of(arch, batch, device), rounds, calls, device), device)
        if device == "cuda":
            torch.cuda.empty_cache()
    table = pd.DataFrame(rows)
    out.mkdir(parents=True, exist_ok=True)
    table.to_csv(out / f"train_step_{device}.csv", index=False)
    shares = [f" {r['tflop_per_s']:.0f} | {r['of_matmul_pct']:.0f} |" if device == "cuda" else "" for r in rows]
    lines = [
        f"| {r['net']} | {r['way']} | {r['precision']} | {r['median_ms']:.1f} | {r['images_per_s']:.1f} | {r['against_plain']:.2f} "
        f"| {r['slowest_round']:.2f}-{r['fastest_round']:.2f} |{share}"
        for r, share in zip(rows, shares, strict=True)
    ]
    more = (" TFLOP/s | % of matmul peak |", " --- | --- |") if device == "cuda" else ("", "")
    head = f"| net | way | precision | ms a step | images/s | times as fast as the plain loop | of {rounds} rounds |{more[0]}\n"
    head += f"| --- | --- | --- | --- | --- | --- | --- |{more[1]}\n"
    environment = json.dumps(describe_environment(available_cores()), indent=2)
    title = f"# An update of A and D, batch {batch}, crop {CROP}, {torch.cuda.get_device_name() if device == 'cuda' else 'CPU'}"
    (out / f"train_step_{device}.md").write_text(f"{title}\n\n{head}" + "\n".join(lines) + f"\n\n```json\n{environment}\n```\n")
    print((out / f"train_step_{device}.md").read_text())


if __name__ == "__main__":
    main()
