"""Compares ncnn with ONNX Runtime at float32 on the CPU.

    python benchmarks/cpu_fp32.py

Full-width D, the same weights, in turn (A B A B) at each size: medians, the ratios of the rounds
with their interval, processor time beside wall time (a busy machine disturbs it less), and the
difference of the scores. Loading time and memory are measured in processes of their own. With
--data also the best classes of the validation photos at each Q. On a machine with other users set
OMP_WAIT_POLICY=passive: while ncnn's OpenMP threads wait, they spin on cores that others use.
"""

import math
import multiprocessing
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import pandas as pd
from models import ncnn_export, random_weights
from peers.memory import peak_mib
from result_tables import environment_block, markdown_table, write_csv
from timing import time_in_turn

from bench.speed.side_by_side import PAUSE_S
from bench.statistics.median import median_interval
from export.release import ExportOptions, export_onnx
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.files import write_text
from vgg_deploy.images.decode import rescale
from vgg_deploy.machine import available_cores
from vgg_deploy.net.spec import NetSpec, numbered
from vgg_deploy.runtimes import Runtime, open_runtime

LARGEST = (8, 512, 512)  # batch, height, width at which memory is measured


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
    """Compare two runtimes at one size.

    Args:
        reference: ONNX Runtime.
        other: ncnn.
        batch: Images per call.
        height: Of the images, pixels.
        width: Of the images, pixels.
        rounds: Calls of each, after one warm-up call each.
    """
    images = np.random.default_rng(0).integers(0, 256, (batch, 3, height, width), np.uint8)
    expected, scores = reference(images), other(images)
    calls = [lambda _: reference(images), lambda _: other(images)]
    seconds = time_in_turn(calls, rounds, pause_s=PAUSE_S)
    ratios = seconds[:, 0] / seconds[:, 1]
    medians = np.median(seconds[:, :, 0], axis=0)
    onnxruntime_s, ncnn_s = medians.tolist()
    speedup_low, speedup_high = median_interval(ratios[:, 0])
    difference = np.abs(scores.score_map - expected.score_map).max()
    return Turn(
        height,
        width,
        batch,
        rounds,
        onnxruntime_ms=1000 * onnxruntime_s,
        ncnn_ms=1000 * ncnn_s,
        onnxruntime_images_per_s=batch / onnxruntime_s,
        ncnn_images_per_s=batch / ncnn_s,
        speedup=float(np.median(ratios[:, 0])),
        speedup_low=speedup_low,
        speedup_high=speedup_high,
        cpu_speedup=float(np.median(ratios[:, 1])),
        score_difference=float(difference / np.abs(expected.score_map).max()),
        posterior_difference=float(np.abs(scores.posterior - expected.posterior).max()),
    )


def loading_cost(path: Path, threads: int) -> tuple[float, float, float, float]:
    """Cost of loading a file in this process.

    Returns:
        Seconds to load, and the peak memory in MiB before it, after it, and after a batch of
        LARGEST.
    """
    before = peak_mib()
    start = time.perf_counter()
    runtime = open_runtime(path, threads=threads)
    seconds = time.perf_counter() - start
    loaded = peak_mib()
    batch, height, width = LARGEST
    runtime(np.zeros((batch, 3, height, width), np.uint8))
    return seconds, before, loaded, peak_mib()


def agreement(reference: Runtime, other: Runtime, data: Path, side: int) -> dict[str, float]:
    """Compare the best classes of all validation photos at Q = `side`, one photo per call."""
    dataset, same, largest = open_dataset(data, "val"), 0, 0.0
    for i in range(len(dataset)):
        image = rescale(dataset.decode(i), side, reference.spec.preprocessing.filter).numpy()[None]
        expected, posterior = reference(image).posterior, other(image).posterior
        same += int(expected.argmax() == posterior.argmax())
        largest = max(largest, float(np.abs(posterior - expected).max()))
    return {
        "Q": side,
        "photos": len(dataset),
        "best class agrees": same,
        "largest difference of posteriors": largest,
    }


def text_table(records: list[dict[str, float | str]]) -> str:
    """Records as a Markdown table, their keys as heads."""
    rows = [[short(value) for value in record.values()] for record in records]
    return markdown_table(list(records[0]), rows)


def short(value: float | int | str) -> str:
    """A number with three digits, or with all digits before the point; "-" if there is none."""
    if not isinstance(value, float):
        return str(value)
    if math.isnan(value):
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


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
def main(
    weights: Path | None,
    width: float,
    sizes: str,
    batches: str,
    rounds: int,
    data: str | None,
    threads: int | None,
    out: Path,
) -> None:
    """Write cpu_fp32.csv and cpu_fp32.md."""
    shapes = [tuple(map(int, size.split("x"))) for size in sizes.split(",")]
    threads = threads or available_cores()
    agreements: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        spec = NetSpec("D", numbered(1000), width=width)
        source = weights or random_weights(spec, folder)
        (export,) = export_onnx(source, folder, ExportOptions(("fp32",)), None, threads, print)
        files = {"onnxruntime": export.path, "ncnn": ncnn_export(export.path)}
        costs = loading_costs(files, threads)
        reference, other = (open_runtime(path, threads=threads) for path in files.values())
        turns = []
        for height, width_px in shapes:
            for batch in map(int, batches.split(",")):
                turns.append(measure_turn(reference, other, batch, height, width_px, rounds))
                print(turns[-1])
        if data:
            for side in sorted({min(shape) for shape in shapes}):
                agreements.append(agreement(reference, other, Path(data), side))
    rows = [asdict(turn) for turn in turns]
    write_csv(pd.DataFrame(rows), out / "cpu_fp32.csv")
    parts = [
        f"# ncnn against ONNX Runtime, VGG-D in float32 on the CPU\n\n{text_table(rows)}",
        f"Loading and memory (one process each)\n\n{text_table(costs)}",
    ]
    if agreements:
        parts.append(f"Photos\n\n{text_table(agreements)}")
    write_text(out / "cpu_fp32.md", "\n".join([*parts, environment_block(threads)]))
    print(text_table(costs))


def loading_costs(files: dict[str, Path], threads: int) -> list[dict[str, float | str]]:
    """One row per runtime, each from a process of its own."""
    costs = []
    for name, path in files.items():
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            seconds, before, loaded, after = pool.apply(loading_cost, (path, threads))
        costs.append(
            {
                "runtime": name,
                "load s": seconds,
                "peak MiB before": before,
                "loaded": loaded,
                f"after {LARGEST}": after,
            }
        )
    return costs


if __name__ == "__main__":
    main()
