"""A whole benchmark: models and data in, records and raw times out."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bench.accuracy import AccuracyRow, accuracy_rows
from bench.cells import measure_cells
from bench.latency import LONGEST_S, LatencyRow, measure_latency
from vgg_deploy.data import Dataset, labels_for
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.progress import progress
from vgg_deploy.runtimes import Runtime, open_runtime


@dataclass(frozen=True)
class Model:
    """An opened file and how the tables call it."""

    path: Path
    name: str
    runtime: Runtime

    @property
    def described(self) -> dict:
        """The columns that every row of this model begins with."""
        return {"model": self.name, "runtime": self.runtime.runtime, "precision": self.runtime.precision}


def open_models(paths: list[Path], device: str, threads: int) -> list[Model]:
    """Open every file.

    Raises: InputError for a file that is no model, or models that want differently rescaled pictures.
    """
    short = [path.name for path in paths]
    names = [path.name if short.count(path.name) == 1 else str(path) for path in paths]
    models = [Model(path, name, open_runtime(path, device, threads)) for path, name in zip(paths, names, strict=True)]
    first = models[0].runtime.spec.preprocessing
    for model in models[1:]:
        filter = model.runtime.spec.preprocessing.filter
        if filter != first.filter:
            raise InputError(
                f"{model.path}: wants pictures rescaled by {filter}, {models[0].path} by {first.filter}; "
                "rows of one table share their pictures, bench them apart"
            )
    return models


def check_sides(models: list[Model], sides: tuple[int, ...]) -> None:
    """Raises: InputError for a Q below a model's crop, where the score map is empty."""
    for model in models:
        crop = model.runtime.spec.crop
        if min(sides) < crop:
            raise InputError(f"--scales {min(sides)}: below the crop {crop} of {model.path}, so no window fits; the smallest Q is {crop}")


def measure_accuracy(
    models: list[Model], dataset: Dataset, sides: tuple[int, ...], flips: bool, batch: int, threads: int, on_error: str
) -> tuple[list[AccuracyRow], list[str]]:
    """Dense evaluation of every model at every Q.

    Returns: the rows, and what was wrong with images left out.
    Raises: CheckFailed if a model gives NaN or infinite posteriors.
    """
    labels = [labels_for(dataset, model.runtime.spec, str(model.path)) for model in models]
    measured = measure_cells([model.runtime for model in models], dataset, sides, flips, batch, threads, on_error)
    for cell, posteriors in measured.cells.items():
        if not np.isfinite(posteriors).all():
            bad = measured.kept[~np.isfinite(posteriors).all(axis=1)]
            raise CheckFailed(
                f"{models[cell.model].path} at Q={cell.side}: NaN or infinite posteriors on {len(bad)} of {len(posteriors)} images, "
                f"the first is {dataset.files[bad[0]]}; the file overflows or is damaged"
            )
    described = [model.described for model in models]
    return accuracy_rows(described, measured, [every[measured.kept] for every in labels]), measured.skipped


def measure_latencies(
    models: list[Model], sides: tuple[int, ...], batches: tuple[int, ...], warn: Callable[[str], None]
) -> tuple[list[LatencyRow], pd.DataFrame]:
    """Every model at every Q x Q and batch size.

    Returns: the rows, and every counted time (columns: row, run, ms).
    """
    rows, samples = [], []
    with progress("latency", len(models) * len(sides) * len(batches)) as bar:
        for model in models:
            for side in sides:
                for batch in batches:
                    row, ms = measure_latency(model.runtime, model.described, side, batch)
                    samples.append(pd.DataFrame({"row": len(rows), "run": np.arange(len(ms)), "ms": ms}))
                    rows.append(row)
                    bar.advance(1, f"{model.name} {side} x {side} batch {batch}")
                    if row.median_interval_pct > 10:
                        warn(
                            f"{model.name} at {side} x {side}, batch {batch}: after {row.runs} calls and up to {LONGEST_S:.0f} s the median is "
                            f"known to {row.median_interval_pct:.0f} % only; close other programs and run again"
                        )
    return rows, pd.concat(samples, ignore_index=True)
