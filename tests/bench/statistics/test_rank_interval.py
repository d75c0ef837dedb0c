"""The interval of Spearman's correlation: Student's t and the jackknife, and by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from bench.statistics import student
from bench.statistics.rank_interval import LEAST_PHOTOS, rank_correlation
from vgg_deploy.statistics.evidence import LEVEL, Verdict, verdicts


def test_students_t_is_scipys():
    for degrees in (*range(1, 40), 100, 999):
        for t in (-30.0, -2.5, -0.1, 0.0, 0.7, 1.8, 6.0):
            assert student.at_most(t, degrees) == pytest.approx(stats.t.cdf(t, degrees), abs=1e-12)
        for chance in (0.025, 0.5, 0.95, 0.975):
            expected = stats.t.ppf(chance, degrees)
            assert student.quantile(chance, degrees) == pytest.approx(expected, abs=1e-9)
    assert student.at_most(math.inf, 5) == 1 and student.at_most(-math.inf, 5) == 0


def clustered(rng, photos: int, noise: float):
    """Distances of 15 pairs per photo by two files; pairs of a photo share its level."""
    level = rng.lognormal(0, 0.7, (photos, 1))
    strength = np.linspace(0.1, 1, 15)
    first = (level * strength).ravel()
    second = first + noise * rng.standard_normal((photos, 1)).repeat(15, 1).ravel() * first
    return first, second, np.repeat(np.arange(photos), 15)


def test_bounds_are_those_of_a_plain_jackknife():
    first, second, photo = clustered(np.random.default_rng(1), 20, 0.3)
    found = rank_correlation(first, second, photo)
    whole = stats.spearmanr(first, second).statistic
    assert found.value == pytest.approx(whole)
    values = []
    for n in range(20):
        kept = photo != n
        one = stats.spearmanr(first[kept], second[kept]).statistic
        values.append(20 * np.arctanh(whole) - 19 * np.arctanh(one))
    interval = stats.ttest_1samp(values, 0).confidence_interval(1 - 2 * LEVEL)
    assert found.bounds(LEVEL) == pytest.approx(np.tanh([interval.low, interval.high]))
    limit = 0.9
    test = stats.ttest_1samp(values, np.arctanh(limit), alternative="greater")
    assert found.evidence(limit).p_pass == pytest.approx(test.pvalue)
    assert found.evidence(limit).p_fail == pytest.approx(1 - test.pvalue)


def test_evidence_agrees_with_the_bounds():
    first, second, photo = clustered(np.random.default_rng(3), 16, 0.3)
    found = rank_correlation(first, second, photo)
    low, high = found.bounds(LEVEL)
    for limit, expected in (
        (low - 1e-6, Verdict.PASS),
        (low + 1e-6, Verdict.UNDECIDED),
        (high - 1e-6, Verdict.UNDECIDED),
        (high + 1e-6, Verdict.FAIL),
    ):
        assert verdicts([found.evidence(limit)]) == [expected]
    assert found.photos_to_decide(math.tanh(found.centre)) is None
    reach = found.centre - math.atanh(low)
    halfway = math.tanh(found.centre - reach / 2)
    assert found.photos_to_decide(halfway) == pytest.approx(4 * 16, abs=1)


def test_few_photos_have_no_interval():
    first, second, photo = clustered(np.random.default_rng(4), LEAST_PHOTOS - 1, 0.01)
    found = rank_correlation(first, second, photo)
    assert found.bounds(LEVEL) == (-1, 1)
    assert verdicts([found.evidence(0.5)]) == [Verdict.UNDECIDED]
    assert found.photos_to_decide(0.5) == LEAST_PHOTOS


def test_equal_and_reversed_distances():
    first, _, photo = clustered(np.random.default_rng(4), 12, 0)
    same = rank_correlation(first, first, photo)
    assert same.value == pytest.approx(1)
    assert verdicts([same.evidence(0.999)]) == [Verdict.PASS]
    opposite = rank_correlation(first, -first, photo)
    assert opposite.value == pytest.approx(-1)
    assert verdicts([opposite.evidence(0.5)]) == [Verdict.FAIL]


def test_one_swap_is_no_large_error():
    """A correlation just below 1 has an interval just below 1."""
    first = np.arange(180.0)
    second = first.copy()
    second[[90, 91]] = second[[91, 90]]
    found = rank_correlation(first, second, np.repeat(np.arange(12), 15))
    assert found.value == pytest.approx(1 - 12 / (180**3 - 180))
    low, high = found.bounds(LEVEL)
    assert 0.999 < low <= high <= 1


@pytest.mark.slow
def test_a_false_verdict_is_rare():
    """At a limit that is the true correlation, both pass and fail are false."""
    rng = np.random.default_rng(7)
    first, second, _ = clustered(rng, 20000, 0.02)
    truth = stats.spearmanr(first, second).statistic
    answers = [
        verdicts([rank_correlation(*clustered(rng, 16, 0.02)).evidence(truth)])[0]
        for _ in range(200)
    ]
    for wrong in (Verdict.PASS, Verdict.FAIL):
        assert answers.count(wrong) <= 26  # of 200; nominal are 10, the module admits 14 %
