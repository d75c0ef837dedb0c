"""Questions of the gate on rows written by hand: which images count against a model, how much."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from bench.accuracy.accuracy_rows import AccuracyRow, Scored, columns_in_order
from bench.accuracy.compare import Pair, compare, compare_all, one_right
from bench.accuracy.distance import Distance
from bench.accuracy.protocols import Member, Row
from bench.gate.counted_checks import (
    Question,
    answer,
    ask_agreement,
    ask_drops,
    ask_error,
    loss_in_words,
    what_decides,
)
from bench.gate.equality import could_flip, is_equal
from bench.gate.fact_checks import check_left_out, check_posteriors
from bench.gate.gate_limits import GateLimits
from bench.gate.judge import warn_of_guessing
from bench.gate.method import FIXED, SEQUENTIAL
from bench.gate.verdict import Check, Gate
from vgg_deploy.statistics.evidence import Verdict, least_images

FILES = [f"{letter}.jpeg" for letter in "abcdefgh"]
NONE = GateLimits()


def row(model: int) -> Row:
    return Row((Member(model, (256,)),), "dense", "256", True)


def scored(model: int, name: str, ranks: list[int], best: list[int]) -> Scored:
    found, images = np.array(ranks), len(ranks)
    top1, top5 = (100 * float((found >= k).mean()) for k in (1, 5))
    record = AccuracyRow(
        model=name,
        runtime="torch",
        precision="fp32",
        protocol="dense",
        scales="256",
        flips=True,
        images=images,
        classes=1000,
        views=2,
        top1_error_pct=top1,
        top1_low_pct=max(0.0, top1 - 1),
        top1_high_pct=min(100.0, top1 + 1),
        top5_error_pct=top5,
        top5_low_pct=top5,
        top5_high_pct=top5,
        ece_pct=0.0,
        gmacs_per_image=1.0,
        ms_per_image=1.0,
    )
    labels = np.zeros(images, int)
    half = np.full(images, 0.5, np.float32)
    return Scored(row(model), record, np.array(best), half, np.full(images, 0.01), found, labels)


REFERENCE = scored(0, "A.pt", [0, 0, 4, 5, 0, 0, 0, 1], [0, 0, 2, 3, 0, 0, 0, 1])
OTHER = scored(1, "B.onnx", [0, 1, 5, 4, 0, 5, 0, 0], [0, 1, 3, 3, 0, 3, 0, 0])


def pair(largest: float = 0.25) -> Pair:
    apart = Distance(np.linspace(0, largest, 8), np.linspace(0, largest / 2, 8))
    return Pair(REFERENCE, OTHER, compare(REFERENCE, OTHER, apart), apart)


def drops(limits: GateLimits) -> list[Question]:
    return ask_drops(pair(), limits, FIXED)


def agreement(limits: GateLimits) -> list[Question]:
    return ask_agreement(pair(), limits, FIXED)


def test_the_comparison_counts_as_a_loop_does():
    c = pair().comparison
    for k, difference in ((1, c.top1_difference_pct), (5, c.top5_difference_pct)):
        only_a = sum(a < k <= b for a, b in zip(REFERENCE.ranks, OTHER.ranks, strict=True))
        only_b = sum(b < k <= a for a, b in zip(REFERENCE.ranks, OTHER.ranks, strict=True))
        assert one_right(REFERENCE, OTHER, k) == (only_a, only_b)
        assert difference == pytest.approx(100 * (only_a - only_b) / 8)
    assert (c.only_reference_right, c.only_model_right) == (2, 1)
    assert c.agreement_pct == 50.0 and c.images == 8
    assert c.top1_p == pytest.approx(stats.binomtest(1, 3).pvalue)
    assert c.top5_p == pytest.approx(stats.binomtest(1, 3).pvalue)
    assert c.largest_posterior_difference == 0.25
    assert c.mean_total_variation == pytest.approx(0.0625)


def test_only_rows_of_one_protocol_are_compared_and_never_with_themselves():
    assert compare_all([REFERENCE, OTHER]) == [(REFERENCE, OTHER)]
    assert compare_all([OTHER]) == []


def test_a_drop_names_the_images_that_only_the_reference_has_right():
    top1, top5 = drops(GateLimits(top1_drop=3.0, top5_drop=4.0))
    assert (top1.check, top5.check) == ("top-1 drop", "top-5 drop")
    assert [FILES[i] for i in top1.against] == ["b.jpeg", "f.jpeg"]
    assert [FILES[i] for i in top5.against] == ["c.jpeg", "f.jpeg"]
    assert (top1.limit, top5.limit) == (3.0, 4.0)
    assert top1.found == pytest.approx(12.5) and top5.found == pytest.approx(12.5)
    assert top1.bounds[0] < 12.5 < top1.bounds[1] <= 100
    assert "12.50 points lower than A.pt's on 8 images" in top1.text
    assert top1.evidence.images == 8


@pytest.mark.parametrize("limits", [NONE, GateLimits(top5_drop=1.0), GateLimits(top1_drop=0.0)])
def test_only_what_is_limited_is_asked(limits):
    wanted = [("top-1 drop", limits.top1_drop), ("top-5 drop", limits.top5_drop)]
    found = [question.check for question in drops(limits)]
    assert found == [name for name, limit in wanted if limit is not None]
    assert agreement(limits) == []


def test_agreement_names_the_images_with_another_best_class():
    (question,) = agreement(GateLimits(agreement=90.0))
    assert [FILES[i] for i in question.against] == ["b.jpeg", "c.jpeg", "f.jpeg", "h.jpeg"]
    low, high = stats.binomtest(4, 8).proportion_ci(0.9, "exact")  # two bounds of 95 % each
    assert question.bounds == pytest.approx((100 - 100 * high, 100 - 100 * low), abs=1e-6)
    assert question.found == 50.0 and question.evidence.estimate == 0.5
    assert f"(95 % bounds: {question.bounds[0]:.2f} to {question.bounds[1]:.2f} %)" in question.text


def test_an_error_names_the_images_that_are_wrong():
    (question,) = ask_error(REFERENCE, GateLimits(top1_error=20.0), FIXED)
    assert [FILES[i] for i in question.against] == ["c.jpeg", "d.jpeg", "h.jpeg"]
    assert question.found == 37.5 and question.limit == 20.0
    low, high = stats.binomtest(3, 8).proportion_ci(0.9, "exact")
    assert question.bounds == pytest.approx((100 * low, 100 * high), abs=1e-6)
    assert question.evidence.p_pass == pytest.approx(stats.binom.cdf(3, 8, 0.2), abs=1e-9)


@pytest.mark.parametrize(
    ("loss", "words"),
    [(0, "the same as"), (1.5, "1.50 points lower than"), (-1.5, "1.50 points higher than")],
)
def test_a_loss_in_words(loss, words):
    assert loss_in_words(loss) == words


@pytest.mark.parametrize("level", [0.05, 0.01])
@pytest.mark.parametrize("limit", [0.001, 0.005, 0.02, 0.5])
def test_the_least_number_of_images_is_the_first_that_shows_it(limit, level):
    least = least_images(limit, level)
    assert (1 - limit) ** least <= level < (1 - limit) ** (least - 1)


def test_the_ends_of_the_least_number_of_images():
    assert least_images(0, 0.05) is None and least_images(-0.1, 0.05) is None
    assert least_images(1, 0.05) == 1


def test_images_to_decide_begin_with_the_least_number():
    assert FIXED.paired_to_decide(0, 0, 40, 0.005) == least_images(0.005, 0.05) == 598
    assert FIXED.proportion_to_decide(0, 40, 0.01) == least_images(0.01, 0.05) == 299
    assert FIXED.paired_to_decide(1, 0, 40, 0.5) != least_images(0.5, 0.05)
    assert FIXED.proportion_to_decide(1, 40, 0.5) != least_images(0.5, 0.05)
    assert SEQUENTIAL.paired_to_decide(0, 0, 40, 0.005) > 598


def test_posteriors_beyond_the_limit_are_named_the_farthest_first():
    (check,) = check_posteriors(pair(), GateLimits(posterior_difference=0.15), None, FILES)
    assert check.verdict == Verdict.FAIL and check.images == ("h.jpeg", "g.jpeg", "f.jpeg")
    assert check.images_total == 3 and check.found == 0.25 and check.limit == 0.15
    (check,) = check_posteriors(pair(), GateLimits(posterior_difference=0.25), None, FILES)
    assert check.verdict == Verdict.PASS and check.images == () and check.images_total == 0
    assert check_posteriors(pair(), NONE, None, FILES) == []
    (check,) = check_posteriors(pair(), NONE, 1e-4, FILES)  # the built-in limit
    assert check.verdict == Verdict.FAIL and "differ by rounding only" in check.message
    alone = pair()._replace(distance=None)
    (check,) = check_posteriors(alone, GateLimits(posterior_difference=1.0), None, FILES)
    assert check.verdict == Verdict.FAIL and "other classes" in check.message


@pytest.mark.parametrize(
    ("images", "largest", "rounding", "equal"),
    [
        (8, 1e-6, 1e-4, False),  # too few images
        (10, 1e-6, 1e-4, True),
        (10, 1e-4, 1e-4, True),
        (10, 2e-4, 1e-4, False),
        (10, 1e-6, None, False),
    ],
)
def test_what_is_equal_to_rounding(images, largest, rounding, equal):
    one = pair()
    comparison = SimpleNamespace(images=images, largest_posterior_difference=largest)
    assert is_equal(one._replace(comparison=comparison), rounding) is equal
    assert is_equal(one._replace(comparison=comparison, distance=None), rounding) is False


def test_images_that_could_flip_have_a_margin_below_twice_the_difference():
    assert could_flip(pair(largest=0.0051)) == 8  # margins are 0.01
    assert could_flip(pair(largest=0.005)) == 0


@pytest.mark.parametrize(
    ("allowed", "verdict"), [(None, "fail"), (1, "fail"), (2, "pass"), (3, "pass")]
)
def test_images_left_out(allowed, verdict):
    check = check_left_out(GateLimits(left_out=allowed), ["x: damaged", "y: damaged"])
    assert check.verdict == verdict and check.found == 2 and check.limit == (allowed or 0)
    assert check.images == ("x: damaged", "y: damaged") and check.images_total == 2
    assert check_left_out(NONE, []).verdict == "pass"
    assert check_left_out(NONE, ["x"]).message == "1 image left out, allowed 0"


def checks_of(*verdicts: str) -> Gate:
    checks = [
        Check(f"m{i}", "agreement", "", Verdict(v), "", images_to_decide=10 * i or None)
        for i, v in enumerate(verdicts)
    ]
    return Gate("A.pt", NONE, FIXED, checks, [], [], 8, 8, [])


def test_the_worst_answer_is_the_verdict():
    assert checks_of("pass", "pass").verdict == Verdict.PASS
    assert checks_of("pass", "undecided").verdict == Verdict.UNDECIDED
    assert checks_of("undecided", "fail", "pass").verdict == Verdict.FAIL
    found = checks_of("fail", "undecided", "fail", "pass")
    assert found.failing == {"m0", "m2"} and found.images_to_decide == 30
    assert [found.count(v) for v in Verdict] == [1, 2, 1]
    assert checks_of("pass").images_to_decide is None


@pytest.mark.parametrize(("error", "warned"), [(50.0, True), (48.5, False), (49.0, True)])
def test_a_reference_that_may_be_guessing(error, warned):
    """Of two classes; the upper end of its interval is one point above its error."""
    ranks = [0] * 8
    one = scored(0, "A.pt", ranks, ranks)
    record = replace(one.record, top1_error_pct=error, top1_high_pct=error + 1, images=200)
    one = replace(one, record=record)
    accuracy = SimpleNamespace(classes=SimpleNamespace(of_model=[np.arange(2)]))
    assert bool(warn_of_guessing([one], accuracy)) is warned


def test_columns_meet_by_class():
    assert columns_in_order(np.array([4, 2, 7]), np.array([7, 4, 2])).tolist() == [1, 2, 0]
    assert columns_in_order(np.array([4, 2]), np.array([4, 3])) is None


def test_undecided_says_what_would_decide():
    (question,) = agreement(GateLimits(agreement=100.0))
    check = answer(question, Verdict.UNDECIDED, FILES)
    assert check.images_to_decide == question.to_decide and not check.passed
    assert check.images == ("b.jpeg", "c.jpeg", "f.jpeg", "h.jpeg") and check.images_total == 4
    assert answer(question, Verdict.PASS, FILES).images_to_decide is None
    assert answer(question, Verdict.PASS, FILES).passed
    assert check.message.endswith(what_decides(question))
    undecidable = question._replace(to_decide=None)
    assert "no number of images can show that all agree" in what_decides(undecidable)
    needed = question._replace(to_decide=598)
    assert what_decides(needed) == "too few images for a verdict, about 598 are needed"
    spotless = needed._replace(against=np.array([], int))
    assert what_decides(spotless) == "too few images for a verdict, at least 598 are needed"
    zero = undecidable._replace(check="top-1 drop", limit=0.0)
    assert "nothing is lost" in what_decides(zero)
    assert "equals what was seen" in what_decides(zero._replace(limit=1.0))
    assert not math.isnan(question.found)
