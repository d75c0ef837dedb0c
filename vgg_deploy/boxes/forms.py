"""Defines the four numbers by which a net states a box relative to the window that it sees.

The paper names them: centre x, centre y, width, height (appendix A). It does not say relative to
what. Here the side of the window, which is that of the training crop, is 1, and the origin is the
middle of the window. So a net that says nothing (zeros) is right about the centre on average, and
all four numbers are of the same size at every crop.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class BoxForm(NamedTuple):
    """A way to write a box as four numbers, and back.

    Attributes:
        state: (..., 4) boxes with the window as unit, its middle at 0, to (..., 4) numbers.
        read: The inverse.
    """

    state: Callable[[np.ndarray], np.ndarray]
    read: Callable[[np.ndarray], np.ndarray]


def _to_centre(boxes: np.ndarray) -> np.ndarray:
    low, high = boxes[..., :2], boxes[..., 2:]
    return np.concatenate([(low + high) / 2, high - low], axis=-1)


def _from_centre(numbers: np.ndarray) -> np.ndarray:
    centre, sides = numbers[..., :2], numbers[..., 2:]
    return np.concatenate([centre - sides / 2, centre + sides / 2], axis=-1)


def _same(boxes: np.ndarray) -> np.ndarray:
    return boxes


BOX_FORMS = {
    "centre": BoxForm(_to_centre, _from_centre),  # centre x, centre y, width, height: the paper's
    "edges": BoxForm(_same, _same),  # left, top, right, bottom: OverFeat's
}


def state_boxes(boxes: np.ndarray, windows: np.ndarray, form: str) -> np.ndarray:
    """Write boxes as what a net is trained to say of them.

    Args:
        boxes: (..., 4) left, top, right, bottom, pixels.
        windows: (..., 4) what the net sees, in the same pixels.
        form: Name in BOX_FORMS.

    Returns:
        (..., 4) float64 numbers without unit.

    Example:
        >>> state_boxes(np.array([0, 0, 112, 56]), np.array([0, 0, 224, 224]), "centre").tolist()
        [-0.25, -0.375, 0.5, 0.25]
    """
    middle, sides = _middle_and_sides(windows)
    return BOX_FORMS[form].state((boxes - middle) / sides)


def read_boxes(numbers: np.ndarray, windows: np.ndarray, form: str) -> np.ndarray:
    """Read boxes from what a net says; the inverse of `state_boxes`.

    Args:
        numbers: (..., 4), outputs of the net.
        windows: (..., 4) what the net saw, pixels.
        form: Name in BOX_FORMS.

    Returns:
        (..., 4) float64 left, top, right, bottom, in the pixels of the windows. A right edge may
        lie left of the left one; such a box has no area.
    """
    middle, sides = _middle_and_sides(windows)
    relative = BOX_FORMS[form].read(np.asarray(numbers, np.float64))
    boxes: np.ndarray = relative * sides + middle
    return boxes


def _middle_and_sides(windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The middle and the sides of windows, each twice: (..., 4) and (..., 4)."""
    low, high = windows[..., :2], windows[..., 2:]
    middle, sides = (low + high) / 2, high - low
    return np.concatenate([middle, middle], axis=-1), np.concatenate([sides, sides], axis=-1)
