"""Measures what stored cells save, and what the bench adds to the bare runtime.

    python benchmarks/cells_cost.py

1. Table 5 with single scales: dense, multi-crop and both at three scales, with flips. All rows from
   one set of cells against each row from cells of its own, in forward passes (images through the
   net) and seconds. The net is a thin D, because the ratio does not depend on the width.
2. Dense evaluation of a full-width D from image files to stored posteriors, against the bare
   runtime on the same batches in memory; in turn, so that both meet the same machine.
"""

import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import pandas as pd
from models import exports, random_weights
from peers.memory import peak_mib
from result_tables import environment_block, markdown_table, write_csv
from timing import time_in_turn

from bench.accuracy.measure import measure_accuracy
from bench.accuracy.protocols import Row, rows_of
from bench.accuracy.settings import Scoring, Storage
from bench.models.model import Model, ModelOptions, open_models
from export.release import ExportOptions
from vgg_deploy.data.built_in import built_in
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.decode_pool import Scale
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.data.size_batches import size_batches
from vgg_deploy.files import write_text
from vgg_deploy.machine import available_cores
from vgg_deploy.net.spec import NetSpec

SIDES = (256, 384, 512)
PROTOCOLS = ("dense", "multicrop", "multicrop+dense")


@dataclass(frozen=True)
class Result:
    """One comparison; field names are the columns of the table."""

    what: str
    ours: float
    other: float
    unit: str
    ratio: float  # other / ours for costs, ours / other for throughput
    spread: str = ""


def open_random_net(dataset: Dataset, width: float, folder: Path, threads: int) -> Model:
    """A D with random weights and the classes of the images, exported and opened."""
    spec = NetSpec("D", dataset.classes, width=width)
    (onnx,) = exports(random_weights(spec, folder), folder, ExportOptions(("fp32",)))
    (model,) = open_models([onnx], ModelOptions(threads=threads))
    return model


def cells_against_rows(model: Model, dataset: Dataset, threads: int, folder: Path) -> list[Result]:
    """All rows from one set of cells, and each row from cells of its own."""
    rows = [row for row in rows_of((0,), [model.runtime.spec], PROTOCOLS, SIDES, True) if row.flips]

    def run(selected: list[Row], name: str) -> tuple[int, float]:
        """Forward passes and seconds."""
        storage = Storage(folder / name, "float32")
        start = time.perf_counter()
        accuracy = measure_accuracy(
            [model], selected, dataset, Scoring(storage, 16, threads, "stop")
        )
        return accuracy.measured.scored, time.perf_counter() - start

    passes, seconds = run(rows, "together")
    alone = [run([row], f"row{i}") for i, row in enumerate(rows)]
    passes_alone = sum(passes for passes, _ in alone)
    seconds_alone = sum(seconds for _, seconds in alone)
    what = f"{len(rows)} rows, {len(dataset)} images"
    return [
        Result(f"{what}: forward passes", passes, passes_alone, "images", passes_alone / passes),
        Result(f"{what}: time", seconds, seconds_alone, "s", seconds_alone / seconds),
    ]


def bench_against_bare(
    model: Model, dataset: Dataset, side: int, threads: int, repeats: int, folder: Path
) -> Result:
    """Images per second from files to stored posteriors, and of the runtime alone."""
    scale = Scale(side, model.runtime.spec.preprocessing.filter)
    batches = list(size_batches(dataset, {scale: np.ones(len(dataset), bool)}, 16, threads))
    rows = rows_of((0,), [model.runtime.spec], ("dense",), (side,), False)
    for batch in batches:  # first runs of every shape
        model.runtime(batch.images)

    def run_bare(_: int) -> None:
        for batch in batches:
            model.runtime(np.ascontiguousarray(batch.images))

    def run_bench(i: int) -> None:
        storage = Storage(folder / f"bare{side}-{i}", "float32")
        measure_accuracy([model], rows, dataset, Scoring(storage, 16, threads, "stop"))

    seconds = time_in_turn([run_bare, run_bench], repeats)[:, :, 0]
    bare, ours = (len(dataset) / seconds).T
    ratios = ours / bare
    return Result(
        f"dense Q {side}, {len(dataset)} images in {len(batches)} batches: throughput",
        float(np.median(ours)),
        float(np.median(bare)),
        "images/s",
        float(np.median(ratios)),
        f"{ratios.min():.3f}-{ratios.max():.3f}",
    )


@click.command(context_settings={"show_default": True})
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder with val/<class>/*; without it built-in images.",
)
@click.option("--images", default=48, help="Of part 2; part 1 takes a quarter.")
@click.option("--repeats", default=3)
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(data: Path | None, images: int, repeats: int, out: Path) -> None:
    """Write cells_cost.csv and cells_cost.md."""
    threads = available_cores()
    dataset = open_dataset(data, "val").subset(images) if data else built_in("val", images)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        thin = open_random_net(dataset, 1 / 8, folder / "thin", threads)
        results = cells_against_rows(thin, dataset.subset(max(1, images // 4)), threads, folder)
        full = open_random_net(dataset, 1, folder / "full", threads)
        results += [
            bench_against_bare(full, dataset, side, threads, repeats, folder) for side in SIDES[:2]
        ]
    write_csv(pd.DataFrame([asdict(r) for r in results]), out / "cells_cost.csv")
    heads = ["what", "bench", "rows alone, or bare runtime", "unit", "ratio", "of repeats"]
    rows = [
        [r.what, f"{r.ours:.2f}", f"{r.other:.2f}", r.unit, f"{r.ratio:.3f}", r.spread]
        for r in results
    ]
    text = (
        f"# Cost of the bench\n\n{markdown_table(heads, rows)}\n"
        "Peak memory of the whole script, with a full-width D loaded and exported: "
        f"{peak_mib():.0f} MiB.\n\n{environment_block(threads)}"
    )
    write_text(out / "cells_cost.md", text)
    print(text)


if __name__ == "__main__":
    main()
