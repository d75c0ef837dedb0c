"""Judges a median by a limit: the sign test, which holds for any distribution.

Values above a limit that equals the median are throws of a fair coin. So the verdict rests on their
number alone, and its chance of error is that of the binomial distribution.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from bench.statistics.median import dependence
from vgg_deploy.statistics import binomial
from vgg_deploy.statistics.evidence import LEVEL, Evidence


class Worth(NamedTuple):
    """How many independent values some values are worth.

    Attributes:
        values: Number of values.
        independent: The number that they are worth, rounded down.
    """

    values: int
    independent: int

    def count(self, counted: int) -> int:
        """A number of the values as one of the independent values, rounded down."""
        return counted * self.independent // self.values

    def needed(self, level: float) -> int:
        """Fewest values on one side of a limit that show on which side of it the median lies.

        Args:
            level: Chance of a wrong conclusion.

        Returns:
            More than all values where no number shows it.
        """
        return math.ceil(_enough(self.independent, level) * self.values / self.independent)


@lru_cache(maxsize=64)
def _enough(throws: int, level: float) -> int:
    """Fewest heads that a fair coin gives with a chance of at most `level`; throws + 1 if none."""
    enough = (k for k in range(throws + 1) if binomial.at_least(k, throws, 0.5) <= level)
    return next(enough, throws + 1)


def median_evidence(values: np.ndarray, limit: float) -> Evidence:
    """What values show about their median and a limit.

    The bounds are the test inverted: p_fail <= 0.05 exactly where the lower bound is above the
    limit, and p_pass <= 0.05 exactly where the upper bound is not.

    Args:
        values: (n,) in the order in which they were measured, at least one.
        limit: The largest median that is allowed, in their unit.

    Returns:
        In the unit of the values. Where they depend on each other, they count as fewer.
    """
    n = len(values)
    worth = Worth(n, max(1, int(n / dependence(values))))
    above = int((values > limit).sum())
    needed, ordered = worth.needed(LEVEL), np.sort(values)
    return Evidence(
        estimate=float(np.median(values)),
        low=float(ordered[n - needed]) if needed <= n else -math.inf,
        high=float(ordered[needed - 1]) if needed <= n else math.inf,
        p_pass=binomial.at_least(worth.count(n - above), worth.independent, 0.5),
        p_fail=binomial.at_least(worth.count(above), worth.independent, 0.5),
        images=n,
    )
