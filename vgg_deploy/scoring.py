"""Computes error rates from posteriors, and how certain these rates are."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Interval(NamedTuple):
    """Bounds, in the unit of the number that they bound."""

    low: float
    high: float


def true_class_ranks(posteriors: np.ndarray, labels: np.ndarray) -> NDArray[np.intp]:
    """Rank of each image's true class among all classes, 0 for the best.

    Args:
        posteriors: (N, classes).
        labels: (N,) class indices.

    Returns:
        (N,). Of equal posteriors the lower class index comes first, as in a stable sort.

    Raises:
        FloatingPointError: If a posterior is not finite. It would otherwise count as an ordinary
            mistake.

    Example:
        >>> true_class_ranks(np.array([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]]), np.array([2, 0]))
        array([1, 0])
    """
    finite = np.isfinite(posteriors).all(axis=1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise FloatingPointError(
            f"{len(bad)} of {len(posteriors)} images have NaN or infinite posteriors, "
            f"the first is image {bad[0]}"
        )
    of_true_class = np.take_along_axis(posteriors, labels[:, None], axis=1)
    lower_index = np.arange(posteriors.shape[1])[None, :] < labels[:, None]
    better = (posteriors > of_true_class) | ((posteriors == of_true_class) & lower_index)
    ranks: NDArray[np.intp] = better.sum(axis=1)
    return ranks


def error_pct(ranks: np.ndarray, k: int) -> float:
    """Top-k error in per cent.

    Args:
        ranks: (N,) of `true_class_ranks`.
        k: An image is right if its true class is among the first k.
    """
    return float(100 * np.mean(ranks >= k))


def wilson_pct(error_pct: float, images: int, z: float = 1.959964) -> Interval:
    """Wilson's score interval of an error rate, in per cent.

    Args:
        error_pct: The error rate in per cent.
        images: Number of images that it was measured on.
        z: Quantile of the normal distribution; by default that of a 95 % interval.
    """
    p, n = error_pct / 100, images
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return Interval(100 * max(0.0, centre - half), 100 * min(1.0, centre + half))
