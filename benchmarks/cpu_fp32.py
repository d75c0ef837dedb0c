"""Compares ncnn with ONNX Runtime at float32 on the CPU, and what computes in bfloat16 there.

    python benchmarks/cpu_fp32.py

Full-width D, the same weights, in turn (A B C A B C) at each size: medians, the rounds' ratios
to ONNX Runtime in float32 with their interval, processor time beside wall time (a busy machine
disturbs it less), and the difference of the scores. Loading time and memory are measured in
processes of their own. With --data also the best classes of the validation photos at each Q. On a
machine with other users set OMP_WAIT_POLICY=passive: while ncnn's OpenMP threads wait, they spin on
cores that others use. A long run can be split: --work keeps the nets, --append keeps the rows of
other sizes.
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
from models import exports, ncnn_export, random_weights
from peers.memory import peak_mib
from result_tables import environment_block, markdown_table, write_csv
from timing import time_in_turn

from bench.statistics.median import median_interval
from export.release import ExportOptions
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.errors import InputError
from vgg_deploy.exported.metadata import weights_path
from vgg_deploy.files import write_text
from vgg_deploy.images.decode import rescale
from vgg_deploy.machine import available_cores
from vgg_deploy.net.spec import NetSpec, numbered
from vgg_deploy.runtimes import Runtime, open_runtime

PAUSE_S = 0.2  # before a call: ONNX Runtime's threads spin for up to 0.1 s after theirs
LARGEST = (8, 512, 512)  # batch, height, width at which memory is measured
WAYS = {"ncnn": "ncnn", "ncnn-bf16": "ncnn", "openvino-bf16": "onnx"}  # runtime -> file
PLACE = ["height_px", "width_px", "batch"]  # columns that say where a row belongs


@dataclass(frozen=True)
class Turn:
    """A runtime against ONNX Runtime at one size; field names are the columns of cpu_fp32.csv."""

    height_px: int
    width_px: int
    batch: int
    runtime: str
    rounds: int
    onnxruntime_ms: float  # medians
    runtime_ms: float
    onnxruntime_images_per_s: float
    images_per_s: float
    speedup: float  # median of the rounds' ratios
    speedup_low: float  # 95 % interval of this median; missing for fewer than 6 rounds
    speedup_high: float
    cpu_speedup: float  # the same ratio of processor seconds
    score_difference: float  # largest, as a part of the largest score
    posterior_difference: float


def measure_turns(
    reference: Runtime, others: dict[str, Runtime], batch: int, height: int, width: int, rounds: int
) -> list[Turn]:
    """Compare runtimes at one size.

    Args:
        reference: ONNX Runtime.
        others: By name.
        batch: Images per call.
        height: Of the images, pixels.
        width: Of the images, pixels.
        rounds: Calls of each, after one warm-up call each.
    """
    images = np.random.default_rng(0).integers(0, 256, (batch, 3, height, width), np.uint8)
    expected = reference(images)
    scores = {name: other(images) for name, other in others.items()}
    calls = [lambda _, runtime=r: runtime(images) for r in (reference, *others.values())]
    seconds = time_in_turn(calls, rounds, pause_s=PAUSE_S)
    reference_s, largest = float(np.median(seconds[:, 0, 0])), np.abs(expected.score_map).max()
    turns = []
    for i, (name, found) in enumerate(scores.items(), 1):
        ratios = seconds[:, 0] / seconds[:, i]
        median_s = float(np.median(seconds[:, i, 0]))
        low, high = median_interval(ratios[:, 0])
        difference = np.abs(found.score_map - expected.score_map).max()
        turns.append(
            Turn(
                height,
                width,
                batch,
                name,
                rounds,
                onnxruntime_ms=1000 * reference_s,
                runtime_ms=1000 * median_s,
                onnxruntime_images_per_s=batch / reference_s,
                images_per_s=batch / median_s,
                speedup=float(np.median(ratios[:, 0])),
                speedup_low=low,
                speedup_high=high,
                cpu_speedup=float(np.median(ratios[:, 1])),
                score_difference=float(difference / largest),
                posterior_difference=float(np.abs(found.posterior - expected.posterior).max()),
            )
        )
    return turns


def open_others(files: dict[str, Path], names: list[str], threads: int) -> dict[str, Runtime]:
    """The runtimes that are here; those that are not are named in a line."""
    found = {}
    for name in names:
        try:
            found[name] = open_runtime(files[WAYS[name]], threads=threads, runtime=name)
        except InputError as error:
            print(f"Left out: {name} ({error.message})")
    return found


def loading_cost(path: Path, runtime: str, threads: int) -> tuple[float, float, float, float]:
    """Cost of loading a file in this process.

    Returns:
        Seconds to load, and the peak memory in MiB before it, after it, and after a batch of
        LARGEST.
    """
    before = peak_mib()
    start = time.perf_counter()
    opened = open_runtime(path, threads=threads, runtime=runtime)
    seconds = time.perf_counter() - start
    loaded = peak_mib()
    batch, height, width = LARGEST
    opened(np.zeros((batch, 3, height, width), np.uint8))
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


def text_table(table: pd.DataFrame) -> str:
    """A table in Markdown."""
    rows = [[short(value) for value in row] for row in table.itertuples(index=False)]
    return markdown_table(list(table.columns), rows)


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
@click.option("--runtimes", default=",".join(WAYS), help="Beside ONNX Runtime, comma-separated.")
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    help="Folder that keeps the files.  [default: a temporary one]",
)
@click.option(
    "--append",
    is_flag=True,
    help="Keep the rows of other sizes and batches in --out; load times and memory too.",
)
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
    runtimes: str,
    work: Path | None,
    append: bool,
    data: str | None,
    threads: int | None,
    out: Path,
) -> None:
    """Write cpu_fp32.csv and cpu_fp32.md."""
    shapes = [tuple(map(int, size.split("x"))) for size in sizes.split(",")]
    threads = threads or available_cores()
    agreements: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = work or Path(scratch)
        spec = NetSpec("D", numbered(1000), width=width)
        source = weights or random_weights(spec, folder)
        (path,) = exports(source, folder, ExportOptions(("fp32",)))
        files = {"onnx": path, "ncnn": ncnn_export(path)}
        reference = open_runtime(path, threads=threads)
        others = open_others(files, runtimes.split(","), threads)
        turns: list[Turn] = []
        for height, width_px in shapes:
            for batch in map(int, batches.split(",")):
                turns += measure_turns(reference, others, batch, height, width_px, rounds)
                print(*turns[-len(others) :], sep="\n", flush=True)
        if data:
            for side in sorted({min(shape) for shape in shapes}):
                agreements.append(agreement(reference, others["ncnn"], Path(data), side))
        ways = {"onnxruntime": path} | {name: files[WAYS[name]] for name in others}
        del reference, others
        table = pd.DataFrame([asdict(turn) for turn in turns])
        if append:
            table = joined(pd.read_csv(out / "cpu_fp32.csv"), table)
            costs = pd.read_csv(out / "cpu_fp32_memory.csv")
        else:
            costs = pd.DataFrame(loading_costs(ways, threads))
    write_csv(table, out / "cpu_fp32.csv")
    write_csv(costs, out / "cpu_fp32_memory.csv")
    parts = [
        f"# VGG-D on the CPU against ONNX Runtime in float32\n\n{text_table(table)}",
        f"Loading and memory (one process each)\n\n{text_table(costs)}",
    ]
    if agreements:
        parts.append(f"Photos\n\n{text_table(pd.DataFrame(agreements))}")
    write_text(out / "cpu_fp32.md", "\n".join([*parts, environment_block(threads)]))
    print(text_table(costs))


def joined(earlier: pd.DataFrame, now: pd.DataFrame) -> pd.DataFrame:
    """The rows of two runs, in order; where both have a size and a batch, those of the second."""
    measured = set(now[PLACE].itertuples(index=False, name=None))
    kept = [place not in measured for place in earlier[PLACE].itertuples(index=False, name=None)]
    return pd.concat([earlier[kept], now]).sort_values(PLACE, kind="stable", ignore_index=True)


def loading_costs(ways: dict[str, Path], threads: int) -> list[dict[str, float | str]]:
    """One row per runtime, each from a process of its own."""
    costs: list[dict[str, float | str]] = []
    for name, path in ways.items():
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            seconds, before, loaded, after = pool.apply(loading_cost, (path, name, threads))
        weights = weights_path(path) if path.suffix == ".param" else path
        weights_mib = weights.stat().st_size / 2**20
        costs.append(
            {
                "runtime": name,
                "load_s": seconds,
                "peak_mib_before": before,
                "peak_mib_loaded": loaded,
                f"peak_mib_after_{'_'.join(map(str, LARGEST))}": after,
                "float32_weights_mib": weights_mib,
                "more_than_before_as_part_of_weights": (after - before) / weights_mib,
            }
        )
    return costs


if __name__ == "__main__":
    main()
