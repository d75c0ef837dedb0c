"""Accuracy and gates from Python: `vgg_deploy.evaluate` and `vgg_deploy.check`.

They measure as vgg-bench does, with the same stored scores, and return tables instead of files.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import pandas as pd

from bench.accuracy.compare import Comparison
from bench.accuracy.measure import Accuracy, accuracy_of, score_cells
from bench.accuracy.paper_tables import fill_tables
from bench.accuracy.predicted import predictions
from bench.accuracy.protocols import Row
from bench.accuracy.selection import select_rows
from bench.accuracy.settings import Scoring, Storage
from bench.gate.gate_limits import GateLimits
from bench.gate.judge import Judge, judge
from bench.gate.method import FIXED
from bench.gate.row_choice import check_selectors, chosen_rows
from bench.gate.until_decided import images_left_out
from bench.gate.verdict import Gate
from bench.models.model import Model, OpenedFile, check_sides, named_models
from bench.report.tables import frame
from vgg_deploy.data.class_labels import matching
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.open_data import open_data
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.impossible_names import impossible_names_refused
from vgg_deploy.machine import available_cores
from vgg_deploy.name_frames import named_frame
from vgg_deploy.predict.model import Model as LoadedModel
from vgg_deploy.predict.model import load
from vgg_deploy.printable import printable
from vgg_deploy.progress import console
from vgg_deploy.statistics.evidence import Verdict

OneModel: TypeAlias = LoadedModel | str | os.PathLike[str]
Data: TypeAlias = Dataset | str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a data set shows about some models; every table has the columns of its CSV file."""

    measured: Accuracy

    @cached_property
    def accuracy(self) -> pd.DataFrame:
        """One row per model, protocol and scale, see accuracy.csv."""
        return frame([scored.record for scored in self.measured.scored])

    @cached_property
    def comparisons(self) -> pd.DataFrame:
        """Every row beside the first model's, see comparisons.csv; empty for one model."""
        rows = [pair.comparison for pair in self.measured.pairs]
        return frame(rows) if rows else pd.DataFrame(columns=[f.name for f in fields(Comparison)])

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """The best class of every image by every row, see predictions.csv."""
        measured = self.measured
        parts = [
            part
            for scored in measured.scored
            for part in predictions(scored, measured.files, measured.classes)
        ]
        return pd.concat(parts, ignore_index=True)

    def paper_tables(self) -> pd.DataFrame:
        """Tables 3 to 7 of the paper with the measured rows in them, see paper_tables.csv.

        A row is filled if it was measured: dense, multicrop and multicrop+dense with flips at the
        scales of each net's S, which are those of `evaluate` without `scales`.
        """
        records = {scored.row: scored.record for scored in self.measured.scored}
        tables = fill_tables(self.measured.models, records)
        return pd.concat(
            [table.assign(table=number) for number, table in tables.items()], ignore_index=True
        )


@dataclass(frozen=True, eq=False)
class GateResult:
    """The verdict of a gate; true only if it passed."""

    gate: Gate
    evaluation: Evaluation

    def __bool__(self) -> bool:
        return self.gate.verdict == Verdict.PASS

    @property
    def verdict(self) -> str:
        """One of "pass", "fail", "undecided"."""
        return self.gate.verdict.value

    @property
    def failures(self) -> list[str]:
        """One sentence per failed check."""
        return [check.message for check in self.gate.checks if check.verdict == Verdict.FAIL]

    @property
    def undecided(self) -> list[str]:
        """One sentence per check that more images would decide."""
        return [check.message for check in self.gate.checks if check.verdict == Verdict.UNDECIDED]

    @property
    def checks(self) -> pd.DataFrame:
        """One row per check; columns are the keys of gate.json."""
        return named_frame([asdict(check) for check in self.gate.checks])


@impossible_names_refused()
def evaluate(
    models: OneModel | Sequence[OneModel],
    data: Data,
    *,
    protocols: str | Sequence[str] = ("dense",),
    scales: int | Sequence[int] | None = None,
    flips: bool = True,
    cells: str | os.PathLike[str] | None = "cells",
    batch: int = 16,
    threads: int | None = None,
    on_error: str = "stop",
) -> Evaluation:
    """Measure the accuracy of models on a data set.

    Args:
        models: Files or opened models; the first is the reference of comparisons.
        data: A data set, or where it lies.
        protocols: Names of ways to test, such as "dense" or "multicrop".
        scales: Q in pixels: each alone, and all together. None takes them from each net's S.
        flips: Whether rows with mirror images are measured too.
        cells: Folder of stored scores, which later calls and vgg-bench use again; None to keep
            none.
        batch: Most views per call of a net.
        threads: Of the CPU, and decoding processes; None for all cores that this process may use.
        on_error: "stop" or "skip" at unreadable images.

    Raises:
        InputError: For models, data or settings that cannot be used.
        CheckFailed: For a model with invalid posteriors.
    """
    run = _Run.of(models, data, protocols, scales, flips, threads, on_error)
    accuracy = run.measure(cells, batch, threads)
    if accuracy.broken:
        raise CheckFailed(accuracy.faults[0].what)
    return Evaluation(accuracy)


@impossible_names_refused()
def check(
    reference: OneModel,
    others: OneModel | Sequence[OneModel],
    data: Data,
    *,
    max_top1_drop: float | None = None,
    max_top5_drop: float | None = None,
    min_agreement: float | None = None,
    max_top1_error: float | None = None,
    max_posterior_difference: float | None = None,
    max_left_out: int | None = None,
    rows: Sequence[str] = (),
    protocols: str | Sequence[str] = ("dense",),
    scales: int | Sequence[int] | None = None,
    flips: bool = True,
    cells: str | os.PathLike[str] | None = "cells",
    batch: int = 16,
    threads: int | None = None,
    on_error: str = "stop",
) -> GateResult:
    """Judge models against a reference, as the gate of vgg-bench does.

    Args:
        reference: The model that the others are compared with.
        others: One or several models.
        data: A data set, or where it lies. Images without labels suffice for `min_agreement` and
            `max_posterior_difference`.
        max_top1_drop: Largest loss of top-1 accuracy, percentage points.
        max_top5_drop: The same for top-5.
        min_agreement: Smallest share of images with the reference's best class, per cent.
        max_top1_error: Highest top-1 error of every model, the reference too, per cent.
        max_posterior_difference: Largest difference of any posterior, 0 to 1.
        max_left_out: How many images may be unreadable; None for none.
        rows: Words that choose the rows to judge, such as "dense 256 flips"; all rows without.
        protocols: As in `evaluate`; the following too.
        scales: As in `evaluate`.
        flips: As in `evaluate`.
        cells: As in `evaluate`.
        batch: As in `evaluate`.
        threads: As in `evaluate`.
        on_error: As in `evaluate`.

    Returns:
        The verdict. Too few images give "undecided", which is not true.

    Raises:
        InputError: For models, data, limits or settings that cannot be used.
    """
    limits = GateLimits(
        top1_drop=_within("max_top1_drop", max_top1_drop, 100),
        top5_drop=_within("max_top5_drop", max_top5_drop, 100),
        agreement=_within("min_agreement", min_agreement, 100),
        top1_error=_within("max_top1_error", max_top1_error, 100),
        posterior_difference=_within("max_posterior_difference", max_posterior_difference, 1),
        left_out=max_left_out,
    )
    if not limits:
        raise InputError("nothing is limited, so nothing can fail; give max_top1_drop=0.5, say")
    several = [reference, *_listed(others)]
    run = _Run.of(several, data, protocols, scales, flips, threads, on_error)
    if limits.needs_labels and not run.dataset.labelled:
        raise InputError(
            f"{run.dataset.root}: these images have no labels, and a limit on accuracy needs them",
            "use min_agreement or max_posterior_difference",
        )
    check_selectors(run.models, run.rows, tuple(rows))
    accuracy = run.measure(cells, batch, threads)
    asked = Judge(limits, chosen_rows(run.rows, tuple(rows)), "float32", FIXED)
    left_out = images_left_out(run.dataset, accuracy.measured)
    return GateResult(judge(asked, accuracy, left_out), Evaluation(accuracy))


@dataclass(frozen=True, eq=False)
class _Run:
    """What is measured, opened and checked."""

    models: list[Model]
    rows: list[Row]
    dataset: Dataset
    on_error: str

    @classmethod
    def of(
        cls,
        models: OneModel | Sequence[OneModel],
        data: Data,
        protocols: str | Sequence[str],
        scales: int | Sequence[int] | None,
        flips: bool,
        threads: int | None,
        on_error: str,
    ) -> "_Run":
        """Open models and data."""
        if on_error not in ("stop", "skip"):
            raise InputError(f"on_error {on_error!r} is unknown; choose stop or skip")
        opened = _opened(_listed(models), threads)
        names = protocols if isinstance(protocols, str) else ",".join(protocols)
        sides = (scales,) if isinstance(scales, int) else tuple(sorted(set(scales or ())))
        rows = select_rows(opened, names, sides or None, flips, ())
        if sides:
            check_sides(opened, sides)
        dataset = data if isinstance(data, Dataset) else open_data(data, "val", on_error)
        _note_assumed(opened, dataset)
        return cls(opened, rows, dataset, on_error)

    def measure(
        self, cells: str | os.PathLike[str] | None, batch: int, threads: int | None
    ) -> Accuracy:
        """Score what is not stored yet, and evaluate the rows."""
        if batch < 1:
            raise InputError(f"a batch of {batch} images is empty; use at least 1")
        with _cell_folder(cells) as folder:
            storage = Storage(folder, "float32")
            scoring = Scoring(storage, batch, threads or available_cores(), self.on_error)
            found = score_cells(self.models, self.rows, self.dataset, scoring)
            return accuracy_of(self.models, self.rows, self.dataset, *found)


@contextmanager
def _cell_folder(cells: str | os.PathLike[str] | None) -> Iterator[Path]:
    """The folder of stored scores, or one that is removed afterwards."""
    if cells is not None:
        yield Path(cells)
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _listed(models: OneModel | Sequence[OneModel]) -> list[OneModel]:
    if isinstance(models, LoadedModel | str | os.PathLike):
        return [models]
    if not models:
        raise InputError("no model is named; name at least one")
    return list(models)


def _opened(models: list[OneModel], threads: int | None) -> list[Model]:
    loaded = [
        model if isinstance(model, LoadedModel) else load(model, threads=threads)
        for model in models
    ]
    return named_models(
        [OpenedFile(one.located, one.runtime, one.assumed, one.classes_stated) for one in loaded]
    )


def _note_assumed(models: list[Model], dataset: Dataset) -> None:
    """Print what was assumed about models that do not say it."""
    for model in models:
        if model.assumed:
            for line in model.assumed.lines(
                str(model.path), "load it with stated=StatedInput(...)"
            ):
                console.print(printable(line))
        found = matching(dataset, model.runtime.spec, str(model.path), model.classes_stated)
        if found.assumed:
            how = "load it with classes=... if that is not its order"
            console.print(printable(f"{model.name} {found.assumed}; {how}"))


def _within(name: str, limit: float | None, highest: float) -> float | None:
    if limit is not None and not 0 <= limit <= highest:  # NaN is in no range
        raise InputError(f"{name} {limit} is no limit; give a number from 0 to {highest:g}")
    return limit
