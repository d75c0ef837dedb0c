"""Whether a posterior of 0.8 is right 8 times of 10: the reliability diagram and its one number."""

from typing import NamedTuple

import numpy as np

BINS = 15  # of equal width


class Bin(NamedTuple):
    """Images whose best posterior lies in one range."""

    images: int
    confidence: float  # mean; NaN where there are no images
    accuracy: float


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> list[Bin]:
    """Args: confidence, (images,) in [0, 1]; right, (images,) bool. A bin contains its upper bound, the first also 0."""
    place = np.clip(np.ceil(np.asarray(confidence, np.float64) * bins).astype(int) - 1, 0, bins - 1)
    inside = [place == b for b in range(bins)]
    return [
        Bin(int(i.sum()), float(confidence[i].mean()), float(right[i].mean()))
        if i.any()
        else Bin(0, np.nan, np.nan)
        for i in inside
    ]


def expected_calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """Mean distance of confidence and accuracy over the bins, weighted by images, in percentage points."""
    filled = [b for b in reliability(confidence, right) if b.images]
    return 100 * sum(b.images * abs(b.confidence - b.accuracy) for b in filled) / len(confidence)
