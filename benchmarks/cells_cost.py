"""What stored cells save, and what the bench adds to the bare runtime: python benchmarks/cells_cost.py

1. Table 5 with single scales: dense, multi-crop and both at three scales, with flips. All cells at once against each row
   on its own, in forward passes (pictures through the net) and seconds; a thin D, for the ratio does not depend on width.
2. Dense evaluation of a full-width D from image files to stored posteriors, against the bare runtime on the very same
   batches already in memory; alternating, so that both see the same machine.
"""

import json
import resource
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import pandas as pd
import torch

from bench.accuracy.measure import measure_accuracy
from bench.accuracy.protocols import rows_of
from bench.accuracy.settings import Scoring, Storage
from bench.models.model import Model, ModelOptions, open_models
from bench.results.environment import describe_environment
from export.release import ExportOptions, export_onnx
from vgg_deploy.data.built_in import built_in
from vgg_deploy.data.dataset import Dataset, open_dataset
from vgg_deploy.data.decode_pool import Scale
from vgg_deploy.data.size_batches import size_batches
from vgg_deploy.machine import available_cores
from vgg_deploy.net.checkpoint import Checkpoint, save_checkpoint
from vgg_deploy.net.model import VGG, initialise
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


def random_net(dataset: Dataset, width: float, path: Path) -> Path:
    spec = NetSpec("D", dataset.classes, width=width)
    net = VGG(spec)
    initialise(net, "he", torch.Generator().manual_seed(0))
    save_checkpoint(path, Checkpoint(spec, net.state_dict()))
    return export_onnx(
        path, path.parent, ExportOptions(("fp32",)), None, available_cores(), lambda text: None
    )[0].path


def cells_against_rows(model: Model, dataset: Dataset, threads: int, folder: Path) -> list[Result]:
    """All rows from one set of cells, and each row from cells of its own."""
    rows = [row for row in rows_of((0,), [model.runtime.spec], PROTOCOLS, SIDES, True) if row.flips]

    def run(chosen, name):
        begun = time.perf_counter()
        scoring = Scoring(Storage(folder / name, "float32"), 16, threads, "stop")
        measured = measure_accuracy([model], chosen, dataset, scoring)
        return measured.measured.scored, time.perf_counter() - begun

    together = run(rows, "together")
    alone = [run([row], f"row{i}") for i, row in enumerate(rows)]
    passes, seconds = (sum(one[i] for one in alone) for i in range(2))
    return [
        Result(
            f"{len(rows)} rows, {len(dataset)} images: forward passes",
            together[0],
            passes,
            "pictures",
            passes / together[0],
        ),
        Result(
            f"{len(rows)} rows, {len(dataset)} images: time",
            together[1],
            seconds,
            "s",
            seconds / together[1],
        ),
    ]


def bench_against_bare(
    model: Model, dataset: Dataset, side: int, threads: int, repeats: int, folder: Path
) -> Result:
    """Images a second from files to stored posteriors, and of the runtime alone."""
    scale = Scale(side, model.runtime.spec.preprocessing.filter)
    batches = list(size_batches(dataset, {scale: np.ones(len(dataset), bool)}, 16, threads))
    rows = rows_of((0,), [model.runtime.spec], ("dense",), (side,), False)
    for batch in batches:  # first runs of every shape
        model.runtime(batch.images)
    ours, bare = [], []
    for i in range(repeats):
        begun = time.perf_counter()
        for batch in batches:
            model.runtime(np.ascontiguousarray(batch.images))
        bare.append(len(dataset) / (time.perf_counter() - begun))
        begun = time.perf_counter()
        storage = Storage(folder / f"bare{side}-{i}", "float32")
        measure_accuracy([model], rows, dataset, Scoring(storage, 16, threads, "stop"))
        ours.append(len(dataset) / (time.perf_counter() - begun))
    ratios = np.array(ours) / np.array(bare)
    what = f"dense Q {side}, {len(dataset)} images in {len(batches)} batches: throughput"
    return Result(
        what,
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
    help="Folder with val/<class>/*; without it built-in pictures.",
)
@click.option("--images", default=48, help="Of part 2; part 1 takes a quarter.")
@click.option("--repeats", default=3)
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(data, images, repeats, out):
    threads = available_cores()
    dataset = open_dataset(data, "val").subset(images) if data else built_in("val", images)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name in ("thin", "full"):
            (folder / name).mkdir()
        (thin,) = open_models(
            [random_net(dataset, 1 / 8, folder / "thin" / "D.pt")], ModelOptions(threads=threads)
        )
        results = cells_against_rows(thin, dataset.subset(max(1, images // 4)), threads, folder)
        (full,) = open_models(
            [random_net(dataset, 1, folder / "full" / "D.pt")], ModelOptions(threads=threads)
        )
        results += [
            bench_against_bare(full, dataset, side, threads, repeats, folder) for side in SIDES[:2]
        ]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    table = pd.DataFrame([asdict(r) for r in results])
    environment = describe_environment(threads)
    out.mkdir(parents=True, exist_ok=True)
    table.to_csv(out / "cells_cost.csv", index=False)
    text = "\n".join(
        f"| {r.what} | {r.ours:.2f} | {r.other:.2f} | {r.unit} | {r.ratio:.3f} | {r.spread} |"
        for r in results
    )
    head = "| what | bench | rows alone, or bare runtime | unit | ratio | of repeats |\n| --- | --- | --- | --- | --- | --- |\n"
    (out / "cells_cost.md").write_text(
        f"# Cost of the bench\n\n{head}{text}\n\nPeak memory of the whole script, full-width D loaded and exported: {peak:.0f} MiB.\n\n"
        f"```json\n{json.dumps(environment, indent=2)}\n```\n"
    )
    print((out / "cells_cost.md").read_text())


if __name__ == "__main__":
    main()
