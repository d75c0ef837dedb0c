"""How well a median of measured times is known, when the times may depend on each other.

One module for every table that gives a median with an interval: latency, side by side, and the
scripts in benchmarks/.
"""

import numpy as np

BLOCKS = 20  # consecutive calls are put into so many blocks to see how they depend on each other
WINDOWS = 8  # medians of so many consecutive windows are compared
FEWEST = 6  # values: of fewer not even the smallest and the largest bound the median with 95 %
Z = 1.960  # 97.5 % quantile of the normal distribution
T = 2.093  # the same of Student's t with BLOCKS - 1 degrees of freedom


def dependence(values: np.ndarray) -> float:
    """How many consecutive values carry as much information on the median as one independent value.

    Batch means of the indicator "above the median": the variance of its block means, relative to
    that of independent values, is the integrated autocorrelation time. Where neighbouring blocks
    still correlate, it is corrected as for a first-order process (Steiger and Wilson 2002).

    Args:
        values: (n,) in the order in which they were measured.

    Returns:
        At least 1, which is independence; also 1 for fewer than BLOCKS values, too few to tell.
    """
    if len(values) < BLOCKS:
        return 1.0
    median = np.median(values)
    above = (values > median) + 0.5 * (values == median)
    means = np.array([block.mean() for block in np.array_split(above, BLOCKS)])
    off = means - means.mean()
    total = float(np.sum(off**2))
    if total == 0:
        return 1.0
    ratio = len(values) * total / (BLOCKS - 1) / BLOCKS / 0.25
    correlation = max(0.0, float(np.sum(off[1:] * off[:-1])) / total)
    return max(1.0, ratio * (1 + correlation) / (1 - correlation))


def median_interval(values: np.ndarray) -> tuple[float, float]:
    """95 % interval of the median by order statistics, wider where values depend on each other.

    Args:
        values: (n,) in the order in which they were measured.

    Returns:
        Lower and upper end, in the unit of the values; NaN where there are too few to give any.
    """
    n, each = len(values), dependence(values)
    if n < FEWEST:
        return float("nan"), float("nan")
    reach = (Z if each == 1 else T) * np.sqrt(n * each)
    rank = int(np.floor((n - reach) / 2))  # from below, and its mirror from above
    if rank < 1:
        # between FEWEST and 8 values the extremes still bound an independent sample's median
        if each > 1:
            return float("nan"), float("nan")
        rank = 1
    ordered = np.sort(values)
    return float(ordered[rank - 1]), float(ordered[n - rank])


def interval_pct(low: float, high: float, median: float) -> float:
    """Width of an interval in per cent of the median."""
    return 100 * (high - low) / median


def window_medians(values: np.ndarray) -> np.ndarray:
    """(WINDOWS,) medians of consecutive windows; of fewer values each one is a window.

    If windows are independent, the true median lies between the lowest and the highest of them
    with probability 1 - 2**(1 - WINDOWS), 99 %, whatever the distribution: each window's median is
    as likely below as above it.
    """
    windows = np.array_split(values, min(WINDOWS, len(values)))
    return np.array([np.median(window) for window in windows])
