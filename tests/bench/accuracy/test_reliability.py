"""Calibration and the Pareto front."""

import numpy as np
import pytest

from bench.accuracy.reliability import expected_calibration_error, reliability
from bench.report.figures import front


def test_calibration_by_hand():
    """Four images in two bins: 0.95 twice, one right; 0.45 twice, both right."""
    confidence, right = np.array([0.95, 0.95, 0.45, 0.45]), np.array([True, False, True, True])
    expected = 100 * (2 * 0.45 + 2 * 0.55) / 4
    assert expected_calibration_error(confidence, right) == pytest.approx(expected)
    filled = {i: b for i, b in enumerate(reliability(confidence, right)) if b.images}
    assert filled == {6: (2, pytest.approx(0.45), 1.0), 14: (2, pytest.approx(0.95), 0.5)}


def test_calibrated_answers_have_no_error():
    """Oracle: images that are right exactly as often as their posterior promises."""
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.1, 1, 200_000)
    assert expected_calibration_error(confidence, rng.random(200_000) < confidence) < 0.5
    assert sum(b.images for b in reliability(np.array([0.0, 1.0, 1 / 15]), np.ones(3, bool))) == 3


def test_the_pareto_front_is_what_no_point_beats():
    """Oracle: every point against every other."""
    rng = np.random.default_rng(0)
    points = [tuple(p) for p in rng.integers(0, 12, (60, 2)).astype(float)]
    kept = front(points)
    beaten = [any(q[0] <= p[0] and q[1] <= p[1] and q != p for q in points) for p in points]
    assert {points[i] for i in kept} == {p for p, b in zip(points, beaten, strict=True) if not b}
    assert [points[i] for i in kept] == sorted(points[i] for i in kept)
