"""What is wrong with a model whatever its accuracy: found in its cells and in what it says of itself."""

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

# A posterior further from the softmax of its mean score was not computed from it: both are float32, and rounding
# of the mean and of the softmax comes to 1e-5 at most
CONSISTENT = 1e-4
# How far the sum of a posterior may be from 1, by the type it is stored in: rounding of 1,000 values
SUM_TOLERANCE = {"float32": 1e-4, "float16": 2e-3}

OUTPUTS, NOT_FINITE, NOT_POSTERIORS = (
    "outputs as described",
    "finite posteriors",
    "posteriors sum to 1",
)
SOFTMAX_FIRST, NO_FLIP = "softmax after the average", "flips"
OTHER_ORIGIN, OTHER_NET = "made from the reference", "same description"
FAULT_KINDS_OF_REFERENCE = (OUTPUTS, NOT_FINITE, NOT_POSTERIORS, SOFTMAX_FIRST, NO_FLIP)
FAULT_KINDS = (*FAULT_KINDS_OF_REFERENCE, OTHER_ORIGIN, OTHER_NET)


class Fault(NamedTuple):
    """One finding."""

    model: int  # position among the models of the run
    check: str  # one of FAULT_KINDS
    what: str
    images: list[str]


def posterior_faults(models: list[Model], measured: Measured, files: Sequence[str]) -> list[Fault]:
    """Invalid posteriors, and models that failed while they were scored.

    A posterior must be finite, not negative, sum to 1 and equal the softmax of the mean score. All of it is read
    from the stored rows, so that a later run that scores nothing finds the same faults.
    """
    faults = [Fault(m, OUTPUTS, what, []) for m, what in measured.failed.items()]
    for cell, stored in measured.cells.items():
        if cell.model not in measured.failed:
            faults += _faults_of_cell(
                cell, stored, measured.kept, str(models[cell.model].path), files
            )
    return faults


def _faults_of_cell(
    cell: Cell, stored: StoredCell, kept: np.ndarray, path: str, files: Sequence[str]
) -> list[Fault]:
    """The first kind of fault that a cell has, with all images that have it."""
    rows = _examine(stored, kept & stored.finished)
    mirrored = ", mirrored" if cell.mirrored else ""
    where, views = f"{path} at Q={cell.side}", f"{cell.views}{mirrored}"
    total = int(kept.sum())
    for kind, at, found, advice in (
        (NOT_FINITE, rows.not_finite, "NaN or infinite posteriors", "the file overflows or is damaged"),
        (NOT_FINITE, rows.no_scores, "NaN scores", "the file overflows or is damaged"),
        (NOT_POSTERIORS, rows.negative, "negative posteriors", "the file ends without a softmax, or is damaged"),
        (NOT_POSTERIORS, rows.wrong_sum, "posteriors that do not sum to 1", "the file ends without a softmax, or is damaged"),
    ):  # fmt: skip
        if len(at):
            what = f"{where}: {found} on {len(at)} of {total} images, the first is {files[at[0]]} ({views}); {advice}"
            return [Fault(cell.model, kind, what, [files[i] for i in at])]
    at = rows.inconsistent
    if not len(at):
        return []
    off = stored.consistency[at]
    worst = int(off.argmax())
    what = (
        f"{where}: its posterior is not the softmax of its mean score, it differs by {off[worst]:.2g} on "
        f"{files[at[worst]]} ({views}; by more than {CONSISTENT:g} on {len(at)} of {total} images); "
        "the file averages after the softmax, or is damaged: export it again"
    )
    return [Fault(cell.model, SOFTMAX_FIRST, what, [files[i] for i in at])]


class Examined(NamedTuple):
    """Indices of the images of a cell that have a fault, by kind."""

    not_finite: np.ndarray
    no_scores: np.ndarray
    negative: np.ndarray
    wrong_sum: np.ndarray
    inconsistent: np.ndarray


def _examine(stored: StoredCell, asked: np.ndarray) -> Examined:
    """Look at the asked rows of a cell, some at a time. Args: asked, (images,) bool."""
    posteriors, consistency = stored.posteriors, stored.consistency
    tolerance = SUM_TOLERANCE[posteriors.dtype.name]
    found: list[list[np.ndarray]] = [[] for _ in Examined._fields]
    for rows in chunks(len(asked)):
        held = posteriors[rows]
        with np.errstate(invalid="ignore", over="ignore"):
            kinds = (
                ~np.isfinite(held).all(axis=1),
                np.isnan(consistency[rows]),
                (held < 0).any(axis=1),
                ~(np.abs(held.sum(axis=1, dtype=np.float64) - 1) <= tolerance),
                ~(consistency[rows] <= CONSISTENT),
            )
        for at, kind in zip(found, kinds, strict=True):
            at.append(rows.start + np.flatnonzero(kind & asked[rows]))
    return Examined(*(np.concatenate(at) for at in found))


def flip_faults(models: list[Model], measured: Measured) -> list[Fault]:
    """Nets whose answers to mirror images are bit for bit those to the images."""
    faults = {}
    for cell, mirrored in _mirrored(measured):
        stored = measured.cells[cell]
        if (
            cell.model in faults
            or cell.model in measured.failed
            or not _could_differ(stored, measured.kept)
        ):
            continue
        if _same(stored, measured.cells[mirrored], measured.kept):
            what = (
                f"{models[cell.model].path} at Q={cell.side}, {cell.views}: mirrored images score exactly as the images do, on all "
                f"{int(measured.kept.sum())}; the flip is missing, the net gives one answer to everything, or each image is "
                "its own mirror image"
            )
            faults[cell.model] = Fault(cell.model, NO_FLIP, what, [])
    return list(faults.values())


def _mirrored(measured: Measured) -> list[tuple[Cell, Cell]]:
    """Cells of images, each beside the cell of the mirrored images."""
    pairs = [(cell, cell._replace(mirrored=True)) for cell in measured.cells if not cell.mirrored]
    return [(cell, mirrored) for cell, mirrored in pairs if mirrored in measured.cells]


def _could_differ(stored: StoredCell, kept: np.ndarray) -> bool:
    """Whether any posterior is not rounded to 1: such answers are the same for most views of an image."""
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
    """Kinds of faults that this run could not look for, so that no gate may call them passed.

    Args: broken, models whose posteriors cannot be used: the first kind of fault hides the others.
    Returns: (model, kind of fault).
    """
    of_posteriors = (NOT_FINITE, NOT_POSTERIORS, SOFTMAX_FIRST, NO_FLIP)
    hidden = {(m, kind) for m in broken for kind in of_posteriors}
    flipped = {
        cell.model
        for cell, mirrored in _mirrored(measured)
        if _could_differ(measured.cells[cell], measured.kept)
        or not _same(measured.cells[cell], measured.cells[mirrored], measured.kept)
    }
    return hidden | {(m, NO_FLIP) for m in range(len(models)) if m not in flipped}


def origin_faults(models: list[Model]) -> list[Fault]:
    """Files that were not made from the first model, or that describe another net than it does."""
    reference, faults = models[0], []
    for m, model in enumerate(models[1:], start=1):
        if model.origin != reference.origin:
            what = (
                f"{model.path}: was made from a file with sha256 {model.origin[:12]}, {reference.path} "
                f"{'is' if reference.origin == reference.sha256 else 'from one with'} {reference.origin[:12]}; it is stale, or of another net: export it again"
            )
            faults.append(Fault(m, OTHER_ORIGIN, what, []))
        other, first = model.runtime.spec, reference.runtime.spec
        for name in _differing(first, other):
            what = f"{model.path}: its {name} is {_short(getattr(other, name))}, that of {reference.path} {_short(getattr(first, name))}; export it again"
            faults.append(Fault(m, OTHER_NET, what, []))
    return faults


def _differing(first: NetSpec, other: NetSpec) -> list[str]:
    """Fields that tell another net; texts for people may differ, and ids that one of the two does not know."""
    differing = [f.name for f in fields(first) if getattr(first, f.name) != getattr(other, f.name)]
    unknown = any(spec.classes == numbered(len(first.classes)) for spec in (first, other)) and len(
        first.classes
    ) == len(other.classes)
    same_classes = unknown or set(first.classes) == set(
        other.classes
    )  # their order is each net's own
    return [
        name
        for name in differing
        if name not in ("names", "recipe", *(("classes",) if same_classes else ()))
    ]


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
