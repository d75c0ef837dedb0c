"""Counts the multiply-accumulates of a row of the accuracy table, exactly."""

import numpy as np

from bench.accuracy.protocols import Cell, Row, views_per_image
from vgg_deploy.images.geometry import rescaled_size
from vgg_deploy.images.protocols import WHOLE_IMAGE
from vgg_deploy.net.archs import ARCHS, macs
from vgg_deploy.net.spec import NetSpec


def gmacs_per_image(row: Row, specs: list[NetSpec], sizes: np.ndarray) -> float:
    """Billions of multiply-accumulates of all views of one image, the mean over the images.

    A whole image counts by its own size after the rescale, a crop by the crop's. Convolutions
    only, see `vgg_deploy.net.archs.macs`.

    Args:
        row: The nets, protocol, scales and flips.
        specs: Of all models of the run.
        sizes: (images, 2) int, height and width of the stored images.
    """
    shapes, counts = np.unique(sizes, axis=0, return_counts=True)
    known = [(int(height), int(width)) for height, width in shapes]
    total = 0  # Python's integers, which do not overflow
    for cell, _ in row.cells():
        spec = specs[cell.model]
        for (height, width), count in zip(known, counts.tolist(), strict=True):
            total += count * _macs_of(cell, spec, height, width)
    return total / len(sizes) / 1e9


def _macs_of(cell: Cell, spec: NetSpec, height: int, width: int) -> int:
    """Of all views of one image in one cell."""
    size = (spec.crop, spec.crop)
    if cell.views in WHOLE_IMAGE:
        size = rescaled_size(height, width, cell.side)
    per_view = macs(ARCHS[spec.arch], *size, len(spec.classes), spec.width, spec.crop)
    return views_per_image(cell, spec.crop) * per_view
