"""Binomial probabilities and the exact bounds of a proportion, in NumPy alone."""

import math
from functools import cache, lru_cache

import numpy as np

from vgg_deploy.statistics.inversion import invert

REACH = 9.0  # standard deviations; counts farther out weigh less than 1e-15 and are left out
SLACK = 45  # more counts on each side, because a binomial with a small mean is skewed
TOLERANCE = 1e-12  # of a bound
TINY, EPSILON = 1e-300, 2.0**-53  # the smallest chance, and the smallest distance from 1


def log_factorials(largest: int) -> np.ndarray:
    """Table of log(k!).

    Args:
        largest: The largest k that is needed.

    Returns:
        log(k!) for k = 0 .. at least `largest`, float64, read-only.
    """
    return _log_factorials(2 ** max(10, largest.bit_length()))


@cache
def _log_factorials(largest: int) -> np.ndarray:
    table = np.zeros(largest + 1)
    np.cumsum(np.log(np.arange(1, largest + 1, dtype=np.float64)), out=table[1:])
    table.setflags(write=False)
    return table


def pmf(counts: np.ndarray, trials: np.ndarray | int, chance: np.ndarray | float) -> np.ndarray:
    """P(X = count) for X ~ Binomial(trials, chance); 0 for impossible counts.

    Args:
        counts: (J,) int, k.
        trials: (J,) int, or one number, n.
        chance: One number, or (G, 1), p.

    Returns:
        (J,), or (G, J): n! / (k! (n - k)!) p^k (1 - p)^(n - k).
    """
    possible = (counts >= 0) & (counts <= trials)
    k = np.where(possible, counts, 0)
    rest = trials - k
    table = log_factorials(int(np.max(trials)))
    log_choose = table[trials] - table[k] - table[rest]
    chance = np.clip(chance, TINY, 1 - EPSILON)  # so that 0 * log(0) is 0 and not NaN
    values: np.ndarray = k * np.log(chance)
    values += rest * np.log1p(-chance)
    values += log_choose
    np.exp(values, out=values)
    values *= possible
    return values


def likely_counts(trials: int, lowest: float, highest: float) -> tuple[int, int]:
    """First and last count that can be expected of a chance between lowest and highest.

    Args:
        trials: Number of trials.
        lowest: Smallest chance.
        highest: Largest chance.
    """
    below = REACH * math.sqrt(trials * lowest * (1 - lowest)) + SLACK
    above = REACH * math.sqrt(trials * highest * (1 - highest)) + SLACK
    first = math.floor(trials * lowest - below)
    last = math.ceil(trials * highest + above)
    return max(0, first), min(trials, last)


def at_most(count: int, trials: int, chance: float) -> float:
    """P(X <= count) for X ~ Binomial(trials, chance)."""
    if count <= trials * chance:  # the smaller tail is summed
        return _lower_tail(count, trials, chance)
    return max(0.0, 1.0 - _upper_tail(count + 1, trials, chance))


def at_least(count: int, trials: int, chance: float) -> float:
    """P(X >= count) for X ~ Binomial(trials, chance)."""
    if count >= trials * chance:
        return _upper_tail(count, trials, chance)
    return max(0.0, 1.0 - _lower_tail(count - 1, trials, chance))


@lru_cache(maxsize=64)
def upper_bound(count: int, trials: int, alpha: float) -> float:
    """Largest chance under which `count` or fewer still happen with probability alpha.

    Args:
        count: Number of hits.
        trials: Number of trials.
        alpha: The bound has confidence 1 - alpha, one-sided.

    Example:
        >>> round(upper_bound(0, 40, 0.05), 6), round(1 - 0.05 ** (1 / 40), 6)
        (0.072158, 0.072158)

    Source:
        Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of
        the binomial" (Biometrika, 1934).
    """
    if count >= trials:
        return 1.0
    estimate = count / trials
    spread = -math.log(alpha)
    reach = (math.sqrt(2 * spread * count) + spread) / trials
    guesses = (estimate + reach, estimate + reach / 2)

    def p_value(chance: float) -> float:
        return at_most(count, trials, chance)

    return invert(p_value, estimate, 1.0, alpha, guesses, TOLERANCE)


def lower_bound(count: int, trials: int, alpha: float) -> float:
    """Smallest chance under which `count` or more still happen with probability alpha.

    Args:
        count: Number of hits.
        trials: Number of trials.
        alpha: As `upper_bound`.
    """
    return 1.0 - upper_bound(trials - count, trials, alpha)


def _lower_tail(count: int, trials: int, chance: float) -> float:
    first = max(0, count - _reach(trials, chance))
    return _total(first, count, trials, chance)


def _upper_tail(count: int, trials: int, chance: float) -> float:
    last = min(trials, count + _reach(trials, chance))
    return _total(count, last, trials, chance)


def _reach(trials: int, chance: float) -> int:
    return math.ceil(REACH * math.sqrt(trials * chance * (1 - chance))) + SLACK


def _total(first: int, last: int, trials: int, chance: float) -> float:
    counts = np.arange(first, last + 1)
    return min(1.0, float(pmf(counts, trials, chance).sum()))
