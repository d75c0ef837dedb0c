"""Paired statistics against enumeration and simulation."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from bench.accuracy.compare import mcnemar_p, paired_interval_pct


def test_mcnemar_is_the_share_of_coin_throws_at_least_as_uneven():
    """Oracle: all 2^n outcomes."""
    for n in range(1, 11):
        throws = [sum(outcome) for outcome in product((0, 1), repeat=n)]
        for b in range(n + 1):
            expected = np.mean([abs(heads - n / 2) >= abs(b - n / 2) for heads in throws])
            assert mcnemar_p(b, n - b) == pytest.approx(expected), (b, n)
    assert mcnemar_p(0, 0) == 1
    # large counts neither overflow nor vanish
    assert mcnemar_p(4000, 4400) == pytest.approx(1.3e-5, rel=0.1)


@pytest.mark.parametrize(
    ("only_first", "only_second", "images"), [(0.03, 0.01, 100), (0.002, 0.0, 200)]
)
@pytest.mark.slow
def test_the_interval_covers_the_true_difference_19_times_of_20(only_first, only_second, images):
    """Oracle: the chance of every table that can occur, summed where its interval is right."""
    chances = [only_first, only_second, 1 - only_first - only_second]
    covered = occurs = 0.0
    for b, c in product(range(13), range(8)):
        chance = float(stats.multinomial.pmf([b, c, images - b - c], images, chances))
        if chance > 1e-6:
            low, high = paired_interval_pct(b, c, images)
            occurs += chance
            covered += chance * (low <= 100 * (only_first - only_second) <= high)
    assert occurs > 0.999
    assert covered / occurs >= 0.95


def test_the_interval_is_no_wider_than_it_must_be():
    """Oracle: the normal distribution, which is right where thousands of images differ."""
    low, high = paired_interval_pct(3000, 2500, 50_000)
    half = 100 * 1.959964 * np.sqrt(5500 - 500**2 / 50_000) / 50_000
    assert (low, high) == pytest.approx((1 - half, 1 + half), abs=0.02 * half)


def test_no_difference_seen_is_not_no_difference():
    """Oracle: a difference d stays unseen on 100 images with probability (1 - d)^100.

    A 95 % bound is at least where that is 2.5 %. It lies a little farther out, because a net that
    also wins images could look the same.
    """
    low, high = paired_interval_pct(0, 0, 100)
    exact = 100 * (1 - 0.025**0.01)
    assert low == -high and exact <= high < exact + 0.1
