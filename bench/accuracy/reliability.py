"""Calibration: whether answers with a posterior of 0.8 are right 8 times of 10.

Source: Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks" (ICML 2017).
"""

from typing import NamedTuple

import numpy as np

BINS = 15  # of equal width


class Bin(NamedTuple):
    """Images whose largest posterior lies in one range."""

    images: int
    confidence: float  # mean; NaN where there are no images
    accuracy: float  # share of right answers; NaN where there are no images


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> list[Bin]:
    """The reliability diagram.

    Args:
        confidence: (images,) in [0, 1], posterior of the best class.
        right: (images,) bool, whether the best class is the true one.
        bins: Number of bins of equal width. A bin contains its upper bound, the first also 0.
    """
    upper_bound = np.ceil(np.asarray(confidence, np.float64) * bins).astype(int)
    bin_of = np.clip(upper_bound - 1, 0, bins - 1)
    diagram = []
    for index in range(bins):
        inside = bin_of == index
        if inside.any():
            means = float(confidence[inside].mean()), float(right[inside].mean())
            diagram.append(Bin(int(inside.sum()), *means))
        else:
            diagram.append(Bin(0, np.nan, np.nan))
    return diagram


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Mean distance of confidence and accuracy over the bins, weighted by images.

    Args:
        confidence: As `reliability`.
        right: As `reliability`.

    Returns:
        Percentage points.

    Example:
        >>> round(expected_calibration_error(np.array([0.9, 0.9]), np.array([True, False])), 6)
        40.0
    """
    filled = [b for b in reliability(confidence, right) if b.images]
    return 100 * sum(b.images * abs(b.confidence - b.accuracy) for b in filled) / len(confidence)
