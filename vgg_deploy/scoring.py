"""From posteriors to errors: which class wins, how often it is wrong, and how sure that number is."""

import math
from typing import NamedTuple

import numpy as np


class Interval(NamedTuple):
    """Bounds in the unit of what they bound."""

    low: float
    high: float


def true_class_ranks(posteriors: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Position of each image's true class among its classes, 0 for the best.

    Args: posteriors, (N, classes); labels, (N,) class indices.
    Returns: (N,) int. Of equal posteriors the lower class index comes first, as in a stable sort.
    Raises: FloatingPointError for a posterior that is not finite, which would otherwise count as an ordinary mistake.
    """
    if not np.isfinite(posteriors).all():
        bad = np.flatnonzero(~np.isfinite(posteriors).all(axis=1))
        raise FloatingPointError(
            f"{len(bad)} of {len(posteriors)} images have NaN or infinite posteriors, the first is image {bad[0]}"
        )
    true = np.take_along_axis(posteriors, labels[:, None], axis=1)
    before = np.arange(posteriors.shape[1])[None, :] < labels[:, None]
    return ((posteriors > true) | ((posteriors == true) & before)).sum(axis=1)


def error_pct(ranks: np.ndarray, k: int) -> float:
    """Top-k error in per cent: images whose true class is not among the first k."""
    return float(100 * np.mean(ranks >= k))


def wilson_pct(error_pct: float, images: int, z: float = 1.959964) -> Interval:
    """95 % interval of an error rate in per cent (Wilson's score interval for a proportion)."""
    p, n = error_pct / 100, images
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Interval(100 * max(0.0, centre - half), 100 * min(1.0, centre + half))
