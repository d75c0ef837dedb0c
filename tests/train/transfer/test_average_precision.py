"""Average precision by VOC's two rules.

Oracles: the package mean-average-precision, a loop in fractions that follows VOC's development kit,
and closed forms.
"""

from fractions import Fraction

import numpy as np
import pytest
from mean_average_precision.utils import (
    compute_average_precision,
    compute_average_precision_with_recall_thresholds,
    compute_precision_recall,
)
from sklearn.metrics import average_precision_score

from train.transfer.average_precision import average_precision


def rankings(count: int):
    """Scores without ties and labels of all kinds, some of few images."""
    rng = np.random.default_rng(11)
    for _ in range(count):
        images = int(rng.integers(1, 60))
        truth = rng.choice([1, 0, -1], images, p=[0.3, 0.1, 0.6])
        truth[rng.integers(images)] = 1
        yield rng.permutation(images).astype(float), truth


def of_the_kit(scores, truth) -> tuple[Fraction, Fraction]:
    """VOCevalcls.m and VOCap.m, line by line, in exact numbers."""
    order = sorted(range(len(scores)), key=lambda i: -scores[i])  # stable, as MATLAB's sort
    tp = fp = 0
    rec, prec = [], []
    for i in order:
        if truth[i] == 0:
            continue
        tp += truth[i] > 0
        fp += truth[i] < 0
        rec.append(Fraction(int(tp), int((truth > 0).sum())))
        prec.append(Fraction(int(tp), int(tp + fp)))
    eleven = Fraction(0)
    for t in range(11):
        reached = [p for r, p in zip(rec, prec, strict=True) if r >= Fraction(t, 10)]
        eleven += max(reached, default=Fraction(0)) / 11
    mrec, mpre = [Fraction(0), *rec, Fraction(1)], [Fraction(0), *prec, Fraction(0)]
    for i in range(len(mpre) - 2, -1, -1):
        mpre[i] = max(mpre[i], mpre[i + 1])
    area = Fraction(0)
    for i in range(1, len(mrec)):
        area += (mrec[i] - mrec[i - 1]) * mpre[i]
    return eleven, area


def test_against_the_development_kit_in_fractions():
    for scores, truth in rankings(400):
        found = average_precision(scores, truth)
        assert found == pytest.approx([float(value) for value in of_the_kit(scores, truth)], 1e-12)


def test_against_another_package():
    # its thresholds are rounded: 0.30000000000000004 is not reached by 3 of 10
    thresholds = np.arange(11) / 10 - 1e-12
    for scores, truth in rankings(400):
        counted = truth != 0
        hit = truth[counted][np.argsort(-scores[counted])] > 0
        precision, recall = compute_precision_recall(hit, ~hit, int(hit.sum()))
        found = average_precision(scores, truth)
        eleven = compute_average_precision_with_recall_thresholds(precision, recall, thresholds)
        assert found.rule_2007 == pytest.approx(eleven, abs=1e-12)
        assert found.rule_2010 == pytest.approx(
            compute_average_precision(precision, recall), abs=1e-12
        )


def test_scikit_learn_takes_the_precision_at_the_recall_itself():
    larger = 0
    for scores, truth in rankings(300):
        counted = truth != 0
        theirs = average_precision_score(truth[counted] > 0, scores[counted])
        ours = average_precision(scores, truth).rule_2010
        assert ours >= theirs - 1e-12
        larger += ours > theirs + 1e-9
    assert larger > 100
    # positives at the ranks 2 and 3: 1/2 and 2/3 there, but 2/3 for both by VOC's rule
    scores, truth = np.array([3.0, 2, 1]), np.array([-1, 1, 1])
    assert average_precision_score(truth > 0, scores) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert average_precision(scores, truth).rule_2010 == pytest.approx(2 / 3)


@pytest.mark.parametrize("rank", [1, 2, 7, 40])
def test_one_positive_image(rank):
    scores, truth = -np.arange(40.0), np.full(40, -1)
    truth[rank - 1] = 1
    assert average_precision(scores, truth) == pytest.approx((1 / rank, 1 / rank))


def test_positives_first_and_last():
    truth = np.array([1] * 5 + [-1] * 15)
    assert average_precision(-np.arange(20.0), truth) == (1, 1)
    # ranks 16 to 20: precision rises to 5/20 at the last
    assert average_precision(np.arange(20.0), truth) == pytest.approx((0.25, 0.25))


def test_every_other_image():
    """Precision of (k) positives is k / (2k - 1), the largest at the first."""
    truth = np.array([1, -1] * 10)
    expected = np.mean([k / (2 * k - 1) for k in range(1, 11)])
    found = average_precision(-np.arange(20.0), truth)
    assert found.rule_2010 == pytest.approx(expected)
    assert found.rule_2007 == pytest.approx((1 + sum(k / (2 * k - 1) for k in range(1, 11))) / 11)


def test_equal_scores_are_ranked_by_the_order_of_the_images():
    assert average_precision(np.zeros(4), np.array([1, 1, -1, -1])) == (1, 1)
    assert average_precision(np.zeros(4), np.array([-1, -1, -1, 1])) == (0.25, 0.25)
    rng = np.random.default_rng(0)
    scores, truth = rng.integers(0, 3, 800).astype(float), rng.choice([1, -1], 800)
    expected = [float(value) for value in of_the_kit(scores, truth)]
    assert average_precision(scores, truth) == pytest.approx(expected, 1e-12)


def test_difficult_images_are_left_out():
    scores, truth = np.array([4.0, 3, 2, 1]), np.array([0, 1, 0, -1])
    assert average_precision(scores, truth) == (1, 1)


@pytest.mark.parametrize(
    ("scores", "truth"), [([1.0, 2.0], [-1, 0]), ([np.nan, 1.0], [1, -1]), ([np.inf, 1], [1, -1])]
)
def test_what_has_no_average_precision(scores, truth):
    with pytest.raises(ValueError, match="needs a positive image and finite scores"):
        average_precision(np.array(scores), np.array(truth))


def test_the_rule_by_its_name():
    found = average_precision(-np.arange(20.0), np.array([1, -1] * 10))
    assert (found.by("2007"), found.by("2010")) == (found.rule_2007, found.rule_2010)
