"""Measures boxes: areas, overlaps, mirror images.

A box is left, top, right, bottom in pixels of an image. The numbers are edges: the pixel in the
corner of an image covers the box 0, 0, 1, 1. All functions take arrays whose last axis has these
four numbers.
"""

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]  # (..., 4): left, top, right, bottom


def areas(boxes: np.ndarray) -> np.ndarray:
    """Areas in square pixels; 0 for a box whose right lies left of its left.

    Args:
        boxes: (..., 4).

    Returns:
        (...) float64.
    """
    sides = np.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    product: np.ndarray = sides[..., 0] * sides[..., 1]
    return product


def clipped(boxes: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """The parts of boxes that lie in frames.

    Args:
        boxes: (..., 4).
        frames: (..., 4), of a shape that fits.

    Returns:
        (..., 4); a box outside its frame has no area.
    """
    low = np.maximum(boxes[..., :2], frames[..., :2])
    high = np.minimum(boxes[..., 2:], frames[..., 2:])
    return np.concatenate([low, np.maximum(low, high)], axis=-1)


def iou(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes, pair by pair.

    Args:
        boxes: (..., 4).
        others: (..., 4), of a shape that fits: `iou(boxes[:, None], others)` takes each with each.

    Returns:
        (...) float64, 0 to 1; 0 for two boxes without area, and NaN for a box that is not finite.

    Example:
        >>> float(iou(np.array([0, 0, 2, 2]), np.array([1, 0, 3, 2])))
        0.3333333333333333
    """
    common = areas(clipped(boxes, others))
    union = areas(boxes) + areas(others) - common
    quotient: np.ndarray = np.divide(common, union, out=np.zeros(union.shape), where=union != 0)
    return quotient


def mirrored(boxes: np.ndarray, width: float) -> np.ndarray:
    """Boxes in the mirror image, flipped from left to right.

    Args:
        boxes: (..., 4).
        width: Of the image, pixels.

    Returns:
        (..., 4).
    """
    left, top, right, bottom = np.moveaxis(boxes, -1, 0)
    return np.stack([width - right, top, width - left, bottom], axis=-1)


def scaled(boxes: np.ndarray, before: tuple[int, int], after: tuple[int, int]) -> np.ndarray:
    """Boxes in the image after a rescale.

    Each axis has its own factor, because sides are whole numbers of pixels.

    Args:
        boxes: (..., 4).
        before: Height and width of the image, pixels.
        after: Height and width afterwards.

    Returns:
        (..., 4) float64.
    """
    down, across = after[0] / before[0], after[1] / before[1]
    product: np.ndarray = boxes * np.array([across, down, across, down])
    return product
