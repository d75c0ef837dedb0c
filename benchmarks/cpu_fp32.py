"""ncnn against ONNX Runtime at float32 on the CPU: python benchmarks/cpu_fp32.py

Full-width D, the same weights, in turn (A B A B) at each size: medians, the rounds' ratios with their interval, processor time
beside wall time (which a busy machine disturbs less), scores compared; and in processes of their own loading time and memory.
With --data also the best classes of its validation photos at each Q. Where others use the machine, set OMP_WAIT_POLICY=passive:
ncnn's OpenMP threads spin while they wait, on cores that the others hold.
"""

import json
import math
import multiprocessing
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import pandas as pd
import torch

from bench.results.environment import describe_environment
from bench.speed.side_by_side import PAUSE_S
from bench.statistics.median import median_interval
from export.release import ExportOptions, export_onnx
from export.write_ncnn import export_ncnn
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.images.decode import rescale
from vgg_deploy.machine import available_cores
from vgg_deploy.net.checkpoint import Checkpoint, save_checkpoint
from vgg_deploy.net.model import VGG, initialise
from vgg_deploy.net.spec import NetSpec, numbered
from vgg_deploy.runtimes import Runtime, open_runtime

LARGEST = (8, 512, 512)  # batch, height, width at which memory is told


@dataclass(frozen=True)
class Turn:
    """ncnn against ONNX Runtime at one size; field names are the columns of cpu_fp32.csv."""

    height_px: int
    width_px: int
    batch: int
    rounds: int
    onnxruntime_ms: float  # medians
    ncnn_ms: float
    onnxruntime_images_per_s: float
    ncnn_images_per_s: float
    speedup: float  # median of the rounds' ratios
    speedup_low: float  # 95 % interval of this median; missing for fewer than 6 rounds
    speedup_high: float
    cpu_speedup: float  # the same ratio of processor seconds
    score_difference: float  # largest, as a part of the largest score
    posterior_difference: float


def measure_turn(
    reference: Runtime, other: Runtime, batch: int, height: int, width: int, rounds: int
) -> Turn:
    """One warm-up call each, then `rounds` of both, with a pause before each call as threads of the one before still spin."""
    images = np.random.default_rng(0).integers(0, 256, (batch, 3, height, width), np.uint8)
    wanted, found = reference(images), other(images)
    seconds = np.empty((rounds, 2, 2))  # round, runtime, wall and processor
    for turn in seconds:
        for i, runtime in enumerate((reference, other)):
            time.sleep(PAUSE_S)
            wall, processor = time.perf_counter(), time.process_time()
            runtime(images)
            turn[i] = time.perf_counter() - wall, time.process_time() - processor
    ratios = seconds[:, 0] / seconds[:, 1]
    medians = np.median(seconds[:, :, 0], axis=0)
    return Turn(
        height, width, batch, rounds, *(1000 * medians).tolist(), *(batch / medians).tolist(),
        float(np.median(ratios[:, 0])), *median_interval(ratios[:, 0]),
        float(np.median(ratios[:, 1])),
        float(np.abs(found.score_map - wanted.score_map).max() / np.abs(wanted.score_map).max()),
        float(np.abs(found.posterior - wanted.posterior).max()),
    )  # fmt: skip


def cost(path: Path, threads: int) -> tuple[float, float, float, float]:
    """Seconds to load, and the process's peak MiB before it, after it, and after a batch of LARGEST."""
    peaks = [_peak_mib()]
    begun = time.perf_counter()
    runtime = open_runtime(path, threads=threads)
    seconds = time.perf_counter() - begun
    peaks.append(_peak_mib())
    batch, height, width = LARGEST
    runtime(np.zeros((batch, 3, height, width), np.uint8))
    return seconds, *peaks, _peak_mib()


def _peak_mib() -> float:
    """Of this process alone; getrusage counts what the one before it had."""
    return next(
        int(line.split()[1]) / 1024
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmHWM")
    )


def agreement(reference: Runtime, other: Runtime, data: Path, side: int) -> dict:
    """Best classes of all validation photos at Q = `side`, one photo a call."""
    dataset, same, largest = open_dataset(data, "val"), 0, 0.0
    for i in range(len(dataset)):
        image = rescale(dataset.decode(i), side, reference.spec.preprocessing.filter).numpy()[None]
        wanted, found = reference(image).posterior, other(image).posterior
        same += int(wanted.argmax() == found.argmax())
        largest = max(largest, float(np.abs(found - wanted).max()))
    return {
        "Q": side,
        "photos": len(dataset),
        "best class agrees": same,
        "largest difference of posteriors": largest,
    }


def text_table(rows: list[dict]) -> str:
    """Markdown."""
    shown = [{key: _short(value) for key, value in row.items()} for row in rows]
    lines = [list(shown[0]), ["---:"] * len(shown[0]), *(list(row.values()) for row in shown)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _short(value: float | int | str) -> str:
    """Three digits, and no powers of ten where a number has them before the point."""
    if isinstance(value, float) and math.isnan(value):
        return "-"
    return (
        str(value)
        if not isinstance(value, float)
        else f"{value:.0f}"
        if abs(value) >= 100
        else f"{value:.3g}"
    )


@click.command(context_settings={"show_default": True})
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="A checkpoint.  [default: random weights of D]",
)
@click.option("--width", default=1.0, help="Of random weights.")
@click.option(
    "--sizes",
    default="224x224,256x256,384x384,384x512,512x512",
    help="Height x width, comma-separated.",
)
@click.option("--batches", default="1,8")
@click.option("--rounds", default=15, type=click.IntRange(1))
@click.option(
    "--data",
    type=click.Path(),
    help="Photos whose best classes are compared, at the sizes' shorter sides.",
)
@click.option("--threads", type=click.IntRange(1), help="[default: the cores this process may use]")
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(weights, width, sizes, batches, rounds, data, threads, out):
    sizes = [tuple(map(int, size.split("x"))) for size in sizes.split(",")]
    threads = threads or available_cores()
    with tempfile.TemporaryDirectory() as scratch:
        source = weights or Path(scratch) / "D.pt"
        if not weights:
            net = VGG(NetSpec("D", numbered(1000), width=width))
            initialise(net, "he", torch.Generator().manual_seed(0))
            save_checkpoint(source, Checkpoint(net.spec, net.state_dict()))
            del net
        onnx = export_onnx(source, Path(scratch), ExportOptions(("fp32",)), None, threads, print)[
            0
        ].path
        files = {"onnxruntime": onnx, "ncnn": export_ncnn(onnx, threads, print).path}
        costs = []
        with multiprocessing.get_context("spawn").Pool(
            1, maxtasksperchild=1
        ) as pool:  # a process each, so that peaks are their own
            for name, path in files.items():
                load_s, before, loaded, after = pool.apply(cost, (path, threads))
                costs.append(
                    {
                        "runtime": name,
                        "load s": load_s,
                        "peak MiB before": before,
                        "loaded": loaded,
                        f"after {LARGEST}": after,
                    }
                )
        reference, other = (open_runtime(path, threads=threads) for path in files.values())
        rows = []
        for size in sizes:
            for batch in map(int, batches.split(",")):
                rows.append(measure_turn(reference, other, batch, *size, rounds))
                print(rows[-1])
        agreements = (
            [
                agreement(reference, other, data, side)
                for side in sorted({min(size) for size in sizes})
            ]
            if data
            else []
        )
    out.mkdir(parents=True, exist_ok=True)
    pd.DataFrame([asdict(row) for row in rows]).to_csv(out / "cpu_fp32.csv", index=False)
    described = json.dumps(describe_environment(threads), indent=2)
    titles = (
        "# ncnn against ONNX Runtime, VGG-D in float32 on the CPU",
        "Loading and memory (one process each)",
        "Photos",
    )
    parts = [
        f"{title}\n\n{text_table(table)}"
        for title, table in zip(titles, ([asdict(row) for row in rows], costs, agreements))
        if table
    ]
    (out / "cpu_fp32.md").write_text("\n".join([*parts, f"```json\n{described}\n```\n"]))
    print(text_table(costs))


if __name__ == "__main__":
    main()
