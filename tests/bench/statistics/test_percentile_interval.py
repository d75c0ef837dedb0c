"""Intervals of percentiles against scipy, and their coverage in a queue."""

import math

import numpy as np
import pytest
import scipy.stats

from bench.statistics import percentile_interval
from bench.statistics.percentile_interval import independent_values_needed, percentile, ranks
from vgg_deploy.load_curve.arrivals import poisson_arrivals
from vgg_deploy.load_curve.queueing import simulate_queue


@pytest.mark.parametrize("count", [6, 40, 367, 368, 1000])
@pytest.mark.parametrize("percent", [50, 90, 99])
def test_ranks_are_those_of_scipys_quantile_test(count, percent):
    low, high = ranks(count, percent)
    tested = scipy.stats.quantile_test(np.arange(1.0, count + 1), q=0, p=percent / 100)
    expected = tested.confidence_interval(0.95)
    assert (low or math.nan) == pytest.approx(expected.low, nan_ok=True)
    assert (high if high <= count else math.nan) == pytest.approx(expected.high, nan_ok=True)


def test_how_many_values_an_interval_needs():
    """By scipy: with one value less the largest one is no bound."""
    for percent in (50, 75, 90, 99, 99.9):
        needed = independent_values_needed(percent)
        beyond = scipy.stats.binom.pmf([needed, needed - 1], [needed, needed - 1], percent / 100)
        assert beyond[0] <= 0.025 < beyond[1]
    assert percentile(np.random.default_rng(0).random(368), 99).enough
    few = percentile(np.random.default_rng(0).random(367), 99)
    assert not few.enough and few.needed == 368 and few.there == 367


def test_values_that_depend_on_each_other_widen_the_interval():
    values = np.random.default_rng(1).exponential(size=1000)
    alone, together = percentile(values, 90), percentile(np.repeat(values, 8)[:8000], 90)
    assert together.value == pytest.approx(alone.value, rel=0.05)
    independent = percentile(np.random.default_rng(2).exponential(size=8000), 90)
    assert together.high - together.low > 1.8 * (independent.high - independent.low)
    assert together.needed > 4 * independent.needed


def test_values_that_only_grow_bound_little():
    """A thousand of them are worth about a hundred: too few for an upper end."""
    found = percentile(np.arange(1000.0), 99)
    assert found.low < 965 < found.value == 989 and math.isnan(found.high)
    assert found.needed > 3680


@pytest.mark.slow
@pytest.mark.parametrize("percent", [50, 90, 99])
def test_coverage_in_a_queue_at_70_per_cent_load(percent):
    """M/D/1, 3,000 queries; the truth is that of 200,000."""

    def latencies(queries: int, seed: int) -> np.ndarray:
        due = poisson_arrivals(70.0, queries, seed)
        return simulate_queue(due, lambda count: 0.01) - due

    truth = np.percentile(latencies(200_000, 0), percent)
    found = [percentile(latencies(3_000, seed), percent) for seed in range(1, 61)]
    held = [one.low <= truth and not one.high < truth for one in found]
    assert np.mean(held) >= 0.86, "nominal 95 %, approximate where values depend on each other"


def test_ranks_are_symmetric_around_the_median():
    low, high = ranks(100, 50)
    assert (low, high) == (40, 61) and low + high == 101
    assert percentile_interval.TAIL == 0.025
