"""Rows of the accuracy table: weighted averages over cells, scored. Arithmetic only; nothing runs a net here."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf, nan

import numpy as np

from bench.accuracy.cell_rows import chunks
from bench.accuracy.fill_cells import Measured
from bench.accuracy.protocols import Row
from bench.accuracy.reliability import expected_calibration_error
from bench.models.model import Model
from vgg_deploy.errors import InputError
from vgg_deploy.scoring import Interval, error_pct, true_class_ranks, wilson_pct


@dataclass(frozen=True)
class AccuracyRow:
    """One protocol of one model or fusion; field names are the columns of accuracy.csv.

    Errors and calibration are NaN, and missing in the CSV, where the images have no labels.
    """

    model: str
    runtime: str
    precision: str
    protocol: str
    scales: str  # Q in pixels, joined by +
    flips: bool
    images: int
    views: int  # pictures scored for one image
    top1_error_pct: float
    top1_low_pct: float  # 95 % interval
    top1_high_pct: float
    top5_error_pct: float
    top5_low_pct: float
    top5_high_pct: float
    ece_pct: float  # expected calibration error, 15 bins
    ms_per_image: float  # in the runtime, as the cells were scored; missing where they are of a run with other threads


@dataclass(frozen=True, eq=False)
class Scored:
    """One row, image by image: what comparisons, calibration and class tables need."""

    row: Row
    record: AccuracyRow
    best: np.ndarray  # (images,) best class, position among `classes` of the run
    confidence: np.ndarray  # (images,) float32, posterior of the best class
    margin: np.ndarray  # (images,) float64, posterior of the best class minus that of the second
    ranks: np.ndarray  # (images,) position of the true class, 0 for the best; (0,) without labels
    labels: np.ndarray  # (images,) true class, as `best`; (0,) without labels

    @property
    def labelled(self) -> bool:
        """Whether the true classes are known."""
        return len(self.labels) == len(self.best)


@dataclass(frozen=True)
class ClassIndex:
    """The classes of all nets by one numbering, since nets may order them differently."""

    ids: tuple[str, ...]
    names: tuple[str, ...]
    of_model: list[np.ndarray]  # each (classes of the net,): position in `ids`

    @classmethod
    def of(cls, per_model: list[tuple[str, ...]], names: list[tuple[str, ...]]) -> "ClassIndex":
        """Args: ids of each net's classes in the order of its scores, and their names."""
        named = {
            id: name
            for ids, given in zip(reversed(per_model), reversed(names), strict=True)
            for id, name in zip(ids, given, strict=True)
        }
        ids = tuple(dict.fromkeys(id for one in per_model for id in one))
        place = {id: i for i, id in enumerate(ids)}
        return cls(
            ids,
            tuple(named[id] for id in ids),
            [np.array([place[id] for id in one]) for one in per_model],
        )


def averaged(
    row: Row, models: list[Model], measured: Measured, classes: ClassIndex
) -> Iterator[tuple[slice, np.ndarray]]:
    """The row's posteriors, some images at a time, so that memory does not grow with the data.

    Yields:
        Positions among the kept images, and (images, classes) float64 posteriors; the columns are
        in the order of the classes of the row's first net.

    Raises:
        InputError: If nets of a fusion have different classes.
    """
    first = row.members[0].model
    order = {m.model: _into_order_of(first, m.model, models, classes) for m in row.members}
    kept = np.flatnonzero(measured.kept)
    for part in chunks(len(kept)):
        total = np.zeros((part.stop - part.start, len(classes.of_model[first])))
        for cell, weight in row.cells():
            held = measured.cells[cell].posteriors
            values = held[part] if len(kept) == len(held) else held[kept[part]]
            columns = order[cell.model]
            total += np.multiply(
                values if columns is None else values[:, columns], weight, dtype=np.float64
            )
        yield part, total


def score_row(
    row: Row, models: list[Model], measured: Measured, labels: np.ndarray, classes: ClassIndex
) -> Scored:
    """Average the row's cells and score them.

    Args:
        row: What is averaged.
        models: The models of the run.
        measured: Posteriors of the row's cells.
        labels: (kept images,) positions in `classes`; (0,) for images without labels.
        classes: The numbering of classes.

    Raises:
        InputError: If nets of a fusion have different classes.
    """
    first = row.members[0].model
    own_place = np.full(len(classes.ids), -1)
    own_place[classes.of_model[first]] = np.arange(len(classes.of_model[first]))
    count = int(measured.kept.sum())
    best, confidence = np.zeros(count, np.int64), np.zeros(count, np.float32)
    margin, found_ranks = np.zeros(count), np.zeros(len(labels), np.int64)
    for part, total in averaged(row, models, measured, classes):
        if len(labels):
            found_ranks[part] = true_class_ranks(total, own_place[labels[part]])
        best[part] = classes.of_model[first][total.argmax(axis=1)]
        confidence[part] = total.max(axis=1)
        margin[part] = _margin(total)
    record = _record(row, models, measured, found_ranks, confidence)
    return Scored(row, record, best, confidence, margin, found_ranks, labels)


def _margin(posteriors: np.ndarray) -> np.ndarray:
    """(images, classes) -> (images,) best minus second; infinite for a single class."""
    if posteriors.shape[1] == 1:
        return np.full(len(posteriors), inf)
    two = np.partition(posteriors, -2, axis=1)[:, -2:]
    return two[:, 1] - two[:, 0]


def _into_order_of(
    first: int, model: int, models: list[Model], classes: ClassIndex
) -> np.ndarray | None:
    """Columns of a net's posteriors in the order of the first net's classes; None where they are in this order."""
    columns = columns_in_order(classes.of_model[first], classes.of_model[model])
    if columns is None:
        raise InputError(
            f"{models[model].path}: has other classes than {models[first].path}; only nets of the same classes can be fused"
        )
    return None if np.array_equal(columns, np.arange(len(columns))) else columns


def columns_in_order(wanted: np.ndarray, held: np.ndarray) -> np.ndarray | None:
    """Where each wanted class stands among the held ones.

    Args:
        wanted: (classes,) positions in the run's numbering, in the order that is wanted.
        held: The same for the columns that are there.

    Returns:
        (classes,) columns, or None if the two are not the same classes.
    """
    if set(wanted) != set(held):
        return None
    column_of = {int(c): column for column, c in enumerate(held)}
    return np.array([column_of[int(c)] for c in wanted], np.int64)


def _record(
    row: Row, models: list[Model], measured: Measured, places: np.ndarray, confidence: np.ndarray
) -> AccuracyRow:
    members = [models[m.model] for m in row.members]
    top1, interval1 = _error(places, 1)
    top5, interval5 = _error(places, 5)
    return AccuracyRow(
        model=" + ".join(m.name for m in members),
        runtime=_joined(m.runtime.name for m in members),
        precision=_joined(m.runtime.precision for m in members),
        protocol=row.protocol,
        scales=row.scales,
        flips=row.flips,
        images=len(confidence),
        views=row.views([m.runtime.spec for m in models]),
        top1_error_pct=top1, top1_low_pct=interval1.low, top1_high_pct=interval1.high,
        top5_error_pct=top5, top5_low_pct=interval5.low, top5_high_pct=interval5.high,
        ece_pct=expected_calibration_error(confidence, places == 0) if len(places) else nan,
        ms_per_image=sum(measured.cells[cell].ms_per_image for cell, _ in row.cells()),
    )  # fmt: skip


def _error(places: np.ndarray, k: int) -> tuple[float, Interval]:
    """Top-k error and its 95 % interval in per cent; NaN without labels."""
    if not len(places):
        return nan, Interval(nan, nan)
    error = error_pct(places, k)
    return error, wilson_pct(error, len(places))


def _joined(words: Iterable[str]) -> str:
    """Once if all are the same."""
    return " + ".join(dict.fromkeys(words))
