"""Ranks, error rates and their intervals, against sorting and arithmetic by hand."""

import numpy as np
import pytest

from vgg_deploy.scoring import error_pct, true_class_ranks, wilson_pct


def test_ranks_are_positions_in_a_full_stable_sort():
    rng = np.random.default_rng(0)
    posteriors = rng.integers(0, 5, (200, 12)) / 8  # many ties
    labels = rng.integers(0, 12, 200)
    for row, label, rank in zip(
        posteriors, labels, true_class_ranks(posteriors, labels), strict=True
    ):
        order = sorted(range(12), key=lambda c: (-row[c], c))  # ties: lower class first
        assert order.index(label) == rank


def test_errors_by_hand():
    posteriors = np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7], [0.3, 0.4, 0.3], [0.2, 0.2, 0.6]])
    ranks = true_class_ranks(posteriors, np.array([0, 1, 2, 0]))
    assert ranks.tolist() == [0, 1, 2, 1]
    assert error_pct(ranks, 1) == 75.0
    assert error_pct(ranks, 2) == 25.0
    assert error_pct(ranks, 5) == 0.0


def test_a_posterior_that_is_not_finite_is_no_ordinary_mistake():
    with pytest.raises(FloatingPointError, match="1 of 2 images .* image 1"):
        true_class_ranks(np.array([[0.5, 0.5], [np.nan, 1.0]]), np.array([0, 0]))


@pytest.mark.parametrize(
    ("wrong", "images", "low", "high"),
    # closed form worked out by hand, with z = 1.959964:
    # (p + z2/2n -+ z sqrt(p(1-p)/n + z2/4n2)) / (1 + z2/n)
    [(10, 100, 5.5229, 17.4366), (0, 50, 0.0, 7.1348), (50, 50, 92.8652, 100.0)],
)
def test_wilson_interval(wrong, images, low, high):
    interval = wilson_pct(100 * wrong / images, images)
    assert interval.low == pytest.approx(low, abs=1e-3)
    assert interval.high == pytest.approx(high, abs=1e-3)


def test_wilson_interval_covers_19_times_of_20():
    rng = np.random.default_rng(0)
    hits = [wilson_pct(100 * wrong / 200, 200) for wrong in rng.binomial(200, 0.27, 4000)]
    covered = np.mean([low <= 27 <= high for low, high in hits])
    assert 0.935 < covered < 0.965
