"""Paired statistics against enumeration and simulation."""

from itertools import product

import numpy as np
import pytest

from bench.compare import mcnemar_p, paired_interval_pct


def test_mcnemar_is_the_share_of_coin_throws_at_least_as_uneven():
    """Oracle: all 2^n outcomes."""
    for n in range(1, 11):
        throws = [sum(outcome) for outcome in product((0, 1), repeat=n)]
        for b in range(n + 1):
            wanted = np.mean([abs(heads - n / 2) >= abs(b - n / 2) for heads in throws])
            assert mcnemar_p(b, n - b) == pytest.approx(wanted), (b, n)
    assert mcnemar_p(0, 0) == 1
    assert mcnemar_p(4000, 4400) == pytest.approx(1.3e-5, rel=0.1)  # large counts neither overflow nor vanish


@pytest.mark.parametrize(("only_first", "only_second", "images"), [(0.02, 0.02, 1000), (0.05, 0.01, 300), (0.3, 0.2, 200)])
def test_the_interval_covers_the_true_difference_19_times_of_20(only_first, only_second, images):
    """Oracle: data drawn with a known difference."""
    rng, hits, runs = np.random.default_rng(0), 0, 4000
    for b, c, _ in rng.multinomial(images, [only_first, only_second, 1 - only_first - only_second], runs):
        low, high = paired_interval_pct(int(b), int(c), images)
        hits += low <= 100 * (only_first - only_second) <= high
    assert 0.94 < hits / runs < 0.975


def test_no_difference_seen_is_not_no_difference():
    low, high = paired_interval_pct(0, 0, 100)
    assert low == -high and 1 < high < 3
