"""Rows of the accuracy table: weighted averages over cells, scored. Arithmetic only; nothing runs a net here."""

from dataclasses import dataclass

import numpy as np

from bench.calibration import expected_calibration_error
from bench.cells import Measured
from bench.models import Model
from bench.protocols import Row
from bench.store import chunks
from vgg_deploy.errors import InputError
from vgg_deploy.scoring import error_pct, ranks, wilson_pct


@dataclass(frozen=True)
class AccuracyRow:
    """One protocol of one model or fusion; field names are the columns of accuracy.csv."""

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
    ranks: np.ndarray  # (images,) position of the true class, 0 for the best
    best: np.ndarray  # (images,) best class, position among `classes` of the run
    labels: np.ndarray  # (images,) true class, alike
    confidence: np.ndarray  # (images,) float32, posterior of the best class


@dataclass(frozen=True)
class ClassIndex:
    """The classes of all nets by one numbering, since nets may order them differently."""

    ids: tuple[str, ...]
    names: tuple[str, ...]
    of_model: list[np.ndarray]  # each (classes of the net,): position in `ids`

    @classmethod
    def of(cls, per_model: list[tuple[str, ...]], names: list[tuple[str, ...]]) -> "ClassIndex":
        """Args: ids of each net's classes in the order of its scores, and their names."""
        named = {id: name for ids, given in zip(reversed(per_model), reversed(names), strict=True) for id, name in zip(ids, given, strict=True)}
        ids = tuple(dict.fromkeys(id for one in per_model for id in one))
        place = {id: i for i, id in enumerate(ids)}
        return cls(ids, tuple(named[id] for id in ids), [np.array([place[id] for id in one]) for one in per_model])


def score_row(row: Row, models: list[Model], measured: Measured, labels: np.ndarray, classes: ClassIndex) -> Scored:
    """Average the row's cells, chunk by chunk, and score them.

    Args: labels, (kept images,) positions in `classes`.
    Raises: InputError if nets of a fusion have different classes.
    """
    first = row.members[0].model
    order = {m.model: _into_order_of(first, m.model, models, classes) for m in row.members}
    count = len(classes.of_model[first])
    own_place = np.full(len(classes.ids), -1)
    own_place[classes.of_model[first]] = np.arange(count)
    kept = np.flatnonzero(measured.kept)
    found_ranks, best, confidence = (np.zeros(len(kept), kind) for kind in (np.int64, np.int64, np.float32))
    for part in chunks(len(kept)):
        total = np.zeros((part.stop - part.start, count))
        for cell, weight in row.cells():
            held = measured.cells[cell].posteriors
            values = held[part] if len(kept) == len(held) else held[kept[part]]
            columns = order[cell.model]
            total += np.multiply(values if columns is None else values[:, columns], weight, dtype=np.float64)
        found_ranks[part] = ranks(total, own_place[labels[part]])
        best[part] = classes.of_model[first][total.argmax(axis=1)]
        confidence[part] = total.max(axis=1)
    return Scored(row, _record(row, models, measured, found_ranks, confidence), found_ranks, best, labels, confidence)


def _into_order_of(first: int, model: int, models: list[Model], classes: ClassIndex) -> np.ndarray | None:
    """Columns of a net's posteriors in the order of the first net's classes; None where they are in this order."""
    wanted, held = classes.of_model[first], classes.of_model[model]
    if set(wanted) != set(held):
        raise InputError(f"{models[model].path}: has other classes than {models[first].path}; only nets of the same classes can be fused")
    if np.array_equal(wanted, held):
        return None
    place = np.zeros(len(classes.ids), np.int64)
    place[held] = np.arange(len(held))
    return place[wanted]


def _record(row: Row, models: list[Model], measured: Measured, places: np.ndarray, confidence: np.ndarray) -> AccuracyRow:
    members, n = [models[m.model] for m in row.members], len(places)
    top1, top5 = error_pct(places, 1), error_pct(places, 5)
    (low1, high1), (low5, high5) = wilson_pct(top1, n), wilson_pct(top5, n)
    return AccuracyRow(
        model=" + ".join(m.name for m in members),
        runtime=_joined(m.runtime.runtime for m in members),
        precision=_joined(m.runtime.precision for m in members),
        protocol=row.protocol,
        scales=row.scales,
        flips=row.flips,
        images=n,
        views=row.views([m.runtime.spec for m in models]),
        top1_error_pct=top1, top1_low_pct=low1, top1_high_pct=high1, top5_error_pct=top5, top5_low_pct=low5, top5_high_pct=high5,
        ece_pct=expected_calibration_error(confidence, places == 0),
        ms_per_image=sum(measured.cells[cell].ms_per_image for cell, _ in row.cells()),
    )  # fmt: skip


def _joined(words) -> str:
    """Once if all are the same."""
    return " + ".join(dict.fromkeys(words))
