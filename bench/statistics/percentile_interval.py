"""An interval of any percentile of measured times, by order statistics.

The number of values below the true percentile is binomial if values are independent. Latencies of
one queue are not: a long wait is followed by others. So their number is divided by the number of
consecutive values that are worth one independent value, as for medians. That number is estimated
from the same values, so the bounds are approximate then: in simulated queues with Poisson arrivals
and 50 to 90 % load, 85 to 95 % of the intervals of 2,000 queries held the true percentile.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bench.statistics.median import dependence_of
from vgg_deploy.load_curve.measures import nearest_rank
from vgg_deploy.statistics.binomial import at_least, at_most

TAIL = 0.025  # chance of a percentile beyond each end
NAN = float("nan")


@dataclass(frozen=True)
class Percentile:
    """A percentile and its 95 % interval.

    Attributes:
        value: By the nearest rank.
        low: Lower end; NaN where there are too few values.
        high: Upper end; NaN where there are too few values.
        needed: How many values such an interval needs, as they depend on each other here.
        there: Number of values.
    """

    value: float
    low: float
    high: float
    needed: int
    there: int

    @property
    def enough(self) -> bool:
        """Whether there are enough values for both ends."""
        return not math.isnan(self.low) and not math.isnan(self.high)


def independent_values_needed(percent: float) -> int:
    """Smallest number of independent values whose largest one bounds a percentile.

    All of n values lie below the percentile with the chance (percent / 100)^n. Of percentiles
    below the median the smallest value is what needs so many.

    Example:
        >>> independent_values_needed(99), independent_values_needed(50)
        (368, 6)

    Args:
        percent: Above 0 and below 100.
    """
    share = max(percent, 100 - percent) / 100
    return math.ceil(math.log(TAIL) / math.log(share))


def ranks(count: int, percent: float) -> tuple[int, int]:
    """Ranks, from 1, of the values that bound a percentile of independent values.

    Args:
        count: Number of values, at least 1.
        percent: Above 0 and below 100.

    Returns:
        Lower and upper rank; 0 and count + 1 where no value is a bound.
    """
    share = percent / 100
    low = _first(count, lambda rank: at_most(rank - 1, count, share) > TAIL) - 1
    high = _first(count, lambda rank: at_least(rank, count, share) <= TAIL)
    return low, high


def percentile(values: np.ndarray, percent: float) -> Percentile:
    """Compute a percentile with its interval.

    Args:
        values: (n,) in the order in which they arose, at least one.
        percent: Above 0 and below 100.
    """
    value, share = nearest_rank(values, percent), percent / 100
    worth = dependence_of((values > value).astype(float), share * (1 - share))
    count = len(values)
    independent = max(1, math.floor(count / worth))
    low, high = ranks(independent, percent)
    ordered = np.sort(values)
    # the k-th of few values stands for a share of k - 1 to k of all
    first = math.floor((low - 1) * count / independent) + 1
    last = math.ceil(high * count / independent)
    return Percentile(
        value=value,
        low=float(ordered[first - 1]) if low >= 1 else NAN,
        high=float(ordered[last - 1]) if high <= independent else NAN,
        needed=math.ceil(independent_values_needed(percent) * worth),
        there=count,
    )


def _first(count: int, holds: Callable[[int], bool]) -> int:
    """The first rank from 1 on for which something holds, that holds for all later ones too."""
    low, high = 1, count + 1
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low
