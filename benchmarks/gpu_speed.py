"""Compares all ways of running A and D on a GPU.

    python benchmarks/gpu_speed.py

PyTorch (eager, CUDA graphs, compiled, variants) and ONNX Runtime CUDA (as it is, and with other
settings), at Q 256, 384, 512 and batch 1, 8, 32. Two clocks: on the device (images and scores stay
there) and end to end (from images in host memory to scores in host memory). TFLOP/s on the device,
and their share of what the largest matrix product of the same type reaches in the same run.

`score_difference` is the largest difference of the score map from eager float32, relative to its
largest value: it shows that a way computes the net. The weights are random, which does not change
the time. Rows are saved as they come, the most useful ways first. With --device cpu --width 0.0625
it is a rehearsal.
"""

import gc
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import torch
from gpu_variants import fused_relu, padded_input, pool_first, products
from models import exports, random_weights
from result_rows import ResultRows
from result_tables import environment_block

from bench.speed.gpu import condition, copy_ceiling, device_ms, matmul_ceiling
from export.release import ExportOptions
from vgg_deploy.machine import available_cores
from vgg_deploy.net.archs import ARCHS, macs
from vgg_deploy.net.model import VGG
from vgg_deploy.net.open_net import open_net
from vgg_deploy.net.spec import NetSpec, numbered
from vgg_deploy.runtimes import OnnxRuntime, Runtime, TorchRuntime
from vgg_deploy.runtimes.cuda_graphs import GraphedRuntime

SECONDS = 0.25  # spent on one clock of one cell, about
FEWEST, MOST = 5, 50  # calls counted
NHWC = {"use_tf32": "0", "prefer_nhwc": "1"}  # of ONNX Runtime's CUDA provider
QUICK = {"cudnn_conv_algo_search": "HEURISTIC"}

InputShape = tuple[int, int]  # Q in pixels, batch
Cells = Callable[[InputShape], bool]


class Files(NamedTuple):
    """One net: its weights and its exported files by precision."""

    weights: Path
    onnx: dict[str, Path]


class Way(NamedTuple):
    """One way to run a net."""

    name: str
    precision: str
    cells: Cells  # which shapes to measure
    open: Callable[[Files, str], Runtime]
    archs: tuple[str, ...] = ("D",)
    search: bool = False  # have cuDNN search for the fastest kernel of every convolution


@dataclass(frozen=True)
class Timing:
    """Median and fastest call, milliseconds."""

    median_ms: float
    fastest_ms: float
    calls: int


def net_of(files: Files, *changes: Callable[[VGG], VGG]) -> VGG:
    """The net with these changes."""
    net = open_net(files.weights)
    for change in changes:
        net = change(net)
    return net


def eager(precision: str, *changes: Callable[[VGG], VGG], compiled: bool = False):
    """How to open the net in PyTorch."""
    cores = available_cores()
    return lambda files, device: TorchRuntime(
        net_of(files, *changes), device, cores, precision, compiled
    )


def graphed(precision: str, *changes: Callable[[VGG], VGG]):
    """How to open the net in PyTorch with CUDA graphs."""
    return lambda files, device: GraphedRuntime(eager(precision, *changes)(files, device))


def planes(precision: str):
    """How to open the net in PyTorch with images and weights in NCHW order."""
    cores, layout = available_cores(), torch.contiguous_format
    return lambda files, device: TorchRuntime(
        open_net(files.weights), device, cores, precision, layout=layout
    )


def onnx(precision: str, settings: dict[str, str] | None = None):
    """How to open the exported file in ONNX Runtime.

    Args:
        precision: Of the file.
        settings: Of the CUDA provider, instead of the runtime's own.
    """

    def opened(files: Files, device: str) -> OnnxRuntime:
        runtime = OnnxRuntime(files.onnx[precision], device, available_cores())
        if settings is not None and device == "cuda":
            import onnxruntime as ort

            options = ort.SessionOptions()
            options.log_severity_level = 4
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
            providers = [("CUDAExecutionProvider", settings)]
            runtime.session = ort.InferenceSession(
                str(files.onnx[precision]), options, providers=providers, enable_fallback=0
            )
        return runtime

    return opened


def everywhere(shape: InputShape) -> bool:
    """At every Q and batch."""
    return True


def large(shape: InputShape) -> bool:
    """Where the net fills the GPU."""
    return shape[1] >= 8


def largest(shape: InputShape) -> bool:
    """At the largest batch."""
    return shape[1] >= 32


def some(shape: InputShape) -> bool:
    """At Q 256, and elsewhere the largest batch: for ways with a slow first call at each shape."""
    return shape[0] == 256 or shape[1] >= 32


def at_256(shape: InputShape) -> bool:
    """At Q 256."""
    return shape[0] == 256


D_AND_A = ("D", "A")
VARIANTS = (padded_input, pool_first, fused_relu)
WAYS = (  # the most useful first
    Way("products, eager, fused ReLU", "bf16", everywhere, eager("bf16", products, fused_relu)),
    Way(
        "products, compiled, pool first",
        "bf16",
        everywhere,
        eager("bf16", products, pool_first, compiled=True),
    ),
    Way(
        "products, compiled, pool first, fused ReLU",
        "bf16",
        everywhere,
        eager("bf16", products, pool_first, fused_relu, compiled=True),
    ),
    Way("products, compiled", "bf16", large, eager("bf16", products, compiled=True)),
    Way("products, eager", "bf16", large, eager("bf16", products)),
    Way("products, eager, pool first", "bf16", large, eager("bf16", products, pool_first)),
    Way(
        "products, compiled, all variants",
        "bf16",
        large,
        eager("bf16", products, *VARIANTS, compiled=True),
    ),
    Way("products, graphs, fused ReLU", "bf16", everywhere, graphed("bf16", products, fused_relu)),
    Way("eager", "bf16", everywhere, eager("bf16"), D_AND_A),
    Way("CUDA graphs", "bf16", everywhere, graphed("bf16"), D_AND_A),
    Way("ONNX Runtime", "fp16", some, onnx("fp16"), D_AND_A),
    Way("eager, pool first", "bf16", large, eager("bf16", pool_first)),
    Way("eager, fused ReLU", "bf16", large, eager("bf16", fused_relu)),
    Way("eager, pool first, fused ReLU", "bf16", large, eager("bf16", pool_first, fused_relu)),
    Way("ONNX Runtime, NHWC", "fp16", some, onnx("fp16", NHWC)),
    Way("eager, cuDNN search", "bf16", large, eager("bf16"), search=True),
    Way(
        "CUDA graphs, all variants, cuDNN search",
        "bf16",
        large,
        graphed("bf16", *VARIANTS),
        search=True,
    ),
    Way("compiled", "bf16", large, eager("bf16", compiled=True)),
    Way("eager", "fp32", at_256, eager("fp32"), D_AND_A),
    Way("ONNX Runtime", "fp32", at_256, onnx("fp32"), D_AND_A),
    Way("eager", "fp16", large, eager("fp16")),
    Way("ONNX Runtime, NHWC, quick search", "fp16", at_256, onnx("fp16", NHWC | QUICK)),
    Way("compiled, pool first", "bf16", largest, eager("bf16", pool_first, compiled=True)),
    Way("eager, NCHW", "bf16", largest, planes("bf16")),
)


@contextmanager
def searching(enabled: bool) -> Iterator[None]:
    """Have cuDNN search within the block."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = enabled
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def images_of(shape: InputShape) -> np.ndarray:
    """Random square images, (N, 3, Q, Q) uint8."""
    side, batch = shape
    return np.random.default_rng(0).integers(0, 256, (batch, 3, side, side), np.uint8)


def calls_for(estimate_s: float) -> int:
    """How many calls fit the time of one cell."""
    return int(np.clip(SECONDS / max(estimate_s, 1e-6), FEWEST, MOST))


def end_to_end(runtime: Runtime, images: np.ndarray) -> tuple[float, Timing]:
    """Time calls from host memory to host memory.

    Returns:
        Milliseconds of the first call, and the timing of the calls after two more.
    """
    times = []
    for _ in range(3):
        start = time.perf_counter()
        runtime(images)
        times.append(time.perf_counter() - start)
    first_ms = 1000 * times[0]
    counted = []
    for _ in range(calls_for(times[-1])):
        start = time.perf_counter()
        runtime(images)
        counted.append(1000 * (time.perf_counter() - start))
    return first_ms, Timing(float(np.median(counted)), min(counted), len(counted))


def on_device(runtime: Runtime, images: np.ndarray, estimate_ms: float) -> Timing:
    """By CUDA events, with images and scores staying on the device."""
    pixels = torch.from_numpy(images).cuda()
    device_ms(runtime.on_device, pixels, 2)
    ms = device_ms(runtime.on_device, pixels, calls_for(estimate_ms / 1000))
    return Timing(float(np.median(ms)), float(ms.min()), len(ms))


def fill_free_memory() -> None:
    """Fill free memory with NaN, so that results that are not written show."""
    if torch.cuda.is_available():
        torch.full((2**28,), float("nan"), device="cuda")


def measured(
    way: Way, runtime: Runtime, arch: str, shape: InputShape, reference: np.ndarray
) -> dict:
    """The row of one way at one shape.

    Args:
        way: The way.
        runtime: The opened net.
        arch: Name of the net.
        shape: Q and batch.
        reference: The score map of eager float32.
    """
    images, spec = images_of(shape), runtime.spec
    side, batch = shape
    first_ms, host = end_to_end(runtime, images)
    fill_free_memory()
    scores = runtime(images).score_map
    work = 2 * batch * macs(ARCHS[arch], side, side, len(spec.classes), spec.width, spec.crop)
    row = {
        "net": arch,
        "way": way.name,
        "precision": way.precision,
        "q_px": side,
        "batch": batch,
        "width": spec.width,
        "first_ms": first_ms,
        "end_to_end_ms": host.median_ms,
        "end_to_end_fastest_ms": host.fastest_ms,
        "end_to_end_calls": host.calls,
        "end_to_end_images_per_s": 1000 * batch / host.median_ms,
        "end_to_end_tflop_per_s": work / host.median_ms / 1e9,
        "score_difference": float(np.abs(scores - reference).max() / np.abs(reference).max()),
    }
    if runtime.device == "cuda":
        device = on_device(runtime, images, host.median_ms)
        speed, now = work / device.median_ms / 1e9, condition()
        peak = matmul_ceiling(way.precision)
        row |= {
            "device_ms": device.median_ms,
            "device_fastest_ms": device.fastest_ms,
            "device_calls": device.calls,
            "device_images_per_s": 1000 * batch / device.median_ms,
            "device_tflop_per_s": speed,
            "matmul_tflop_per_s": peak,
            "of_matmul_pct": 100 * speed / peak,
            "copy_gb_per_s": copy_ceiling(),
            "sm_mhz": now.sm_mhz,
            "power_w": now.power_w,
            "throttled": now.throttled,
        }
    return row


def measure(
    files: dict[str, Files],
    device: str,
    shapes: list[InputShape],
    ways: list[Way],
    results: ResultRows,
) -> None:
    """Add the rows of all ways, and a note for every failure.

    Args:
        files: Of each net.
        device: "cuda" or "cpu".
        shapes: Q and batch.
        ways: What is measured.
        results: Gets the rows.
    """
    exact = {arch: eager("fp32")(files[arch], device) for arch in files}
    # Float32 scores at every shape are computed once
    reference = cache(lambda arch, shape: exact[arch](images_of(shape)).score_map)
    for way in ways:
        for arch in [arch for arch in way.archs if arch in files]:
            runtime = None
            try:
                runtime = way.open(files[arch], device)
                for shape in filter(way.cells, shapes):
                    expected = reference(arch, shape)
                    with searching(way.search):
                        results.add(measured(way, runtime, arch, shape, expected))
                    print("measured:", json.dumps(results.rows[-1]), flush=True)
            except Exception as error:  # one way that fails must not lose the others
                first = (str(error).strip().splitlines() or [""])[0][:300]
                what = f"{arch} {way.name} {way.precision}: {type(error).__name__}: {first}"
                results.note(f"- not measured: {what}")
                print("failed:", what, flush=True)
            del runtime
            gc.collect()
            if device == "cuda":
                torch.cuda.empty_cache()


def files_of(arch: str, width: float, folder: Path, exported: bool) -> Files:
    """Weights and, if wanted, exported files in this folder; existing ones are used."""
    weights = random_weights(NetSpec(arch, numbered(1000), width=width), folder)
    if not exported:
        return Files(weights, {})
    precisions = ("fp32", "fp16")
    paths = exports(weights, folder, ExportOptions(precisions))
    return Files(weights, dict(zip(precisions, paths, strict=True)))


TABLE = {
    "net": "net",
    "way": "way",
    "type": "precision",
    "Q": "q_px",
    "batch": "batch",
    "device ms": "device_ms:.2f",
    "device images/s": "device_images_per_s:.0f",
    "TFLOP/s": "device_tflop_per_s:.0f",
    "% of matmul peak": "of_matmul_pct:.0f",
    "end to end ms": "end_to_end_ms:.2f",
    "end to end images/s": "end_to_end_images_per_s:.0f",
    "first call ms": "first_ms:.0f",
    "score difference": "score_difference:.1e",
}


@click.command(context_settings={"show_default": True})
@click.option("--archs", default="D,A", help="Nets, comma-separated.")
@click.option("--sides", default="256,384,512", help="Q, pixels.")
@click.option("--batches", default="1,8,32", help="Images per call.")
@click.option("--width", default=1.0, help="Multiplier of all channels; below 1 for rehearsals.")
@click.option("--device", default="cuda", type=click.Choice(("cuda", "cpu")))
@click.option("--ways", help="Only ways whose name starts with one of these, semicolons between.")
@click.option(
    "--kept",
    type=click.Path(path_type=Path),
    help="Folder of weights and exports, for the next run.  [default: a temporary one]",
)
@click.option("--prepare", is_flag=True, help="Only write weights and exports into --kept.")
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(
    archs: str,
    sides: str,
    batches: str,
    width: float,
    device: str,
    ways: str | None,
    kept: Path | None,
    prepare: bool,
    out: Path,
) -> None:
    """Write gpu_speed_DEVICE.csv and .md."""
    shapes = [(int(side), int(batch)) for side in sides.split(",") for batch in batches.split(",")]
    shapes.sort(key=lambda shape: -shape[1])  # the largest batches first
    torch.backends.cudnn.allow_tf32 = False
    warnings.filterwarnings("ignore", message=".*TensorFloat32.*")
    if prepare and kept is None:
        raise click.UsageError("--prepare needs --kept, the folder to write into")
    with tempfile.TemporaryDirectory() as scratch:
        starts = tuple(ways.split(";")) if ways else ("",)
        chosen = [way for way in WAYS if way.name.startswith(starts)]
        exported = any(way.name.startswith("ONNX") for way in chosen)
        folder = kept or Path(scratch)
        files = {arch: files_of(arch, width, folder, exported) for arch in archs.split(",")}
        if prepare:
            return
        if device == "cpu":
            chosen = [way for way in chosen if not way.name.startswith("CUDA graphs")]
        card = torch.cuda.get_device_name() if device == "cuda" else "the CPU"
        results = ResultRows(
            out / f"gpu_speed_{device}.csv", f"Inference of {archs} on {card}", TABLE
        )
        measure(files, device, shapes, chosen, results)
    results.note(f"\n{environment_block(available_cores())}".rstrip())
    print(results.markdown())


if __name__ == "__main__":
    main()
