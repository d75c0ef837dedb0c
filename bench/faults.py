"""What is wrong with a model whatever its accuracy: found in its cells and in what it says of itself."""

from dataclasses import fields
from typing import NamedTuple

import numpy as np

from bench.cells import Measured
from bench.models import Model
from bench.store import chunks
from vgg_deploy.spec import NetSpec, numbered

CONSISTENT = 1e-3  # a posterior further from the softmax of the mean score than rounding in fp16 explains


NOT_FINITE, SOFTMAX_FIRST, NO_FLIP = "finite posteriors", "softmax after the average", "flips"
OTHER_ORIGIN, OTHER_NET = "made from the reference", "same description"
FAULT_KINDS_OF_REFERENCE = (NOT_FINITE, SOFTMAX_FIRST, NO_FLIP)
FAULT_KINDS = (*FAULT_KINDS_OF_REFERENCE, OTHER_ORIGIN, OTHER_NET)


class Fault(NamedTuple):
    """One finding."""

    model: int  # position among the models of the run
    check: str  # one of FAULT_KINDS
    what: str
    images: list[str]


def posterior_faults(models: list[Model], measured: Measured, files: tuple[str, ...]) -> list[Fault]:
    """Posteriors that no table may show: not finite, or not the softmax of the mean score."""
    faults = []
    for cell, stored in measured.cells.items():
        where = f"{models[cell.model].path} at Q={cell.side}"
        bad = np.flatnonzero(_rows_not_finite(stored.posteriors) & measured.kept)
        if len(bad):
            what = (
                f"{where}: NaN or infinite posteriors on {len(bad)} of {int(measured.kept.sum())} images, the first is {files[bad[0]]}; "
                "the file overflows or is damaged"
            )
            faults.append(Fault(cell.model, NOT_FINITE, what, [files[i] for i in bad]))
        elif stored.inconsistency > CONSISTENT:
            image = files[stored.inconsistent_image]
            what = (
                f"{where}: its posterior is not the softmax of its mean score, it differs by {stored.inconsistency:.2g} on {image}; "
                "the file averages after the softmax, or is damaged: export it again"
            )
            faults.append(Fault(cell.model, SOFTMAX_FIRST, what, [image]))
    return faults


def flip_faults(models: list[Model], measured: Measured) -> list[Fault]:
    """Nets whose answers to mirror images are bit for bit those to the images."""
    faults = {}
    for cell, stored in measured.cells.items():
        mirrored = measured.cells.get(cell._replace(mirrored=True))
        if cell.mirrored or mirrored is None or cell.model in faults:
            continue
        if all(np.array_equal(stored.posteriors[rows], mirrored.posteriors[rows], equal_nan=True) for rows in chunks(len(measured.kept))):
            what = (
                f"{models[cell.model].path} at Q={cell.side}, {cell.views}: mirrored images score exactly as the images do, on all "
                f"{int(measured.kept.sum())}; the flip is missing, or the net gives one answer to everything"
            )
            faults[cell.model] = Fault(cell.model, NO_FLIP, what, [])
    return list(faults.values())


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
    unknown = any(spec.classes == numbered(len(first.classes)) for spec in (first, other)) and len(first.classes) == len(other.classes)
    same_classes = unknown or set(first.classes) == set(other.classes)  # their order is each net's own
    return [name for name in differing if name not in ("names", "recipe", *(("classes",) if same_classes else ()))]


def _rows_not_finite(posteriors: np.ndarray) -> np.ndarray:
    """(images,) bool"""
    return np.concatenate([~np.isfinite(posteriors[rows]).all(axis=1) for rows in chunks(len(posteriors))])


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
