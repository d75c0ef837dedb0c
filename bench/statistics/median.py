"""Intervals of a median of measured times, which may depend on each other.

Every table that gives a median with an interval uses this module: latency, side by side, and the
scripts in benchmarks/.
"""

import numpy as np

BLOCKS = 20  # consecutive calls are put into so many blocks to see how they depend on each other
WINDOWS = 8  # medians of so many consecutive windows are compared
FEWEST = 6  # values: with fewer, not even the extremes bound the median with 95 % confidence
Z = 1.960  # 97.5 % quantile of the normal distribution
T = 2.093  # the same of Student's t with BLOCKS - 1 degrees of freedom
NAN = float("nan")


def dependence(values: np.ndarray) -> float:
    """Number of consecutive values that are worth one independent value of the median.

    It is the integrated autocorrelation time of the indicator "above the median", by batch means:
    the variance of its block means relative to that of independent values. Where neighbouring
    blocks still correlate, it is corrected as for a first-order process.

    Args:
        values: (n,) in the order in which they were measured.

    Returns:
        At least 1, which is independence; also 1 for fewer than BLOCKS values, too few to judge.

    Source:
        Steiger and Wilson, "An improved batch means procedure for simulation output analysis"
        (Management Science, 2002).
    """
    median = np.median(values)
    return dependence_of((values > median) + 0.5 * (values == median), 0.25)


def dependence_of(indicator: np.ndarray, variance: float) -> float:
    """As `dependence`, of any indicator.

    Args:
        indicator: (n,) from 0 to 1, in the order in which the values were measured.
        variance: That of independent values.

    Returns:
        At least 1; also 1 for fewer than BLOCKS values.
    """
    if len(indicator) < BLOCKS:
        return 1.0
    means = np.array([block.mean() for block in np.array_split(indicator, BLOCKS)])
    deviations = means - means.mean()
    squares = float(np.sum(deviations**2))
    if squares == 0:
        return 1.0
    ratio = len(indicator) * squares / (BLOCKS - 1) / BLOCKS / variance
    lag_one = max(0.0, float(np.sum(deviations[1:] * deviations[:-1])) / squares)
    return max(1.0, ratio * (1 + lag_one) / (1 - lag_one))


def median_interval(values: np.ndarray) -> tuple[float, float]:
    """95 % interval of the median by order statistics, wider where values depend on each other.

    Args:
        values: (n,) in the order in which they were measured.

    Returns:
        Lower and upper end, in the unit of the values; NaN where there are too few values.

    Example:
        >>> median_interval(np.arange(1.0, 101.0))
        (nan, nan)
        >>> median_interval(np.random.default_rng(0).permutation(np.arange(1.0, 101.0)))
        (40.0, 61.0)
    """
    n, factor = len(values), dependence(values)
    if n < FEWEST:
        return NAN, NAN
    reach = (Z if factor == 1 else T) * np.sqrt(n * factor)
    rank = int(np.floor((n - reach) / 2))  # from below, and its mirror from above
    if rank < 1:
        # between FEWEST and 8 values the extremes still bound an independent sample's median
        if factor > 1:
            return NAN, NAN
        rank = 1
    ordered = np.sort(values)
    return float(ordered[rank - 1]), float(ordered[n - rank])


def interval_pct(low: float, high: float, median: float) -> float:
    """Width of an interval, in per cent of the median."""
    return 100 * (high - low) / median


def window_medians(values: np.ndarray) -> np.ndarray:
    """Medians of consecutive windows; of fewer than WINDOWS values each one is a window.

    If windows are independent, the true median lies between the lowest and the highest of them
    with probability 1 - 2**(1 - WINDOWS), 99 %, whatever the distribution: each window's median is
    as likely below as above it.

    Args:
        values: (n,) in the order in which they were measured.

    Returns:
        (WINDOWS,), or (n,) for fewer values.
    """
    windows = np.array_split(values, min(WINDOWS, len(values)))
    return np.array([np.median(window) for window in windows])
