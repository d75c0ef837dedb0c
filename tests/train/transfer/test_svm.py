"""The SVMs. Oracle: the same objective minimised by scipy."""

import numpy as np
import pytest
from scipy.optimize import minimize

from train.transfer import svm
from train.transfer.svm import fit, fit_binary


@pytest.fixture
def points():
    rng = np.random.default_rng(5)
    labels = np.repeat(np.arange(3), 20)
    rows = rng.normal(size=(60, 8)) + 1.2 * np.eye(3, 8)[labels]
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype("f4"), labels


def minimum(rows, positive, c):
    """Weights and bias of 1/2 (w² + b²) + C Σ max(0, 1 - y (w x + b))²."""
    inputs = np.hstack([rows.astype(float), np.ones((len(rows), 1))])
    signs = np.where(positive, 1, -1)

    def objective(w):
        slack = np.maximum(0, 1 - signs * (inputs @ w))
        value = 0.5 * w @ w + c * slack @ slack
        return value, w - 2 * c * (signs * slack) @ inputs

    start = np.zeros(inputs.shape[1])
    found = minimize(objective, start, jac=True, method="BFGS", options={"gtol": 1e-9})
    return found.x[:-1], found.x[-1]


@pytest.mark.parametrize("c", [0.1, 1, 30])
def test_against_scipy(points, c):
    rows, labels = points
    together = fit(rows, labels, 3, c, 0)
    assert together.converged and together.weights.shape == (8, 3)
    for label in range(3):
        weights, bias = minimum(rows, labels == label, c)
        np.testing.assert_allclose(together.weights[:, label], weights, atol=2e-3)
        np.testing.assert_allclose(together.bias[label], bias, atol=2e-3)
        alone = fit_binary(rows, labels == label, c, 0)
        np.testing.assert_allclose(alone.weights[:, 0], weights, atol=2e-3)
        np.testing.assert_allclose(
            together.scores(rows)[:, label], rows @ weights + bias, atol=5e-3
        )


def test_two_classes_have_two_columns(points):
    rows, labels = points
    two = labels < 2
    found = fit(rows[two], labels[two], 2, 1, 0)
    weights, bias = minimum(rows[two], labels[two] == 1, 1)
    np.testing.assert_allclose(found.weights, np.stack([-weights, weights], 1), atol=2e-3)
    np.testing.assert_allclose(found.bias, [-bias, bias], atol=2e-3)


def test_the_same_seed_gives_the_same_bits(points):
    rows, labels = points
    first, second = (fit(rows, labels, 3, 10, 7) for _ in range(2))
    assert first.weights.tobytes() == second.weights.tobytes()
    assert fit(rows, labels, 3, 10, 8).weights.tobytes() != first.weights.tobytes()


def test_svms_that_do_not_converge_say_so(points, monkeypatch):
    monkeypatch.setattr(svm, "MOST_ITERATIONS", 2)
    assert not fit(*points, 3, 1000, 0).converged
