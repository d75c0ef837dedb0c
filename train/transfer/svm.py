"""Linear support vector machines of scikit-learn, one against the rest."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

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


def fit(
    rows: np.ndarray,
    labels: np.ndarray,
    classes: int,
    c: float,
    seed: int,
    after_each: Callable[[], object] = lambda: None,
) -> Svm:
    """Train one SVM per class against all others.

    They are trained one by one: a signal is heard, and progress is shown, after each.

    Args:
        rows: (n, width) float32.
        labels: (n,) int64, 0 to classes - 1; each occurs.
        classes: At least 2.
        c: Weight of the losses.
        seed: Of the order in which liblinear goes through the rows.
        after_each: Is called after each class.
    """
    wide, found = rows.astype(np.float64), []
    for label in range(classes):
        found.append(fit_binary(wide, labels == label, c, seed))
        after_each()
    return side_by_side(found)


def side_by_side(found: Sequence[Svm]) -> Svm:
    """Several SVMs of the same width as one.

    Args:
        found: In the order of the classes.
    """
    return Svm(
        np.concatenate([svm.weights for svm in found], axis=1),
        np.concatenate([svm.bias for svm in found]),
        all(svm.converged for svm in found),
    )


def fit_binary(rows: np.ndarray, positive: np.ndarray, c: float, seed: int) -> Svm:
    """Train one SVM.

    Squared hinge loss and a regularised bias, as scikit-learn's LinearSVC has by default.

    Args:
        rows: (n, width), any float type; float64 is not copied first.
        positive: (n,) bool, both values occur.
        c: As `fit`.
        seed: As `fit`.

    Returns:
        For one class.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import LinearSVC

    model = LinearSVC(
        C=c, loss="squared_hinge", dual=True, random_state=seed, max_iter=MOST_ITERATIONS
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the tables say it
        model.fit(rows, positive)
    bias = np.asarray(model.intercept_, np.float64)
    converged = bool(np.max(model.n_iter_) < MOST_ITERATIONS)
    return Svm(np.ascontiguousarray(model.coef_.T), bias, converged)
