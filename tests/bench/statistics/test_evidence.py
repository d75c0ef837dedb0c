"""Verdicts of the gate on cases worked out by hand: exact tests, bounds, Holm's correction."""

import math

import numpy as np
import pytest
from scipy import stats

from bench.statistics import sequential
from vgg_deploy.statistics import binomial, paired_test
from vgg_deploy.statistics.evidence import (
    Evidence,
    Verdict,
    images_to_decide,
    images_to_decide_proportion,
    paired_evidence,
    proportion_evidence,
    verdicts,
)
from vgg_deploy.statistics.inversion import invert
from vgg_deploy.statistics.paired_test import Table


def evidence(p_pass: float, p_fail: float) -> Evidence:
    return Evidence(0.0, -1.0, 1.0, p_pass, p_fail, 100)


def test_no_differing_image_of_40_leaves_a_loss_of_7_points_possible():
    """Oracle: a loss d shows up in none of 40 images with probability (1 - d)^40."""
    exact = 1 - 0.05 ** (1 / 40)
    found = paired_evidence(0, 0, 40, 0.005)
    assert found.high == pytest.approx(exact, abs=2e-5)
    assert found.low == pytest.approx(-exact, abs=2e-5)
    assert verdicts([found]) == [Verdict.UNDECIDED]


def test_two_lost_images_of_1000_do_not_pass_a_limit_of_half_a_point():
    """If the loss is 0.5 points and the model wins nothing, 2 or fewer happen with 12 %."""
    found = paired_evidence(2, 0, 1000, 0.005)
    assert found.p_pass >= stats.binom.cdf(2, 1000, 0.005)
    assert verdicts([found]) == [Verdict.UNDECIDED]


def test_bounds_are_where_the_p_value_is_five_per_cent():
    found = paired_evidence(30, 12, 2000, 0.01)
    assert paired_evidence(30, 12, 2000, found.high).p_pass == pytest.approx(0.05, abs=1e-3)
    assert paired_evidence(30, 12, 2000, found.low).p_fail == pytest.approx(0.05, abs=1e-3)


def test_equal_models_with_enough_images_pass_and_a_large_loss_fails():
    assert verdicts([paired_evidence(25, 25, 5000, 0.005)]) == [Verdict.PASS]
    assert verdicts([paired_evidence(60, 10, 1000, 0.005)]) == [Verdict.FAIL]


def test_proportion_is_the_exact_binomial_test():
    found = proportion_evidence(7, 400, 0.03)
    assert found.p_pass == pytest.approx(stats.binom.cdf(7, 400, 0.03), rel=1e-9)
    assert found.p_fail == pytest.approx(stats.binom.sf(6, 400, 0.03), rel=1e-9)
    interval = stats.binomtest(7, 400).proportion_ci(0.90, method="exact")
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), rel=1e-9)


def test_holm_compares_the_smallest_p_with_the_level_shared_by_all_rows():
    # 0.05 / 3 = 0.0167, 0.05 / 2 = 0.025, 0.05
    found = verdicts([evidence(1, 0.02), evidence(1, 0.016), evidence(1, 0.9)])
    assert found == [Verdict.FAIL, Verdict.FAIL, Verdict.UNDECIDED]
    found = verdicts([evidence(1, 0.02), evidence(1, 0.02), evidence(1, 0.9)])
    assert found == 3 * [Verdict.UNDECIDED]


def test_a_pass_is_not_corrected():
    assert verdicts([evidence(0.05, 1)] * 10) == [Verdict.PASS] * 10


def test_images_to_decide():
    # (1.645 + 1.282)^2 * 0.01 / 0.005^2
    assert images_to_decide(5, 5, 1000, 0.005) == pytest.approx(3426, rel=0.12)
    assert images_to_decide(500, 500, 100_000, 0.005) == 100_001
    assert images_to_decide(0, 0, 100, 0.0) is None
    assert images_to_decide_proportion(0, 100, 0.0) is None


@pytest.mark.parametrize("limit", [0.01, 0.05])
def test_images_to_decide_anytime_of_equal_models(limit):
    # oracle: the bettors' money, image by image, as the module's text describes it
    money = [0.8 / 19] * 19 + [0.2]
    images = 0
    while sum(money) < 1 / sequential.SEQUENTIAL_LEVEL:
        images += 1
        money = [
            own * (1 + stake * limit / (1 - limit))
            for own, stake in zip(money, sequential.STAKES.tolist(), strict=True)
        ]
    assert images == {0.01: 606, 0.05: 119}[limit]  # not 299 and 59, as for a fixed number
    assert sequential.images_to_decide_anytime(0, 0, 20, limit) == images
    assert sequential.images_to_decide_proportion_anytime(0, 20, limit) == images


def test_images_to_decide_anytime_is_the_first_number_that_decides():
    # 1 % lost, 1 % won, limit 2 %; 3 % that differ, 1 % allowed
    needed = sequential.images_to_decide_anytime(1, 1, 100, 0.02)
    for total, decided in ((100 * (needed // 100), False), (100 * (needed // 100 + 1), True)):
        found = sequential.paired_evidence_anytime(total // 100, total // 100, total, 0.02)
        assert (found.p_pass <= sequential.SEQUENTIAL_LEVEL) == decided
    needed = sequential.images_to_decide_proportion_anytime(3, 100, 0.01)
    for total, decided in ((100 * (needed // 100), False), (100 * (needed // 100 + 1), True)):
        found = sequential.proportion_evidence_anytime(3 * total // 100, total, 0.01)
        assert (found.p_fail <= sequential.SEQUENTIAL_LEVEL) == decided
    assert sequential.images_to_decide_anytime(0, 0, 100, 0.0) is None
    assert sequential.images_to_decide_anytime(1, 0, 100, 0.01) is None
    assert sequential.images_to_decide_proportion_anytime(0, 100, 0.0) is None


def test_impossible_counts_are_refused():
    for counts in ((-1, 0, 10), (6, 5, 10), (0, 0, 0)):
        with pytest.raises(ValueError, match="impossible"):
            paired_evidence(*counts, 0.005)
    with pytest.raises(ValueError, match="fraction"):
        proportion_evidence(1, 10, 5.0)


def test_sequential_wealth_is_the_product_of_the_bets():
    """Oracle: each bettor image by image, in a mixed order."""
    losses = [1, 0, 0, -1, 0, 0, 1, 0, 0, 0]
    bets, wealth = sequential.bets_on_small_losses(0.1), 0.0
    assert np.exp(bets.log_money).sum() == pytest.approx(1)
    for money, f in zip(np.exp(bets.log_money).tolist(), sequential.STAKES.tolist(), strict=True):
        wealth += money * math.prod(1 + f * (0.1 - x) / 0.9 for x in losses)
    found = sequential.log_wealth(bets, np.array([2, 7, 1]))
    assert np.exp(found) == pytest.approx(wealth, rel=1e-12)


@pytest.mark.parametrize(
    "found",
    [
        paired_evidence(50, 0, 50, 1.0),
        proportion_evidence(50, 50, 1.0),
        sequential.paired_evidence_anytime(50, 0, 50, 1.0),
        sequential.proportion_evidence_anytime(50, 50, 1.0),
    ],
)
def test_a_limit_of_all_images_always_holds(found):
    assert (found.p_pass, found.p_fail, found.high) == (0, 1, 1)
    assert verdicts([found]) == [Verdict.PASS]


@pytest.mark.parametrize(
    ("lowest", "highest", "expected"),
    [
        (0.5, 0.5, (5000 - 450 - 45, 5000 + 450 + 45)),
        (0.1, 0.2, (1000 - 315, 2000 + 405)),
        (0.0, 0.0, (0, 45)),
        (1.0, 1.0, (10_000 - 45, 10_000)),
        (0.0, 0.1, (0, 1000 + 315)),
    ],
)
def test_likely_counts_reach_nine_deviations_and_45_counts(lowest, highest, expected):
    """sqrt(10,000 p (1 - p)) is 50 at 0.5, 30 at 0.1 and 40 at 0.2."""
    assert binomial.likely_counts(10_000, lowest, highest) == expected


def test_p_values_do_not_exceed_one():
    assert paired_test.p_of_at_most(Table(0, 0, 10), 0.5) == 1
    assert paired_test.p_of_at_least(Table(10, 0, 10), 0.5) == 1
    assert paired_test.p_of_at_most(Table(10, 0, 10), 1.0) == 1
    assert paired_test.p_of_at_least(Table(10, 0, 10), 1.0) == 1
    assert paired_test.p_of_at_least(Table(9, 0, 10), 1.0) == 0


def falling(x: float) -> float:
    return math.exp(-30 * x)


def steep(x: float) -> float:
    return 0.5 * math.erfc((x - 0.4) * 200)


def rising(x: float) -> float:  # towards the lower end
    return math.exp(20 * x)


@pytest.mark.parametrize(
    ("p", "end", "root", "calls"),
    [
        (falling, 1.0, math.log(20) / 30, 7),
        (steep, 1.0, 0.4 + 1.1630871536766743 / 200, 24),
        (rising, -1.0, -math.log(20) / 20, 6),
    ],
)
@pytest.mark.parametrize("guesses", [(), (0.05, 0.2, -0.2)])
def test_a_bound_is_found_in_few_steps_and_on_the_outer_side(p, end, root, calls, guesses):
    """Oracle: where these functions are 0.05 in closed form."""
    tried: list[float] = []

    def counted(x: float) -> float:
        tried.append(x)
        return p(x)

    found = invert(counted, 0.0, end, 0.05, guesses)
    assert p(found) <= 0.05
    assert abs(found - root) <= 1e-6 and abs(found) >= abs(root) - 1e-12
    assert len(tried) <= calls


def test_a_bound_that_is_never_reached_is_the_end_of_the_scale():
    assert invert(lambda x: 0.06, 0.2, 1.0, 0.05) == 1.0
    assert invert(lambda x: 0.0, 1.0, 1.0, 0.05) == 1.0


@pytest.mark.parametrize(
    ("found", "stakes", "least"),
    [
        (sequential.paired_evidence_anytime(6, 1, 20, 0.1), sequential.STAKES, -1),
        (sequential.proportion_evidence_anytime(6, 20, 0.1), sequential.STAKES_ON_EXCESS, 0),
    ],
)
def test_the_largest_stake_on_large_losses_is_what_the_smallest_loss_can_take(found, stakes, least):
    """Oracle: the bettors one by one; four fifths of the money are shared by all but the last."""
    won = 1 if least < 0 else 0
    wealth = []
    for f in stakes.tolist():
        gain, same, loss = (f * (x - 0.1) / (0.1 - least) for x in (1, 0, -1))
        wealth.append((1 + gain) ** 6 * (1 + same) ** (14 - won) * (1 + loss) ** won)
    expected = 0.8 * sum(wealth[:-1]) / (len(wealth) - 1) + 0.2 * wealth[-1]
    assert found.p_fail == pytest.approx(1 / expected, rel=1e-9)
