"""Tests a difference of two error rates that were measured on the same images, exactly.

Of n images, b are right only by the first model and c only by the second. They are multinomial with
chances p10 and p01, and the difference is d = p10 - p01. Outcomes are ordered by the score
statistic T of the hypothesis p10 - p01 = d. The p-value is the largest chance, over all p01 that
the data leave possible, of an outcome at least as far out as the one observed.

The test is exact and unconditional: its error is at most the level for every p01, also with few
images and with no differing image at all, where the normal approximation is not. The hypothesis
"at least d" needs no more than "exactly d", because the set {T <= t} grows when images move from b
to "both alike" or from "both alike" to c.

Sources: Tango, "Equivalence test and confidence interval for the difference in proportions for the
paired-sample design" (Statistics in Medicine, 1998): T. Berger and Boos, "P values maximized over
a confidence set for the nuisance parameter" (JASA, 1994): the range of p01. Sidik, "Exact
unconditional tests for testing non-inferiority in matched-pairs design" (Statistics in Medicine,
2003): the combination.
"""

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from vgg_deploy.statistics import binomial
from vgg_deploy.statistics.inversion import invert

GAMMA = 1e-5  # chance that p01 lies outside the range searched; part of every p-value
COARSE = 24  # values of p01 over that range: more than two per standard deviation of c
PEAKS = 3  # of the coarse grid, that are searched closely
FINE = 9  # values around each of them, and again around the highest
SAME = 1e-9  # values of T closer than this are ties


class Table(NamedTuple):
    """How two models did on the same images."""

    only_first: int  # b, images that only the first model has right
    only_second: int  # c, images that only the second model has right
    images: int  # n, number of all images


@lru_cache(maxsize=4096)
def p_of_at_least(table: Table, difference: float) -> float:
    """p-value of the hypothesis p10 - p01 >= difference; small when b - c is too small for it.

    Args:
        table: The counts.
        difference: d in [-1, 1], as a fraction.
    """
    if difference < 0:
        return p_of_at_most(_swapped(table), -difference)
    if difference == 1:  # then only the first model is right, on every image
        return 1.0 if table.only_first == table.images else 0.0
    boundary = _Boundary(table, difference, ties=True)
    return min(1.0, boundary.largest_chance(1) + GAMMA)


@lru_cache(maxsize=4096)
def p_of_at_most(table: Table, difference: float) -> float:
    """p-value of the hypothesis p10 - p01 <= difference; small when b - c is too large for it.

    Args:
        table: The counts.
        difference: d in [-1, 1], as a fraction.
    """
    if difference < 0:
        return p_of_at_least(_swapped(table), -difference)
    if difference == 1:
        return 1.0
    boundary = _Boundary(table, difference, ties=False)
    return min(1.0, 1 + boundary.largest_chance(-1) + GAMMA)


def bounds(table: Table, level: float, guesses: Iterable[float] = ()) -> tuple[float, float]:
    """Lower and upper bound of p10 - p01, each one-sided with confidence 1 - level.

    Args:
        table: The counts.
        level: Of each side.
        guesses: Differences at which the bounds must agree with the p-values.
    """
    estimate = (table.only_first - table.only_second) / table.images
    # roughly where the bounds are, by the normal distribution
    reach = math.sqrt(-2 * math.log(level) * (table.only_first + table.only_second + 1))
    steps = (0.5 * reach / table.images, reach / table.images)

    def p_at_most(difference: float) -> float:
        return p_of_at_most(table, difference)

    def p_at_least(difference: float) -> float:
        return p_of_at_least(table, difference)

    lows = (*guesses, *(estimate - step for step in steps))
    highs = (*guesses, *(estimate + step for step in steps))
    low = invert(p_at_most, estimate, -1.0, level, lows)
    high = invert(p_at_least, estimate, 1.0, level, highs)
    return low, high


def score_statistic(
    only_first: np.ndarray | int, only_second: np.ndarray | int, images: int, difference: float
) -> np.ndarray:
    """Tango's T: the distance of b - c from its mean under the hypothesis, in standard deviations.

    Args:
        only_first: b; broadcasts with c.
        only_second: c.
        images: n.
        difference: d in [0, 1].

    Returns:
        T, of the common shape of b and c; 0 where b - c is as expected.
    """
    n, d = images, difference
    b = np.asarray(only_first, np.float64)
    c = np.asarray(only_second, np.float64)
    # p01 of the largest likelihood under p10 = p01 + d: the root of 2 n q^2 + linear q + constant
    linear = (2 * n - b + c) * d - b - c
    constant = -c * d * (1 - d)
    p01 = (np.sqrt(linear * linear - 8 * n * constant) - linear) / (4 * n)
    distance = b - c - n * d
    variance = n * (2 * p01 + d * (1 - d))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.abs(distance) < SAME, 0.0, distance / np.sqrt(variance))


class _Boundary:
    """The outcomes with T below (or at) the observed one, as the largest b for each c.

    Attributes:
        c: (counts,) int, all c that can be expected.
        largest: (counts,) int, the largest b that is inside for each c; -1 where none is.
        p01_low: Smallest p01 that the data leave possible.
        p01_high: Largest p01 that the data leave possible.
    """

    def __init__(self, table: Table, difference: float, ties: bool):
        """Find the boundary.

        Args:
            table: The counts that were observed.
            difference: d in [0, 1).
            ties: Whether outcomes with the observed T are inside.
        """
        self.images, self.difference = table.images, difference
        self.most = (1 - difference) / 2  # the largest p01: p10 + p01 is at most 1
        low = binomial.lower_bound(table.only_second, table.images, GAMMA / 2)
        high = binomial.upper_bound(table.only_second, table.images, GAMMA / 2)
        self.p01_low, self.p01_high = min(self.most, low), min(self.most, high)
        first, last = binomial.likely_counts(table.images, self.p01_low, self.p01_high)
        self.c = np.arange(first, last + 1)
        b, c, n = table
        observed = float(score_statistic(b, c, n, difference))
        self.largest = self._largest(observed + SAME if ties else observed - SAME)

    def _largest(self, threshold: float) -> np.ndarray:
        """For every c, the largest b with T <= threshold, by bisection; T grows with b."""
        below = np.full(len(self.c), -1)
        above = np.full(len(self.c), self.images + 1)
        while (above - below > 1).any():
            middle = (below + above) // 2
            inside = score_statistic(middle, self.c, self.images, self.difference) <= threshold
            below = np.where(inside, np.maximum(middle, below), below)
            above = np.where(inside, above, np.minimum(middle, above))
        return np.maximum.accumulate(below)

    def largest_chance(self, sign: int) -> float:
        """Largest value of sign * P(inside) over the range of p01.

        There may be several peaks: the highest of a coarse grid are searched closely.
        """
        # evenly spaced angles: on that scale a count has about the same spread everywhere
        ends = np.arcsin(np.sqrt(np.array([self.p01_low, self.p01_high]) / self.most))
        low, high = float(ends[0]), float(ends[1])
        angles = np.linspace(low, high, COARSE)
        chances = sign * self.chance(self._p01(angles))
        best = float(chances.max())
        step = angles[1] - angles[0]
        padded = np.concatenate([[-np.inf], chances, [-np.inf]])
        peaks = np.flatnonzero((chances >= padded[:-2]) & (chances >= padded[2:]))
        highest = peaks[np.argsort(chances[peaks])[-PEAKS:]]
        for _ in range(2):
            near = angles[highest, None] + step * np.linspace(-1, 1, FINE)
            angles = np.clip(near, low, high).ravel()
            chances = sign * self.chance(self._p01(angles))
            highest = np.array([int(chances.argmax())])
            best = max(best, float(chances[highest[0]]))
            step *= 2 / (FINE - 1)
        return best

    def _p01(self, angles: np.ndarray) -> np.ndarray:
        p01: np.ndarray = self.most * np.sin(angles) ** 2
        return p01

    def chance(self, p01: np.ndarray) -> np.ndarray:
        """P(inside) for every p01.

        Given c, b is binomial with n - c trials and chance p10 / (1 - p01). P(b <= largest) is
        computed for the first c and carried along the boundary: P(X <= k) of N - 1 trials is that
        of N trials plus P(hit) P(X = k of N - 1), and P(X <= k + 1) adds P(X = k + 1). All terms
        are positive.

        Args:
            p01: (values,).

        Returns:
            (values,).
        """
        n, c, k = self.images, self.c, self.largest
        p01 = p01[:, None]
        hit = np.minimum(1.0, (p01 + self.difference) / (1 - p01))
        least, most = binomial.likely_counts(n - c[0], float(hit.min()), float(hit.max()))
        start = np.arange(least, min(most, k[0]) + 1)
        inside = np.zeros((len(p01), len(c)))
        inside += binomial.pmf(start, n - c[0], hit).sum(axis=1, keepdims=True)
        fewer_trials = hit * binomial.pmf(k[:-1], n - c[1:], hit)
        inside[:, 1:] += np.cumsum(fewer_trials, axis=1)
        more = np.arange(k[0] + 1, k[-1] + 1)
        if len(more):
            reached = np.searchsorted(k, more)  # the first c with a boundary that includes this b
            added = np.cumsum(binomial.pmf(more, n - c[reached], hit), axis=1)
            padded = np.concatenate([np.zeros((len(p01), 1)), added], axis=1)
            inside += padded[:, k - k[0]]
        total: np.ndarray = (binomial.pmf(c, n, p01) * np.minimum(1.0, inside)).sum(axis=1)
        return total


def _swapped(table: Table) -> Table:
    return Table(table.only_second, table.only_first, table.images)
