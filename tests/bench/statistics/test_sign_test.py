"""Verdicts on a median by the sign test. Oracles: scipy's binomial, and simulations."""

import numpy as np
import pytest
from scipy import stats

from bench.statistics.sign_test import median_evidence
from vgg_deploy.statistics.evidence import LEVEL, Verdict, verdicts

ROUNDS = 30
SEEDS = 1500


@pytest.fixture
def independent(monkeypatch):
    """Values count in full, as they are independent here."""
    monkeypatch.setattr("bench.statistics.sign_test.dependence", lambda values: 1.0)


@pytest.mark.parametrize("n", [1, 5, 30, 101])
def test_p_values_are_those_of_the_binomial_distribution(independent, n):
    values = np.random.default_rng(n).normal(size=n)
    for limit in (-1.0, 0.0, 0.4, 9.0):
        found = median_evidence(values, limit)
        above = int((values > limit).sum())
        expected = [stats.binomtest(k, n, 0.5, "greater").pvalue for k in (above, n - above)]
        assert [found.p_fail, found.p_pass] == pytest.approx(expected, rel=1e-9)
        assert found.estimate == pytest.approx(np.median(values)) and found.images == n


@pytest.mark.parametrize("n", [4, 5, 30, 57])
def test_bounds_are_the_test_inverted(independent, n):
    values = np.random.default_rng(n).normal(size=n)
    bounds = median_evidence(values, 0.0)
    edges = np.concatenate([values - 1e-9, values + 1e-9, [-99.0, 99.0]])
    for limit in edges:
        found = median_evidence(values, float(limit))
        assert (found.low, found.high) == (bounds.low, bounds.high)
        assert (found.p_fail <= LEVEL) == (limit < bounds.low)
        assert (found.p_pass <= LEVEL) == (limit >= bounds.high)
    assert np.isinf(bounds.low) == (n < 5)  # 1/2^5 is the first power below 5 %


def test_equal_files_fail_as_often_as_the_binomial_distribution_says(independent):
    """Ratios with their median at the limit: the closed form is the tail of 30 coin throws."""
    rng, fails, passes = np.random.default_rng(3), 0, 0
    for _ in range(SEEDS):
        found = median_evidence(rng.standard_t(2, ROUNDS), 0.0)  # a heavy tail changes nothing
        (verdict,) = verdicts([found])
        fails += verdict == Verdict.FAIL
        passes += verdict == Verdict.PASS
    expected = stats.binom.sf(19, ROUNDS, 0.5)
    assert expected == pytest.approx(0.0494, abs=1e-4) and expected <= LEVEL
    spread = 4 * np.sqrt(expected * (1 - expected) / SEEDS)
    assert fails / SEEDS == pytest.approx(expected, abs=spread)
    assert passes / SEEDS == pytest.approx(expected, abs=spread)


def test_equal_files_are_not_flagged_by_a_limit_of_ten_per_cent():
    """Noise of 5 %: all 30 rounds of all seeds show it, so the files pass."""
    rng = np.random.default_rng(4)
    found = [median_evidence(100 * rng.normal(0, 0.05, ROUNDS), 10.0) for _ in range(200)]
    assert {verdict for one in found for verdict in verdicts([one])} == {Verdict.PASS}


def test_values_that_depend_on_each_other_count_as_fewer():
    """A slow drift around the limit: taken for independent, it would fail far too often."""
    rng, as_independent, found = np.random.default_rng(5), 0, 0
    for _ in range(200):
        drift = np.cumsum(rng.normal(size=120))
        values = drift - np.median(drift) + 3 * rng.choice([-1, 1])
        above = int((values > 0).sum())
        as_independent += stats.binom.sf(above - 1, 120, 0.5) <= LEVEL
        found += median_evidence(values, 0.0).p_fail <= LEVEL
    assert found < as_independent / 4
