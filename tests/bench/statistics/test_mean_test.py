"""Verdicts on a mean of a few values, and differences of estimates. Oracle: scipy."""

import math

import numpy as np
import pytest
from scipy import stats

from bench.statistics.mean_test import Estimate, difference, mean_estimate, mean_evidence
from vgg_deploy.statistics.evidence import LEVEL, Verdict, verdicts


@pytest.mark.parametrize("n", [2, 3, 10])
def test_mean_and_verdict_are_those_of_students_t(n):
    values = np.random.default_rng(n).normal(500, 3, n)
    found = mean_estimate(values)
    expected = stats.t.interval(0.95, n - 1, values.mean(), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(expected)
    for limit in (490.0, 500.0, 503.0):
        one = mean_evidence(values, limit)
        assert one.p_fail == pytest.approx(
            stats.ttest_1samp(values, limit, alternative="greater").pvalue, abs=1e-12
        )
        assert one.p_pass == pytest.approx(
            stats.ttest_1samp(values, limit, alternative="less").pvalue, abs=1e-12
        )
        assert (one.p_fail <= LEVEL) == (limit <= one.low)
        assert (one.p_pass <= LEVEL) == (limit >= one.high)


def test_equal_values_are_certain():
    values = np.full(3, 512.0)
    limits = (511.0, 512.0, 513.0)
    answers = [verdicts([mean_evidence(values, limit)])[0] for limit in limits]
    assert answers == [Verdict.FAIL, Verdict.PASS, Verdict.PASS]


def test_a_mean_at_its_limit_fails_in_one_run_of_twenty():
    """Oracle: the level of the test, for peaks of three processes."""
    rng = np.random.default_rng(0)
    fails = sum(mean_evidence(rng.normal(600, 2, 3), 600.0).p_fail <= LEVEL for _ in range(1500))
    assert fails / 1500 == pytest.approx(LEVEL, abs=4 * math.sqrt(LEVEL * (1 - LEVEL) / 1500))


def test_an_interval_of_a_difference():
    """Oracle: of two normal means it is that of their standard errors' root sum of squares."""
    first, second = Estimate(10, 8, 12), Estimate(15, 14.5, 15.5)
    found = difference(first, second)
    reach = math.hypot(2, 0.5)
    assert found == pytest.approx((5, 5 - reach, 5 + reach))
    assert math.isnan(difference(Estimate(1, math.nan, math.nan), second).low)
    assert difference(Estimate(1, 0, 5), Estimate(2, 2, 2)) == pytest.approx((1, -3, 2))
