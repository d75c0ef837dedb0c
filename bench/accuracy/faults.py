"""Finds what is wrong with a model whatever its accuracy: in its cells, and in its description."""

from collections.abc import Sequence
from dataclasses import fields
from typing import NamedTuple

import numpy as np

from bench.accuracy.cell_rows import chunks
from bench.accuracy.cell_store import StoredCell
from bench.accuracy.fill_cells import Measured
from bench.accuracy.protocols import Cell
from bench.models.model import Model
from vgg_deploy.net.spec import NetSpec, numbered

# A posterior further from the softmax of its mean score was not computed from it: both are float32,
# and rounding of the mean and of the softmax comes to 1e-5 at most
CONSISTENT = 1e-4
# How far the sum of a posterior may be from 1, by its stored type: rounding of 1,000 values
SUM_TOLERANCE = {"float32": 1e-4, "float16": 2e-3}

OUTPUTS = "outputs as described"
NOT_FINITE = "finite posteriors"
NOT_POSTERIORS = "posteriors sum to 1"
SOFTMAX_FIRST = "softmax after the average"
NO_FLIP = "flips"
OTHER_ORIGIN = "made from the reference"
OTHER_NET = "same description"
FAULT_KINDS_OF_REFERENCE = (OUTPUTS, NOT_FINITE, NOT_POSTERIORS, SOFTMAX_FIRST, NO_FLIP)
FAULT_KINDS = (*FAULT_KINDS_OF_REFERENCE, OTHER_ORIGIN, OTHER_NET)

SHOWN = 120  # characters of a value in a message


class Fault(NamedTuple):
    """One finding."""

    model: int  # index among the models of the run
    check: str  # one of FAULT_KINDS
    what: str
    images: list[str]


class Examined(NamedTuple):
    """Indices of the images of a cell that have a fault, by kind; each (n,) int."""

    not_finite: np.ndarray
    no_scores: np.ndarray
    negative: np.ndarray
    wrong_sum: np.ndarray
    inconsistent: np.ndarray


def posterior_faults(models: list[Model], measured: Measured, files: Sequence[str]) -> list[Fault]:
    """Find invalid posteriors, and models that failed while they were scored.

    A posterior must be finite, not negative, sum to 1 and equal the softmax of the mean score. All
    of it is read from the stored rows, so a later run that scores nothing finds the same faults.

    Args:
        models: The models of the run.
        measured: Their posteriors.
        files: Names of the images of the data set.
    """
    faults = [Fault(m, OUTPUTS, what, []) for m, what in measured.failed.items()]
    for cell, stored in measured.cells.items():
        if cell.model not in measured.failed:
            path = str(models[cell.model].path)
            faults += _faults_of_cell(cell, stored, measured.kept, path, files)
    return faults


def _faults_of_cell(
    cell: Cell, stored: StoredCell, kept: np.ndarray, path: str, files: Sequence[str]
) -> list[Fault]:
    """The first kind of fault that a cell has, with all images that have it."""
    rows = _examine(stored, kept & stored.finished)
    mirrored = ", mirrored" if cell.mirrored else ""
    where, views = f"{path} at Q={cell.side}", f"{cell.views}{mirrored}"
    total = int(kept.sum())
    overflow = "the file overflows or is damaged"
    no_softmax = "the file ends without a softmax, or is damaged"
    for kind, at, found, advice in (
        (NOT_FINITE, rows.not_finite, "NaN or infinite posteriors", overflow),
        (NOT_FINITE, rows.no_scores, "NaN scores", overflow),
        (NOT_POSTERIORS, rows.negative, "negative posteriors", no_softmax),
        (NOT_POSTERIORS, rows.wrong_sum, "posteriors that do not sum to 1", no_softmax),
    ):
        if len(at):
            what = (
                f"{where}: {found} on {len(at)} of {total} images, the first is {files[at[0]]} "
                f"({views}); {advice}"
            )
            return [Fault(cell.model, kind, what, [files[i] for i in at])]
    at = rows.inconsistent
    if not len(at):
        return []
    difference = stored.consistency[at]
    worst = int(difference.argmax())
    what = (
        f"{where}: its posterior is not the softmax of its mean score, it differs by "
        f"{difference[worst]:.2g} on {files[at[worst]]} ({views}; by more than {CONSISTENT:g} on "
        f"{len(at)} of {total} images); the file averages after the softmax, or is damaged: export "
        "it again"
    )
    return [Fault(cell.model, SOFTMAX_FIRST, what, [files[i] for i in at])]


def _examine(stored: StoredCell, chosen: np.ndarray) -> Examined:
    """Examine rows of a cell, some at a time.

    Args:
        stored: The cell.
        chosen: (images,) bool, the rows to examine.
    """
    posteriors, consistency = stored.posteriors, stored.consistency
    tolerance = SUM_TOLERANCE[posteriors.dtype.name]
    found: list[list[np.ndarray]] = [[] for _ in Examined._fields]
    for rows in chunks(len(chosen)):
        chunk = posteriors[rows]
        with np.errstate(invalid="ignore", over="ignore"):
            kinds = Examined(
                not_finite=~np.isfinite(chunk).all(axis=1),
                no_scores=np.isnan(consistency[rows]),
                negative=np.less(chunk, 0).any(axis=1),
                wrong_sum=~(np.abs(chunk.sum(axis=1, dtype=np.float64) - 1) <= tolerance),
                inconsistent=~(consistency[rows] <= CONSISTENT),
            )
        for indices, faulty in zip(found, kinds, strict=True):
            indices.append(rows.start + np.flatnonzero(faulty & chosen[rows]))
    return Examined(*(np.concatenate(indices) for indices in found))


def flip_faults(models: list[Model], measured: Measured) -> list[Fault]:
    """Find nets whose answers to mirror images are bit for bit those to the images."""
    faults: dict[int, Fault] = {}
    for cell, mirrored in _mirrored(measured):
        stored = measured.cells[cell]
        if cell.model in faults or cell.model in measured.failed:
            continue
        if not _could_differ(stored, measured.kept):
            continue
        if _same(stored, measured.cells[mirrored], measured.kept):
            what = (
                f"{models[cell.model].path} at Q={cell.side}, {cell.views}: mirrored images score "
                f"exactly as the images do, on all {int(measured.kept.sum())}; the flip is "
                "missing, the net gives one answer to everything, or each image is its own mirror "
                "image"
            )
            faults[cell.model] = Fault(cell.model, NO_FLIP, what, [])
    return list(faults.values())


def _mirrored(measured: Measured) -> list[tuple[Cell, Cell]]:
    """Cells of images, each beside the cell of the mirrored images."""
    pairs = [(cell, cell._replace(mirrored=True)) for cell in measured.cells if not cell.mirrored]
    return [(cell, mirrored) for cell, mirrored in pairs if mirrored in measured.cells]


def _could_differ(stored: StoredCell, kept: np.ndarray) -> bool:
    """Whether any posterior is not rounded to 1; such answers are equal for most views."""
    return any(
        (stored.posteriors[rows][kept[rows]].max(axis=1) < 1).any() for rows in chunks(len(kept))
    )


def _same(stored: StoredCell, mirrored: StoredCell, kept: np.ndarray) -> bool:
    return all(
        np.array_equal(stored.posteriors[rows], mirrored.posteriors[rows], equal_nan=True)
        for rows in chunks(len(kept))
    )


def unexamined(
    models: list[Model], measured: Measured, broken: frozenset[int]
) -> set[tuple[int, str]]:
    """Kinds of faults that this run could not look for, so that no gate may report them as passed.

    Args:
        models: The models of the run.
        measured: Their posteriors.
        broken: Models with invalid posteriors: the first kind of fault hides the others.

    Returns:
        (model, kind of fault).
    """
    of_posteriors = (NOT_FINITE, NOT_POSTERIORS, SOFTMAX_FIRST, NO_FLIP)
    hidden = {(model, kind) for model in broken for kind in of_posteriors}
    flips_examined = set()
    for cell, mirrored in _mirrored(measured):
        stored = measured.cells[cell]
        if _could_differ(stored, measured.kept) or not _same(
            stored, measured.cells[mirrored], measured.kept
        ):
            flips_examined.add(cell.model)
    return hidden | {(m, NO_FLIP) for m in range(len(models)) if m not in flips_examined}


def origin_faults(models: list[Model]) -> list[Fault]:
    """Find files that were not made from the first model, or that describe another net."""
    reference, *others = models
    faults = []
    for index, model in enumerate(others, start=1):
        if model.origin != reference.origin:
            itself = reference.origin == reference.sha256
            what = (
                f"{model.path}: was made from a file with sha256 {model.origin[:12]}, "
                f"{reference.path} {'is' if itself else 'from one with'} {reference.origin[:12]}; "
                "it is stale, or of another net: export it again"
            )
            faults.append(Fault(index, OTHER_ORIGIN, what, []))
        spec, expected = model.runtime.spec, reference.runtime.spec
        for name in _differing_fields(expected, spec):
            what = (
                f"{model.path}: its {name} is {_short(getattr(spec, name))}, that of "
                f"{reference.path} {_short(getattr(expected, name))}; export it again"
            )
            faults.append(Fault(index, OTHER_NET, what, []))
    return faults


def _differing_fields(first: NetSpec, other: NetSpec) -> list[str]:
    """Fields that show another net.

    Texts for people may differ, and so may ids that one of the two does not know. The order of the
    classes is each net's own.
    """
    ignored = {"names", "recipe"}
    numbers_only = any(spec.classes == numbered(len(first.classes)) for spec in (first, other))
    same_count = len(first.classes) == len(other.classes)
    if (numbers_only and same_count) or set(first.classes) == set(other.classes):
        ignored.add("classes")
    names = [field.name for field in fields(first) if field.name not in ignored]
    return [name for name in names if getattr(first, name) != getattr(other, name)]


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
