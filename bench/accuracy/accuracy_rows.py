"""Computes the rows of the accuracy table: weighted averages over cells, and their errors.

It is arithmetic only; no net is run here.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf, nan

import numpy as np

from bench.accuracy.cell_rows import chunks
from bench.accuracy.fill_cells import Measured
from bench.accuracy.protocols import Row
from bench.accuracy.reliability import expected_calibration_error
from bench.accuracy.work import gmacs_per_image
from bench.models.model import Model
from vgg_deploy.errors import InputError
from vgg_deploy.net.spec import NetSpec
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
    classes: int  # that the best one is chosen among
    views: int  # whole images and crops scored per image
    top1_error_pct: float
    top1_low_pct: float  # 95 % interval
    top1_high_pct: float
    top5_error_pct: float
    top5_low_pct: float
    top5_high_pct: float
    ece_pct: float  # expected calibration error, 15 bins
    # billions of multiply-accumulates of all views of one image, the mean over the images
    gmacs_per_image: float
    # in the runtime, as the cells were scored; missing where a run with other threads scored them
    ms_per_image: float


@dataclass(frozen=True, eq=False)
class Truth:
    """What is right for every image; classes are indices in the run's `ClassIndex`.

    Attributes:
        labels: (images,) int64, the true class; (0,) for images without labels.
        right: (images, most) int64, all right classes, -1 behind the last; None if only the label
            is right. An image's rank is that of its best right class.
        among: (classes,) int64, the classes that the best one is chosen among; None for all of the
            net's. Their posteriors are divided by their sum.
    """

    labels: np.ndarray
    right: np.ndarray | None = None
    among: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Scored:
    """One row, image by image: what comparisons, calibration and class tables need."""

    row: Row
    record: AccuracyRow
    best: np.ndarray  # (images,) best class, index in the run's `ClassIndex`
    confidence: np.ndarray  # (images,) float32, posterior of the best class
    margin: np.ndarray  # (images,) float64, posterior of the best class minus that of the second
    ranks: np.ndarray  # (images,) rank of the true class, 0 for the best; (0,) without labels
    labels: np.ndarray  # (images,) true class (the first right one); (0,) without labels

    @property
    def labelled(self) -> bool:
        """Whether the true classes are known."""
        return len(self.labels) == len(self.best)


@dataclass(frozen=True)
class ClassIndex:
    """One numbering of the classes of all nets, since nets may order them differently."""

    ids: tuple[str, ...]
    names: tuple[str, ...]
    of_model: list[np.ndarray]  # per net: (classes of the net,) int, index in `ids`

    def label(self, index: int) -> str:
        """A class for people: its name and beside it its id, if the two differ.

        Example:
            >>> index = ClassIndex.of([("n01440764", "dog")], [("tench", "dog")])
            >>> index.label(0), index.label(1)
            ('tench (n01440764)', 'dog')

        Args:
            index: Of the class.
        """
        id, name = self.ids[index], self.names[index]
        return id if name == id else f"{name} ({id})"

    @classmethod
    def of(
        cls, ids_of_models: list[tuple[str, ...]], names_of_models: list[tuple[str, ...]]
    ) -> "ClassIndex":
        """Number the classes in the order in which the nets first have them.

        Args:
            ids_of_models: Ids of each net's classes, in the order of its scores.
            names_of_models: Their names. If nets differ, the first net's name counts.

        Example:
            >>> index = ClassIndex.of([("cat", "dog"), ("dog", "cat")], [("A", "B"), ("B", "A")])
            >>> index.names, index.of_model[1]
            (('A', 'B'), array([1, 0]))
        """
        name_of: dict[str, str] = {}
        for ids, names in zip(ids_of_models, names_of_models, strict=True):
            for id, name in zip(ids, names, strict=True):
                name_of.setdefault(id, name)
        index_of = {id: index for index, id in enumerate(name_of)}
        of_model = [np.array([index_of[id] for id in ids]) for ids in ids_of_models]
        return cls(tuple(name_of), tuple(name_of.values()), of_model)


def averaged(
    row: Row, models: list[Model], measured: Measured, classes: ClassIndex
) -> Iterator[tuple[slice, np.ndarray]]:
    """Average the row's cells, some images at a time, so that memory does not grow with the data.

    Args:
        row: What is averaged.
        models: The models of the run.
        measured: Posteriors of the row's cells.
        classes: The numbering of classes.

    Yields:
        A slice of the kept images, and their (images, classes) float64 posteriors; the columns are
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
            stored = measured.cells[cell].posteriors
            posteriors = stored[part] if len(kept) == len(stored) else stored[kept[part]]
            columns = order[cell.model]
            if columns is not None:
                posteriors = posteriors[:, columns]
            total += np.multiply(posteriors, weight, dtype=np.float64)
        yield part, total


def score_row(
    row: Row, models: list[Model], measured: Measured, truth: Truth, classes: ClassIndex
) -> Scored:
    """Average the row's cells and score them.

    Args:
        row: What is averaged.
        models: The models of the run.
        measured: Posteriors of the row's cells.
        truth: Of the kept images.
        classes: The numbering of classes.

    Raises:
        InputError: If nets of a fusion have different classes.
    """
    own = classes.of_model[row.members[0].model]
    chosen = np.arange(len(own))
    if truth.among is not None:
        chosen = np.flatnonzero(np.isin(own, truth.among))
    numbers = own[chosen]  # of the columns that the best is chosen among
    column_of = np.full(len(classes.ids), -1)
    column_of[numbers] = np.arange(len(numbers))
    count = int(measured.kept.sum())
    best, confidence = np.zeros(count, np.int64), np.zeros(count, np.float32)
    margin, ranks = np.zeros(count), np.zeros(len(truth.labels), np.int64)
    for part, posteriors in averaged(row, models, measured, classes):
        if truth.among is not None:
            posteriors = _conditional(posteriors[:, chosen])
        if len(truth.labels):
            ranks[part] = _ranks(posteriors, truth, part, column_of)
        best[part] = numbers[posteriors.argmax(axis=1)]
        confidence[part] = posteriors.max(axis=1)
        margin[part] = _margin(posteriors)
    record = _record(row, models, measured, ranks, confidence, len(numbers))
    return Scored(row, record, best, confidence, margin, ranks, truth.labels)


def _conditional(posteriors: np.ndarray) -> np.ndarray:
    """(images, classes) posteriors, given that one of these classes is the true one.

    It is the softmax of their scores, as the benchmarks compute it. Where all of them are zero, as
    they may be when stored as float16, each class has the same.
    """
    total = posteriors.sum(axis=1, keepdims=True)
    even = np.full_like(posteriors, 1 / posteriors.shape[1])
    conditional: np.ndarray = np.divide(posteriors, total, out=even, where=total > 0)
    return conditional


def _ranks(posteriors: np.ndarray, truth: Truth, part: slice, column_of: np.ndarray) -> np.ndarray:
    """(images,) rank of the label, or of the best one of an image's right classes."""
    labels = truth.labels[part]
    ranks: np.ndarray = true_class_ranks(posteriors, column_of[labels])
    if truth.right is not None:
        for right in truth.right[part].T:
            one = np.where(right < 0, labels, right)
            ranks = np.minimum(ranks, true_class_ranks(posteriors, column_of[one]))
    return ranks


def _margin(posteriors: np.ndarray) -> np.ndarray:
    """(images, classes) -> (images,) best minus second; infinite for a single class."""
    if posteriors.shape[1] == 1:
        return np.full(len(posteriors), inf)
    second, best = np.partition(posteriors, -2, axis=1)[:, -2:].T
    difference: np.ndarray = best - second
    return difference


def _into_order_of(
    first: int, model: int, models: list[Model], classes: ClassIndex
) -> np.ndarray | None:
    """Columns of a net's posteriors in the order of the first net's classes.

    Returns:
        None where they are in this order already.
    """
    columns = columns_in_order(classes.of_model[first], classes.of_model[model])
    if columns is None:
        raise InputError(
            f"{models[model].path}: has other classes than {models[first].path}; only nets of the "
            "same classes can be fused"
        )
    return None if np.array_equal(columns, np.arange(len(columns))) else columns


def columns_in_order(order: np.ndarray, present: np.ndarray) -> np.ndarray | None:
    """Find the columns that bring the present classes into a given order.

    Args:
        order: (classes,) int, class indices in the order to reach.
        present: (classes,) int, class indices of the columns.

    Returns:
        (classes,) int64 columns, or None if the two are not the same classes.

    Example:
        >>> columns_in_order(np.array([7, 3, 5]), np.array([3, 5, 7]))
        array([2, 0, 1])
    """
    if set(order) != set(present):
        return None
    column_of = {int(c): column for column, c in enumerate(present)}
    return np.array([column_of[int(c)] for c in order], np.int64)


def _record(
    row: Row,
    models: list[Model],
    measured: Measured,
    ranks: np.ndarray,
    confidence: np.ndarray,
    classes: int,
) -> AccuracyRow:
    members = [models[m.model] for m in row.members]
    specs = [m.runtime.spec for m in models]
    top1, interval1 = _error(ranks, 1)
    top5, interval5 = _error(ranks, 5)
    return AccuracyRow(
        model=" + ".join(m.name for m in members),
        runtime=_joined(m.runtime.name for m in members),
        precision=_joined(m.runtime.precision for m in members),
        protocol=row.protocol,
        scales=row.scales,
        flips=row.flips,
        images=len(confidence),
        classes=classes,
        views=row.views(specs),
        top1_error_pct=top1,
        top1_low_pct=interval1.low,
        top1_high_pct=interval1.high,
        top5_error_pct=top5,
        top5_low_pct=interval5.low,
        top5_high_pct=interval5.high,
        ece_pct=expected_calibration_error(confidence, ranks == 0) if len(ranks) else nan,
        gmacs_per_image=_work(row, specs, measured),
        ms_per_image=sum(measured.cells[cell].ms_per_image for cell, _ in row.cells()),
    )


def _work(row: Row, specs: list[NetSpec], measured: Measured) -> float:
    """See `gmacs_per_image`; NaN where the sizes of the images are not known."""
    if measured.content is None:
        return nan
    return gmacs_per_image(row, specs, measured.content.sizes[measured.kept])


def _error(ranks: np.ndarray, k: int) -> tuple[float, Interval]:
    """Top-k error and its 95 % interval in per cent; NaN without labels."""
    if not len(ranks):
        return nan, Interval(nan, nan)
    error = error_pct(ranks, k)
    return error, wilson_pct(error, len(ranks))


def _joined(words: Iterable[str]) -> str:
    """Distinct words joined by +."""
    return " + ".join(dict.fromkeys(words))
