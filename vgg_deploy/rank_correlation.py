"""Spearman's rank correlation."""

import numpy as np


def average_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, equal values with the mean of their ranks.

    Args:
        values: (n,) finite numbers.

    Returns:
        (n,) float64.
    """
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: np.ndarray = (np.cumsum(counts) - (counts - 1) / 2)[group]
    return ranks


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Correlation of the ranks of two rows of numbers.

    Args:
        first: (n,) numbers, n >= 2.
        second: The same.

    Returns:
        -1 to 1. NaN where one of them has a single value, so that nothing can be ranked, or a
        value that is not finite.

    Source:
        Spearman, "The proof and measurement of association between two things" (1904).

    Example:
        >>> spearman(np.array([1.0, 2.0, 3.0]), np.array([10.0, 30.0, 20.0]))
        0.5
    """
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return float("nan")
    one, other = (average_ranks(values) for values in (first, second))
    one, other = one - one.mean(), other - other.mean()
    whole = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum() / whole) if whole else float("nan")
