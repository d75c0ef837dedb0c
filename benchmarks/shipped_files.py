"""Compares every file that a net can be shipped as: size, memory, time, and accuracy.

    python benchmarks/shipped_files.py --data imagenet --images 1000 --side 256
        --file "fp32=D.fp32.onnx" --file "fp32, OpenVINO=D.fp32.onnx=openvino" ...

Each --file is NAME=PATH, or NAME=PATH=RUNTIME; the first one is what the others are compared with.
Files of other tools will do if vgg-export wrote what they were made from. Answers are kept in
--answers, by name, and are not computed again. Memory is the peak of a process that opens a file
and answers, less what its libraries took before; times are of one image, all files called in turn.
"""

from functools import partial
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
from result_rows import ResultRows
from result_tables import environment_block
from small_files import accuracy, ratios, size_of
from timing import time_in_turn

from bench.memory.measure import measure_memory
from bench.models.model import Model, ModelOptions, open_models
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.exported.metadata import data_path
from vgg_deploy.images.encoded import resized
from vgg_deploy.machine import available_cores
from vgg_deploy.predict.whole_images import rescales
from vgg_deploy.progress import progress

COLUMNS = {
    "file": "file",
    "runtime": "runtime",
    "MB": "mb:.1f",
    "memory, MiB": "memory_mib:,.0f",
    "top-1 error %": "error_pct:.2f",
    "loss, points": "loss:+.2f",
    "at least": "least:+.2f",
    "at most": "most:+.2f",
    "agrees %": "agrees_pct:.2f",
}
TIMES = {"{} ms": "{}_ms:.1f", "of the first": "{}_ratio:.2f", "from - to": "{}_range"}


class Shipped(NamedTuple):
    """A file and what it is called."""

    name: str
    path: Path
    runtime: str | None


def shipped(text: str) -> Shipped:
    """From NAME=PATH or NAME=PATH=RUNTIME."""
    name, path, *runtime = text.split("=")
    return Shipped(name, Path(path), runtime[0] if runtime else None)


def opened(file: Shipped, threads: int) -> Model:
    """A file, ready to run."""
    runtimes = () if file.runtime is None else (file.runtime,)
    (model,) = open_models([file.path], ModelOptions(threads=threads, runtimes=runtimes))
    return model


def best_classes(model: Model, data: Dataset, side: int, what: str) -> np.ndarray:
    """(images,) the best class of every image, as a number of the data set's."""
    runtime = model.runtime
    order = [data.classes.index(name) for name in runtime.spec.classes]
    best = []
    with progress(what, len(data)) as bar:
        for index in range(len(data)):
            image = data.image(index)
            if not rescales(runtime):
                image = resized(image, side, runtime.spec.preprocessing.filter)
            pixels = np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)[None])
            best.append(order[int(runtime(pixels).posterior[0].argmax())])
            bar.advance(1)
    return np.array(best)


def kept_answers(file: Shipped, folder: Path, data: Dataset, side: int, threads: int) -> np.ndarray:
    """As `best_classes`, from the folder if they are there."""
    path = folder / f"{file.name.replace('/', '_')}.npy"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        np.save(path, best_classes(opened(file, threads), data, side, file.name))
    found: np.ndarray = np.load(path)
    return found


def bytes_of(path: Path) -> int:
    """Of a file and of the weights beside it."""
    beside = (data_path(path), path.with_suffix(".bin"), path.with_suffix(".weights"))
    return path.stat().st_size + sum(other.stat().st_size for other in beside if other.exists())


def memory_of(model: Model, side: int) -> float:
    """Mean peak over processes, MiB, without Python and libraries."""
    (found,) = measure_memory([model], lambda _: (side,), (1,))
    row = found.rows[-1]
    return row.peak_mib - row.libraries_mib


def _answer(model: Model, batch: np.ndarray, number: int) -> None:
    model.runtime(batch)


def times(models: list[Model], size: str, side: int, rounds: int) -> list[dict[str, object]]:
    """Columns of one size; empty where a file rescales to another size."""
    height, width = size_of(size)
    batch = np.random.default_rng(0).integers(0, 256, (1, 3, height, width), np.uint8)
    fits = [not rescales(model.runtime) or min(height, width) == side for model in models]
    called = [model for model, fit in zip(models, fits, strict=True) if fit]
    calls = [partial(_answer, model, batch) for model in called]
    found = iter(ratios(time_in_turn(calls, rounds, warm_up=2)[..., 0]))
    rows: list[dict[str, object]] = []
    for fit in fits:
        if not fit:
            rows.append({})
            continue
        time = next(found)
        rows.append(
            {
                f"{size}_ms": time["ms"],
                f"{size}_ratio": time["ratio"],
                f"{size}_range": f"{time['low']:.2f} - {time['high']:.2f}",
            }
        )
    return rows


@click.command(context_settings={"show_default": True}, help=__doc__)
@click.option("--file", "files", multiple=True, required=True)
@click.option("--data", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--images", default=1000)
@click.option("--side", default=256, help="Q of the accuracy, pixels.")
@click.option("--sizes", default="256,384x512", help="Of the timed images; empty for none.")
@click.option("--rounds", default=21)
@click.option("--answers", default="shipped_answers", type=click.Path(path_type=Path))
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(
    files: tuple[str, ...],
    data: Path,
    images: int,
    side: int,
    sizes: str,
    rounds: int,
    answers: Path,
    out: Path,
) -> None:
    threads, photos = available_cores(), open_dataset(data, "val").subset(images)
    given = [shipped(text) for text in files]
    best = [kept_answers(file, answers, photos, side, threads) for file in given]
    measured = accuracy(best, np.asarray(photos.labels))
    if not sizes:
        return
    models = [opened(file, threads) for file in given]
    columns = dict(COLUMNS)
    timed: list[list[dict[str, object]]] = []
    for size in sizes.split(","):
        columns |= {head.format(size): key.format(size) for head, key in _heads(size)}
        timed.append(times(models, size, side, rounds))
    rows = ResultRows(out / "shipped_files.csv", "One net in every form", columns)
    for number, (file, model, right) in enumerate(zip(given, models, measured, strict=True)):
        row = {
            "file": file.name,
            "runtime": model.runtime.name,
            "mb": bytes_of(file.path) / 1e6,
            "memory_mib": memory_of(model, side),
            **right,
        }
        for size in timed:
            row |= size[number]
        rows.add(row)
    rows.note(
        f"{len(photos)} images of {data.name} at Q {side}, dense, without flips. The loss is "
        f"against {given[0].name}; each bound holds with 95 %. Times are of one image, {threads} "
        f"threads, {rounds} calls in turn; the range is the 95 % bootstrap interval of the ratio "
        "of medians. Memory is the peak of a process, less its libraries; mean of three."
    )
    rows.note(environment_block(threads))
    click.echo(rows.markdown())


def _heads(size: str) -> list[tuple[str, str]]:
    """Heads of one size must not be those of another."""
    return [(head if "{}" in head else f"{head}, {size}", key) for head, key in TIMES.items()]


if __name__ == "__main__":
    main()
