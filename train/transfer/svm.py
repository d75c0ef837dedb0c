"""Linear support vector machines of scikit-learn, one against the rest."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from vgg_deploy.errors import InputError

MOST_ITERATIONS = 10_000
PACKAGE = "scikit-learn"


@dataclass(frozen=True, eq=False)
class Svm:
    """One SVM per class.

    Attributes:
        weights: (width, classes) float64.
        bias: (classes,) float64.
        converged: Whether every SVM reached the tolerance of scikit-learn.
    """

    weights: np.ndarray
    bias: np.ndarray
    converged: bool

    def scores(self, rows: np.ndarray) -> np.ndarray:
        """Signed distances from the planes, times the norm of the weights.

        Args:
            rows: (n, width) float32.

        Returns:
            (n, classes) float64.
        """
        found: np.ndarray = rows.astype(np.float64) @ self.weights + self.bias
        return found


def check_installed() -> None:
    """Refuse to start without scikit-learn.

    Raises:
        InputError: If it is not installed.
    """
    from importlib.util import find_spec

    if find_spec("sklearn") is None:
        raise InputError(
            f'{PACKAGE} is not installed, which trains the SVMs; pip install "vgg-deploy[transfer]"'
        )


def fit(rows: np.ndarray, labels: np.ndarray, classes: int, c: float, seed: int) -> Svm:
    """Train one SVM per class against all others.

    Squared hinge loss and a regularised bias, as scikit-learn's LinearSVC has by default.

    Args:
        rows: (n, width) float32.
        labels: (n,) int64, 0 to classes - 1; each occurs.
        classes: At least 2.
        c: Weight of the losses.
        seed: Of the order in which liblinear goes through the rows.
    """
    model, converged = _fitted(rows, labels, c, seed)
    weights, bias = model.coef_.T, model.intercept_
    if classes == 2:  # which scikit-learn separates with one SVM
        weights = np.concatenate([-weights, weights], axis=1)
        bias = np.concatenate([-bias, bias])
    return Svm(np.ascontiguousarray(weights), np.asarray(bias, np.float64), converged)


def fit_binary(rows: np.ndarray, positive: np.ndarray, c: float, seed: int) -> Svm:
    """Train one SVM.

    Args:
        rows: (n, width) float32.
        positive: (n,) bool, both values occur.
        c: As `fit`.
        seed: As `fit`.

    Returns:
        For one class.
    """
    model, converged = _fitted(rows, positive, c, seed)
    bias = np.asarray(model.intercept_, np.float64)
    return Svm(np.ascontiguousarray(model.coef_.T), bias, converged)


def _fitted(rows: np.ndarray, labels: np.ndarray, c: float, seed: int) -> tuple[Any, bool]:
    """A trained LinearSVC, and whether it converged."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    model = LinearSVC(
        C=c, loss="squared_hinge", dual=True, random_state=seed, max_iter=MOST_ITERATIONS
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the tables say it
        # many classes of few images each
        warnings.filterwarnings("ignore", "The number of unique classes")
        model.fit(rows, labels)
    return model, bool(np.max(model.n_iter_) < MOST_ITERATIONS)
