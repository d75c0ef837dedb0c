"""Arrivals, percentiles and the knee of a load curve, against closed forms."""

import math
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats

from vgg_deploy.load_curve.arrivals import even_arrivals, poisson_arrivals
from vgg_deploy.load_curve.knee import knee
from vgg_deploy.load_curve.measures import LoadPoint, load_point, nearest_rank


def test_gaps_are_exponential_and_counts_are_poisson():
    """scipy's Kolmogorov-Smirnov test of the gaps; variance over mean of the counts is 1."""
    times = poisson_arrivals(40.0, 20_000, seed=3)
    gaps = np.diff(times, prepend=0.0)
    assert scipy.stats.kstest(gaps, scipy.stats.expon(scale=1 / 40).cdf).pvalue > 0.01
    counts = np.bincount(times.astype(int))[:-1]
    assert counts.mean() == pytest.approx(40, rel=0.03)
    assert counts.var() / counts.mean() == pytest.approx(1, abs=0.2)


def test_a_seed_gives_the_same_times_at_another_pace():
    slow, fast = poisson_arrivals(2.0, 100, 5), poisson_arrivals(8.0, 100, 5)
    np.testing.assert_allclose(slow, 4 * fast, rtol=1e-15)
    assert (poisson_arrivals(2.0, 100, 6) != slow).all()
    assert (np.diff(slow) > 0).all() and slow[0] > 0


def test_even_arrivals():
    assert even_arrivals(4.0, 5).tolist() == [0, 0.25, 0.5, 0.75, 1.0]
    assert not len(even_arrivals(4.0, 0))


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_impossible_rates_are_refused(rate):
    with pytest.raises(ValueError, match="expected a rate above 0"):
        poisson_arrivals(rate, 3, 0)
    with pytest.raises(ValueError, match="expected a rate above 0"):
        even_arrivals(rate, 3)


@pytest.mark.parametrize("count", [1, 2, 99, 100, 101, 1000])
@pytest.mark.parametrize("percent", [1, 50, 99, 99.9, 100])
def test_percentiles_by_their_definition(count, percent):
    values = np.random.default_rng(count).permutation(np.arange(count) * 1.5)
    expected = min(v for v in values if 100 * (values <= v).sum() >= percent * count)
    assert nearest_rank(values, percent) == expected


def test_no_percentile_of_nothing():
    with pytest.raises(ValueError, match="0 values"):
        nearest_rank([], 50)
    with pytest.raises(ValueError, match="not defined"):
        nearest_rank([1.0], 0)


def test_a_queue_with_a_known_wait():
    """One server, 10 ms a request, arrivals every 5 ms: request i waits 5 ms times i.

    The latency counts from the arrival, and answers come every 10 ms: 100 per second.
    """
    due = even_arrivals(200.0, 101)
    point = load_point(200.0, due, 0.010 * np.arange(1, 102))
    assert (point.requests, point.failed) == (101, 0)
    assert point.throughput == pytest.approx(100)
    assert point.p50 == pytest.approx(10 + 5 * 50)
    assert point.p99 == pytest.approx(10 + 5 * 99)
    assert point.longest == pytest.approx(10 + 5 * 100)


def test_requests_without_an_answer_are_counted():
    due = even_arrivals(10.0, 4)
    point = load_point(10.0, due, due + np.array([0.1, math.nan, 0.3, 0.2]))
    assert (point.requests, point.failed) == (4, 1)
    assert point.throughput == pytest.approx(3 / 0.5)
    assert point.p50 == pytest.approx(200)
    with pytest.raises(ValueError, match="none of 2 requests"):
        load_point(1.0, np.zeros(2), np.full(2, math.nan))
    with pytest.raises(ValueError, match="arrivals"):
        load_point(1.0, np.zeros(2), np.zeros(3))


def test_the_knee_is_below_the_first_load_over_the_limit():
    """An M/M/1 queue: its p99 is ln(100) / (mu - lambda), so the limit gives the load."""
    mu = 100.0

    def point(rate: float) -> LoadPoint:
        scale = 1000 / (mu - rate)
        return LoadPoint(rate, 1000, 0, rate, math.log(2) * scale, math.log(100) * scale, 0.0)

    points = [point(rate) for rate in (90, 10, 70, 30, 50, 80, 20, 60, 40)]
    limit = 4 * 1000 * math.log(100) / mu  # four times the p99 of an empty queue: lambda = 75
    assert knee(points, limit) == point(70)
    assert knee(points, 1e9) == point(90)
    assert knee(points, 1.0) is None
    assert knee([], 1.0) is None
    lucky = [*points, replace(point(20), offered=95.0)]
    assert knee(lucky, limit) == point(70)
    lost = [replace(p, failed=1) if p.offered == 50 else p for p in points]
    assert knee(lost, limit) == point(40)
