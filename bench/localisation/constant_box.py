"""Finds the best constant box: what a net must beat that looks at the image.

Its edges are parts of the image's sides, the same for all images. It is chosen among a grid of
boxes on the very images that it is judged on, which is in its favour.
"""

from typing import NamedTuple

import numpy as np

from vgg_deploy.boxes.box_lists import BoxLists
from vgg_deploy.boxes.geometry import iou
from vgg_deploy.boxes.localisation_error import LEAST_OVERLAP

STEPS = 10  # edges lie at tenths of a side
PART = 64  # candidates compared at once, to bound memory


class ConstantBox(NamedTuple):
    """The box with the lowest localisation error.

    Attributes:
        box: (4,) left, top, right, bottom as parts of the image's sides.
        right: (images,) bool.
        overlaps: (images,) float64, the largest intersection over union with any of their boxes.
    """

    box: np.ndarray
    right: np.ndarray
    overlaps: np.ndarray


def candidates() -> np.ndarray:
    """(boxes, 4) all boxes with edges on the grid."""
    edges = np.arange(STEPS + 1) / STEPS
    pairs = [(low, high) for low in edges for high in edges if high > low]
    return np.array([(left, top, right, bottom) for left, right in pairs for top, bottom in pairs])


def best_constant_box(boxes: BoxLists, sizes: np.ndarray) -> ConstantBox:
    """The candidate with the fewest wrong images, of equal ones that with the larger overlaps.

    Args:
        boxes: True boxes, one or more for each image.
        sizes: (images, 2) height and width, pixels.
    """
    of_image = np.repeat(np.arange(len(boxes)), boxes.counts)
    sides = sizes[of_image][:, [1, 0, 1, 0]]
    relative = boxes.boxes / sides
    begins = boxes.ends - boxes.counts
    best: ConstantBox | None = None
    grid = candidates()
    for start in range(0, len(grid), PART):
        part = grid[start : start + PART]
        overlaps = np.maximum.reduceat(iou(part[:, None], relative), begins, axis=1)
        right = overlaps > LEAST_OVERLAP
        order = np.lexsort((overlaps.sum(axis=1), right.sum(axis=1)))
        first = ConstantBox(part[order[-1]], right[order[-1]], overlaps[order[-1]])
        if best is None or _is_better(first, best):
            best = first
    assert best is not None  # there are candidates
    return best


def _is_better(one: ConstantBox, other: ConstantBox) -> bool:
    return (one.right.sum(), one.overlaps.sum()) > (other.right.sum(), other.overlaps.sum())
