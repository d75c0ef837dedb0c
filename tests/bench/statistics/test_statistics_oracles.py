"""Every statistic against scipy, statsmodels or enumeration, on thousands of random tables."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import normal_sample_size_one_tail
from statsmodels.stats.proportion import proportion_confint

from bench.accuracy.compare import mcnemar_p, paired_interval_pct
from bench.accuracy.reliability import expected_calibration_error, reliability
from bench.speed.latency import percentile
from bench.statistics import sequential
from vgg_deploy.scoring import error_pct, true_class_ranks, wilson_pct
from vgg_deploy.statistics import binomial, evidence, paired_test
from vgg_deploy.statistics.evidence import (
    Evidence,
    Verdict,
    paired_evidence,
    proportion_evidence,
    verdicts,
)
from vgg_deploy.statistics.paired_test import Table

CHANCES = st.floats(0, 1) | st.sampled_from([0.0, 0.001, 0.005, 0.02, 0.5, 1.0])


def check(examples: int):
    """The same random cases at every run."""
    return settings(max_examples=examples, deadline=None, derandomize=True, database=None)


@st.composite
def shares(draw, most: int = 60_000) -> tuple[int, int]:
    """(count, images), small and large ones, the ends among them."""
    images = draw(st.integers(1, 30) | st.integers(1, most))
    return draw(st.integers(0, images) | st.sampled_from([0, images])), images


@st.composite
def tables(draw, most: int) -> Table:
    images = draw(st.integers(1, most))
    differing = draw(st.integers(0, images))
    first = draw(st.integers(0, differing))
    return Table(first, differing - first, images)


# proportions


@check(700)
@given(shares())
@pytest.mark.slow
def test_wilson_is_that_of_statsmodels(share):
    count, images = share
    found = wilson_pct(100 * count / images, images)
    expected = proportion_confint(count, images, alpha=0.05, method="wilson")
    assert found == pytest.approx([100 * e for e in expected], abs=1e-5)


@check(600)
@given(shares(), CHANCES)
def test_binomial_tails_are_those_of_scipy(share, chance):
    count, images = share
    # a sum of n logs is known to about n roundings
    close = {"rel": 1e-8, "abs": 1e-14}
    assert binomial.at_most(count, images, chance) == pytest.approx(
        stats.binom.cdf(count, images, chance), **close
    )
    assert binomial.at_least(count, images, chance) == pytest.approx(
        stats.binom.sf(count - 1, images, chance), **close
    )


@check(200)
@given(shares(), st.sampled_from([0.05, 0.025, 0.01, 5e-6]))
def test_bounds_of_a_share_are_clopper_and_pearsons(share, alpha):
    count, images = share
    expected = stats.binomtest(count, images).proportion_ci(1 - 2 * alpha, method="exact")
    assert binomial.lower_bound(count, images, alpha) == pytest.approx(expected.low, abs=1e-10)
    assert binomial.upper_bound(count, images, alpha) == pytest.approx(expected.high, abs=1e-10)


@check(200)
@given(shares(), st.floats(0.001, 0.999))
def test_evidence_of_a_share_is_the_binomial_test(share, limit):
    count, images = share
    found = proportion_evidence(count, images, limit)
    low, high = stats.binomtest(count, images).proportion_ci(0.9, method="exact")
    less = stats.binomtest(count, images, limit, alternative="less").pvalue
    greater = stats.binomtest(count, images, limit, alternative="greater").pvalue
    assert (found.p_pass, found.p_fail) == pytest.approx((less, greater), rel=1e-8, abs=1e-14)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-10)
    assert found.estimate == count / images and found.images == images
    # the bounds and the p-values agree, rounding aside
    assert (found.p_pass <= 0.05) == (found.high <= limit) or abs(found.high - limit) < 1e-9
    assert (found.p_fail <= 0.05) == (found.low >= limit) or abs(found.low - limit) < 1e-9


# paired


@check(500)
@given(st.integers(0, 3000), st.integers(0, 3000))
@pytest.mark.slow
def test_mcnemar_is_the_sign_test(b, c):
    expected = stats.binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
    assert mcnemar_p(b, c) == pytest.approx(expected, rel=1e-7)
    assert mcnemar_p(b, c) == pytest.approx(mcnemar([[5, b], [c, 5]], exact=True).pvalue, rel=1e-7)


def tango(b: np.ndarray, c: np.ndarray, n: int, d: float) -> np.ndarray:
    """T of (tables,) b and c, with p01 where the slope of the likelihood is 0, by bisection."""
    low, high = np.zeros(b.shape), np.full(b.shape, (1 - d) / 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        for _ in range(200):
            p = (low + high) / 2
            only_first, only_second, alike = (
                np.where(k > 0, k / chance, 0)
                for k, chance in ((b, p + d), (c, p), (n - b - c, 1 - 2 * p - d))
            )
            rising = only_first + only_second > 2 * alike
            low, high = np.where(rising, p, low), np.where(rising, high, p)
        distance = b - c - n * d
        deviation = np.sqrt(n * (2 * p + d - d * d))
        return np.where(np.abs(distance) < 1e-9, 0.0, distance / deviation)


@check(300)
@given(tables(most=5000), st.floats(0.0005, 0.6))
@pytest.mark.slow
def test_the_statistic_is_tangos(table, d):
    b, c, n = table
    expected = tango(np.array([b]), np.array([c]), n, d)[0]
    assert paired_test.score_statistic(b, c, n, d) == pytest.approx(expected, rel=1e-5, abs=1e-7)


def trinomial(
    n: int, p10: np.ndarray, p01: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(b, c, chances) of every table of n images, for (values, 1) p10 and p01."""
    b, c = (axis.ravel() for axis in np.mgrid[: n + 1, : n + 1])
    b, c = b[b + c <= n], c[b + c <= n]
    ways = np.array(
        [
            math.factorial(n) / math.factorial(i) / math.factorial(j) / math.factorial(n - i - j)
            for i, j in zip(b, c, strict=True)
        ]
    )
    return b, c, ways * p10**b * p01**c * np.maximum(0, 1 - p10 - p01) ** (n - b - c)


@check(150)
@given(tables(most=25), st.floats(0.0005, 0.6) | st.sampled_from([0.005, 0.02, 0.1]))
@pytest.mark.slow
def test_the_paired_test_is_the_enumeration_of_all_tables(table, d):
    """Oracle: the chance of every table, at 2,000 values of p01 in its interval."""
    b, c, n = table
    interval = stats.binomtest(c, n).proportion_ci(1 - paired_test.GAMMA, method="exact")
    p01 = np.linspace(*(min(end, (1 - d) / 2) for end in interval), 2000)[:, None]
    every_b, every_c, chances = trinomial(n, p01 + d, p01)
    statistic = tango(every_b, every_c, n, d)
    observed = statistic[(every_b == b) & (every_c == c)][0]
    inside = min(1, chances[:, statistic <= observed + 1e-6].sum(axis=1).max() + paired_test.GAMMA)
    outside = min(1, chances[:, statistic >= observed - 1e-6].sum(axis=1).max() + paired_test.GAMMA)
    assert paired_test.p_of_at_least(table, d) == pytest.approx(inside, abs=2e-5)
    assert paired_test.p_of_at_most(table, d) == pytest.approx(outside, abs=2e-5)
    # the other way round it is the same question
    assert paired_test.p_of_at_most(Table(c, b, n), -d) == paired_test.p_of_at_least(table, d)


@check(50)
@given(tables(most=2000))
def test_the_range_of_p01_is_clopper_and_pearsons(table):
    boundary = paired_test._Boundary(table, 0.01, ties=True)
    interval = stats.binomtest(table.only_second, table.images).proportion_ci(
        1 - paired_test.GAMMA, method="exact"
    )
    expected = [min(end, 0.495) for end in interval]
    assert (boundary.p01_low, boundary.p01_high) == pytest.approx(expected, abs=1e-9)


def test_the_worst_p01_is_found_where_there_are_several_peaks():
    """A case that a search from the highest point of a coarse grid got wrong by 2 %."""
    p01 = np.linspace(0, 0.45, 4001)[:, None]
    b, c, chances = trinomial(15, p01 + 0.1, p01)
    outside = chances[:, tango(b, c, 15, 0.1) >= math.sqrt(5) - 1e-6].sum(axis=1).max()
    found = paired_test.p_of_at_most(Table(7, 0, 15), 0.1)
    assert found == pytest.approx(outside + paired_test.GAMMA, abs=1e-6)


@pytest.mark.parametrize(
    ("images", "limit"), [(3, 0.0), (12, 0.005), (25, 0.05), (25, 0.3), (40, 0.1)]
)
@pytest.mark.slow
def test_a_verdict_is_wrong_at_most_once_in_20(images, limit):
    """Oracle: the chance of every table, at 200 values of p01, at the limit or beyond it."""
    p01 = np.linspace(0, (1 - limit) / 2, 200)[:, None]
    b, c, at_limit = trinomial(images, p01 + limit, p01)
    every = [Table(i, j, images) for i, j in zip(b.tolist(), c.tolist(), strict=True)]
    p_pass = np.array([paired_test.p_of_at_least(table, limit) for table in every])
    p_fail = np.array([paired_test.p_of_at_most(table, limit) for table in every])
    worst_pass, worst_fail = (
        at_limit[:, p <= 0.05].sum(axis=1).max(initial=0) for p in (p_pass, p_fail)
    )
    assert max(worst_pass, worst_fail) <= 0.05
    assert images < 12 or limit < 0.05 or worst_pass > 0.02  # and it does decide
    beyond = trinomial(images, np.minimum(1 - p01, p01 + limit + 0.02), p01)[2]
    assert beyond[:, p_pass <= 0.05].sum(axis=1).max(initial=0) <= 0.05


@check(60)
@given(tables(most=400), st.sampled_from([0.0, 0.005, 0.02, 0.1]))
@pytest.mark.slow
def test_the_paired_bounds_are_the_test_inverted(table, limit):
    found = paired_evidence(*table, limit)
    assert found.low <= found.estimate <= found.high
    assert (found.p_pass <= 0.05) == (found.high <= limit)
    assert (found.p_fail <= 0.05) == (found.low >= limit)
    if found.high < 1:
        assert paired_test.p_of_at_least(table, found.high) <= 0.05
        assert paired_test.p_of_at_least(table, found.high - 3e-6) > 0.05
    if found.low > -1:
        assert paired_test.p_of_at_most(table, found.low) <= 0.05
        assert paired_test.p_of_at_most(table, found.low + 3e-6) > 0.05
    low, high = paired_interval_pct(*table)
    assert low <= 100 * found.low and high >= 100 * found.high


def test_with_many_differing_images_the_bounds_are_the_normal_ones():
    for b, c, n in [(2600, 2500, 50_000), (700, 900, 20_000), (4000, 3000, 10_000)]:
        found = paired_evidence(b, c, n, 0.005)
        half = 1.644854 * math.sqrt(b + c - (b - c) ** 2 / n) / n
        expected = ((b - c) / n - half, (b - c) / n + half)
        assert (found.low, found.high) == pytest.approx(expected, abs=0.02 * half)


# verdicts and plans


@check(8)
@given(
    st.lists(st.floats(0, 0.02) | st.floats(0, 1), min_size=1, max_size=30),
    st.sampled_from([0.05, 0.01]),
)
@pytest.mark.slow
def test_failing_rows_are_holms_of_statsmodels(p_values, level):
    found = verdicts([Evidence(0, 0, 0, 1.0, p, 1) for p in p_values], level)
    expected = multipletests(p_values, alpha=level, method="holm")[0]
    assert [v == Verdict.FAIL for v in found] == expected.tolist()


@check(500)
@given(
    st.lists(
        st.tuples(st.floats(0, 0.1), st.floats(0, 0.02) | st.floats(0, 1)), min_size=1, max_size=30
    )
)
def test_failing_rows_are_those_whose_adjusted_p_is_small(rows):
    """Oracle: Holm's adjusted p, the largest (rows - i) p(i) of the p-values up to it."""
    found = verdicts([Evidence(0, 0, 0, p_pass, p_fail, 1) for p_pass, p_fail in rows])
    for (p_pass, p_fail), verdict in zip(rows, found, strict=True):
        ordered = sorted(p for _, p in rows)
        adjusted = max((len(rows) - i) * p for i, p in enumerate(ordered) if p <= p_fail)
        if abs(adjusted - 0.05) > 1e-12:
            assert (verdict == Verdict.FAIL) == (adjusted <= 0.05)
        if verdict != Verdict.FAIL:
            assert (verdict == Verdict.PASS) == (p_pass <= 0.05)


@check(300)
@given(
    st.integers(0, 200),
    st.integers(0, 200),
    st.sampled_from([500, 3000, 20_000]),
    st.sampled_from([0.002, 0.005, 0.02]),
)
def test_images_to_decide_are_those_of_statsmodels(b, c, images, limit):
    lost, won = (b + 0.5) / (images + 1), (c + 0.5) / (images + 1)
    deviation = math.sqrt(lost + won - (lost - won) ** 2)
    expected = normal_sample_size_one_tail(abs(limit - lost + won), 0.9, 0.05, deviation, deviation)
    found = evidence.images_to_decide(b, c, images, limit)
    rounded_up = max(images + 1, math.ceil(expected))
    assert found == rounded_up or found == pytest.approx(expected, rel=1e-6)
    deviation = math.sqrt(lost * (1 - lost))
    expected = normal_sample_size_one_tail(abs(limit - lost), 0.9, 0.05, deviation, deviation)
    found = evidence.images_to_decide_proportion(b, images, limit)
    rounded_up = max(images + 1, math.ceil(expected))
    assert found == rounded_up or found == pytest.approx(expected, rel=1e-6)


# sequential


def expected_wealth(bets: sequential.Bets, images: int, p10: float, p01: float) -> float:
    """The sum over all tables, each with its chance."""
    b, c, chances = trinomial(images, np.array([[p10]]), np.array([[p01]]))
    log_wealth = sequential.log_wealth(bets, np.stack([b, images - b - c, c], 1))
    return float(chances[0] @ np.exp(log_wealth))


@pytest.mark.parametrize("limit", [0.0, 0.005, 0.1, 0.5])
def test_the_expected_wealth_is_what_the_bettors_started_with(limit):
    """Exactly that with the loss at the limit, and less where the claim is true by a margin."""
    on_small = sequential.bets_on_small_losses(limit)
    on_large = sequential.bets_on_large_losses(limit, least=-1)
    for p01 in (0.0, 0.001, 0.05, 0.2):
        for bets in (on_small, on_large):
            assert expected_wealth(bets, 20, p01 + limit, p01) == pytest.approx(1)
        assert expected_wealth(on_small, 20, p01 + limit + 0.05, p01) < 0.9999
        assert expected_wealth(on_large, 20, p01 + limit, p01 + 0.05) < 0.9999


@pytest.mark.parametrize("limit", [0.005, 0.1, 0.5])
def test_the_expected_wealth_of_bets_on_a_share_is_what_they_started_with(limit):
    on_large = sequential.bets_on_large_losses(limit, least=0)
    assert expected_wealth(on_large, 20, limit, 0.0) == pytest.approx(1)
    assert expected_wealth(on_large, 20, limit / 2, 0.0) < 0.9999


@pytest.mark.parametrize(("limit", "p01"), [(0.005, 0.005), (0.1, 0.0), (0.1, 0.1), (0.0, 0.2)])
@pytest.mark.parametrize("side", ["pass", "fail"])
def test_looking_after_every_image_is_wrong_at_most_once_in_20(limit, p01, side):
    """Oracle: the exact distribution of (b, c) over 80 images; what is decided is taken out."""
    images, p10, wrong = 80, p01 + limit, 0.0
    on_large = sequential.bets_on_large_losses(limit, least=-1)
    bets = sequential.bets_on_small_losses(limit) if side == "pass" else on_large
    b, c = np.mgrid[: images + 1, : images + 1]
    alive = np.zeros((images + 1, images + 1))
    alive[0, 0] = 1
    for n in range(1, images + 1):
        grown = alive * (1 - p10 - p01)
        grown[1:] += alive[:-1] * p10
        grown[:, 1:] += alive[:, :-1] * p01
        wealth = sequential.log_wealth(bets, np.stack([b, np.maximum(0, n - b - c), c], axis=-1))
        decided = (wealth >= math.log(20)) & (b + c <= n)
        wrong += grown[decided].sum()
        alive = np.where(decided, 0, grown)
    assert alive.sum() + wrong == pytest.approx(1)
    assert wrong <= 0.05
    assert limit < 0.1 or wrong > 0.001  # it does decide


@check(300)
@given(tables(most=3000), st.sampled_from([0.0, 0.005, 0.05, 0.3]))
def test_anytime_evidence_is_ordered_and_agrees_with_its_bounds(table, limit):
    b, c, n = table
    for found in (
        sequential.paired_evidence_anytime(b, c, n, limit),
        sequential.proportion_evidence_anytime(b, n, limit),
    ):
        assert found.low <= found.estimate <= found.high
        assert (found.p_pass <= 0.05) == (found.high <= limit)
        assert (found.p_fail <= 0.05) == (found.low >= limit > 0 or (limit == 0 and found.low > 0))
        assert 0 <= found.p_pass <= 1 and 0 <= found.p_fail <= 1
        assert max(found.p_pass, found.p_fail) == 1  # never evidence for both


# accuracy and calibration


@check(300)
@given(st.data())
def test_ranks_are_those_of_scipy(data):
    """Few different values, so that there are many ties."""
    classes = data.draw(st.integers(1, 12))
    images = data.draw(st.integers(1, 8))
    values = data.draw(
        st.lists(st.integers(0, 4), min_size=images * classes, max_size=images * classes)
    )
    posteriors = np.array(values, np.float32).reshape(images, classes)
    labels = np.array(
        data.draw(st.lists(st.integers(0, classes - 1), min_size=images, max_size=images))
    )
    found = true_class_ranks(posteriors, labels)
    expected = stats.rankdata(-posteriors, method="ordinal", axis=1)[np.arange(images), labels] - 1
    assert found.tolist() == expected.tolist()
    for k in range(1, classes + 1):
        wrong = sum(
            label not in np.argsort(-row, kind="stable")[:k]
            for row, label in zip(posteriors, labels, strict=True)
        )
        assert error_pct(found, k) == pytest.approx(100 * wrong / images)


@check(500)
@given(
    st.lists(
        st.tuples(
            st.floats(0, 1, width=32) | st.sampled_from([0.0, 0.2, 0.4, 0.6, 1.0]), st.booleans()
        ),
        min_size=1,
        max_size=80,
    )
)
@pytest.mark.slow
def test_calibration_error_is_a_loop_over_bins(images):
    """Oracle: the images of every bin (i/15, (i+1)/15], one by one; 0 belongs to the first bin."""
    total = 0.0
    bins = reliability(np.array([c for c, _ in images]), np.array([r for _, r in images]))
    for i, found in enumerate(bins):
        inside = [(c, r) for c, r in images if i < 15 * c <= i + 1 or (i == 0 and c == 0)]
        assert found.images == len(inside)
        if inside:
            confidence, accuracy = (
                sum(column) / len(inside) for column in zip(*inside, strict=True)
            )
            assert (found.confidence, found.accuracy) == pytest.approx((confidence, accuracy))
            total += len(inside) / len(images) * abs(confidence - accuracy)
        else:
            assert math.isnan(found.confidence) and math.isnan(found.accuracy)
    found = expected_calibration_error(
        np.array([c for c, _ in images]), np.array([r for _, r in images])
    )
    assert found == pytest.approx(100 * total)


# percentiles of times


@check(300)
@given(st.lists(st.floats(1e-3, 1e5), min_size=1, max_size=1200), st.sampled_from([50, 90, 99]))
def test_percentiles_are_those_of_scipy_and_need_five_calls_beyond(times, percent):
    ms = np.array(times)
    found = percentile(ms, percent)
    if len(ms) * (1 - percent / 100) < 5 - 1e-9:
        assert math.isnan(found)
    else:
        (expected,) = stats.mstats.mquantiles(ms, percent / 100, alphap=1, betap=1)
        assert found == pytest.approx(expected, rel=1e-9)
