"""Compares small files of a net: size, memory, time, and accuracy.

    python benchmarks/small_files.py D.pt --calibration photos --data imagenet

Memory is the peak of a process that opens a file with ONNX Runtime and answers once. Times are of
one image, all files called in turn; intervals are bootstrapped. Accuracy is of whole images at
--side, dense, against the first precision's file on the same images: the interval is the exact
one-sided bound on either side. A form ending in +low-rank has fc6 and fc7 in the factors of
--low-rank. Files that --files has already are measured as they are.
"""

from functools import partial
from pathlib import Path

import click
import numpy as np
from alone import run_alone
from result_rows import ResultRows
from result_tables import environment_block
from timing import time_in_turn

from export.release import ExportOptions, export_onnx
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.exported.metadata import data_path
from vgg_deploy.images.encoded import resized
from vgg_deploy.machine import available_cores
from vgg_deploy.runtimes import Runtime, open_runtime
from vgg_deploy.runtimes.onnxruntime import OnnxRuntime
from vgg_deploy.statistics.evidence import paired_evidence

COLUMNS = {
    "form": "form",
    "MB": "mb:.1f",
    "size": "size",
    "peak MiB": "peak_mib:,.0f",
    "ms": "ms:.1f",
    "time / first": "ratio:.2f",
    "low": "low:.2f",
    "high": "high:.2f",
    "top-1 error %": "error_pct:.2f",
    "loss, points": "loss:+.2f",
    "at least": "least:+.2f",
    "at most": "most:+.2f",
    "agrees %": "agrees_pct:.2f",
}
LOW_RANK = "+low-rank"  # ends the name of a form
DRAWS = 2000  # of the bootstrap


def size_of(text: str) -> tuple[int, int]:
    """Height and width: "224" is a square, "384x512" is not."""
    height, _, width = text.partition("x")
    return int(height), int(width or height)


def ratios(seconds: np.ndarray) -> list[dict[str, float]]:
    """Median times over the first file's, with 95 % intervals.

    Args:
        seconds: (rounds, files).
    """
    drawn = np.random.default_rng(1).integers(0, len(seconds), (DRAWS, len(seconds)))
    medians = np.median(seconds[drawn], axis=1)
    middle = np.median(seconds, axis=0)
    rows = []
    for index, value in enumerate(middle):
        low, high = np.quantile(medians[:, index] / medians[:, 0], (0.025, 0.975))
        rows.append({"ms": 1000 * value, "ratio": value / middle[0], "low": low, "high": high})
    return rows


def answers(runtime: OnnxRuntime, data: Path, images: int, side: int) -> tuple[np.ndarray, ...]:
    """The best class of every image, and its label."""
    dataset = open_dataset(data, "val").subset(images)
    order = [dataset.classes.index(name) for name in runtime.spec.classes]
    best = []
    for index in range(len(dataset)):
        image = resized(dataset.image(index), side, runtime.spec.preprocessing.filter)
        pixels = np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)[None])
        best.append(order[int(runtime(pixels).posterior[0].argmax())])
    return np.array(best), np.asarray(dataset.labels)


def accuracy(found: list[np.ndarray], labels: np.ndarray) -> list[dict[str, float]]:
    """Errors of all files, and losses against the first.

    Args:
        found: (images,) best classes of each file.
        labels: (images,).
    """
    rows, first = [], found[0] == labels
    for best in found:
        right = best == labels
        lost, won = int((first & ~right).sum()), int((~first & right).sum())
        evidence = paired_evidence(lost, won, len(labels), 0.003)
        rows.append(
            {
                "error_pct": 100 * float((~right).mean()),
                "loss": 100 * evidence.estimate,
                "least": 100 * evidence.low,
                "most": 100 * evidence.high,
                "agrees_pct": 100 * float((best == found[0]).mean()),
            }
        )
    return rows


def _parts(text: str) -> tuple[str, str, str]:
    return text.partition(":")


def _answer(runtime: Runtime, batch: np.ndarray, number: int) -> None:
    runtime(batch)


@click.command(context_settings={"show_default": True})
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option("--calibration", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--calibration-images", default=256)
@click.option("--data", type=click.Path(exists=True, path_type=Path), help="For the accuracy.")
@click.option("--images", default=1000, help="Of --data.")
@click.option("--side", default=256, help="Q of the accuracy, pixels.")
@click.option("--forms", default="fp32,int8-cpu,int4-cpu,fp32+low-rank,int8-cpu+low-rank")
@click.option("--low-rank", "ranks", default="fc6:512,fc7:256")
@click.option("--sizes", default="224,384x512", help="Of the timed images, pixels.")
@click.option("--rounds", default=31)
@click.option("--files", default="small_files", type=click.Path(path_type=Path))
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(
    model: Path,
    calibration: Path,
    calibration_images: int,
    data: Path | None,
    images: int,
    side: int,
    forms: str,
    ranks: str,
    sizes: str,
    rounds: int,
    files: Path,
    out: Path,
) -> None:
    """Write small_files.csv and small_files.md for MODEL, a checkpoint."""
    threads = available_cores()
    names = forms.split(",")
    low_rank = tuple((layer, int(rank)) for layer, _, rank in map(_parts, ranks.split(",")))
    paths = {}
    for name in names:
        precision, factors, _ = name.partition(LOW_RANK)
        folder = files / "low_rank" if factors else files
        path = next(folder.glob(f"*.{precision}.onnx"), None)
        if path is None:
            options = ExportOptions(
                (precision,),
                calibration=calibration,
                calibration_images=calibration_images,
                low_rank=low_rank if factors else (),
            )
            (exported,) = export_onnx(model, folder, options, None, threads, print)
            path = exported.path
        paths[name] = path
    measured: list[dict[str, float]] = [{} for _ in names]
    if data:
        found = []
        for path in paths.values():  # one after the other: all weights need not be in memory
            best, labels = answers(OnnxRuntime(path, threads=threads), data, images, side)
            found.append(best)
        measured = accuracy(found, labels)
    rows = ResultRows(out / "small_files.csv", f"Small files of {model.name}", COLUMNS)
    runtimes = [open_runtime(path, threads=threads) for path in paths.values()]
    for size in sizes.split(","):
        height, width = size_of(size)
        batch = np.random.default_rng(0).integers(0, 256, (1, 3, height, width), np.uint8)
        calls = [partial(_answer, runtime, batch) for runtime in runtimes]
        times = ratios(time_in_turn(calls, rounds, warm_up=2)[..., 0])
        for (name, path), time, right in zip(paths.items(), times, measured, strict=True):
            alone = run_alone("answer_once", path, height, width, threads)
            data_file = data_path(path)
            bytes_of = path.stat().st_size + (data_file.stat().st_size if data_file.exists() else 0)
            rows.add({"form": name, "mb": bytes_of / 1e6, "size": size, **alone, **time, **right})
    rows.note(
        f"`python benchmarks/small_files.py {model.name}`, one image, {threads} threads, {rounds} "
        "calls in turn, 95 % bootstrap interval of the ratio of medians. Peak memory is of a "
        f"process with ONNX Runtime and NumPy alone. Low rank is {ranks}."
    )
    if data:
        rows.note(
            f"Accuracy on {len(labels)} images of {data.name} at Q {side}, dense. The loss is "
            f"against {names[0]}; each bound holds with 95 %."
        )
    rows.note(environment_block(threads))
    print(rows.markdown())


if __name__ == "__main__":
    main()
