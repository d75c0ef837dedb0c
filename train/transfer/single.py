"""One class per image, as Caltech-101 and Caltech-256: mean class recall over random splits."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from train.transfer.class_labels import ClassLabels
from train.transfer.descriptors import Descriptors
from train.transfer.outcome import ClassRow, GridRow, Outcome, choose
from train.transfer.splits import Split, held_out_by_class, random_split
from train.transfer.svm import Svm, fit
from vgg_deploy.errors import InputError
from vgg_deploy.progress import Bar, progress

LEAST_TRAIN = 2  # per class: one to learn from, one to choose C


@dataclass(frozen=True)
class SingleProtocol:
    """How images are drawn.

    Attributes:
        splits: Number of random splits.
        train_per_class: Training images per class.
        test_per_class: Most test images per class.
        seed: Of everything that is drawn.
    """

    splits: int
    train_per_class: int
    test_per_class: int
    seed: int


def draw_splits(labelled: ClassLabels, protocol: SingleProtocol) -> list[Split]:
    """Draw all splits.

    Raises:
        InputError: If a class has too few images.
    """
    if protocol.train_per_class < LEAST_TRAIN:
        raise InputError(
            f"{protocol.train_per_class} training image per class leaves none to choose C; use "
            f"{LEAST_TRAIN} or more",
            about="train_per_class",
        )
    return [
        random_split(
            labelled.labels,
            labelled.classes,
            protocol.train_per_class,
            protocol.test_per_class,
            (protocol.seed, split),
        )
        for split in range(protocol.splits)
    ]


def measure_single(
    descriptors: Descriptors,
    labelled: ClassLabels,
    splits: Sequence[Split],
    grid: Sequence[float],
    data: str,
    seed: int,
) -> Outcome:
    """Train and score every split.

    Args:
        descriptors: Of all images.
        labelled: Their classes.
        splits: Of `draw_splits`.
        grid: Values of C.
        data: As of `Outcome`.
        seed: Of the held-out images, and of scikit-learn.
    """
    outcome = Outcome("single", "recall_pct", data)
    classes = len(labelled.classes)
    with progress("training SVMs", len(splits) * (len(grid) + 1) * classes) as bar:
        for number, split in enumerate(splits, start=1):
            rows, labels = descriptors.take(split.train), labelled.labels[split.train]
            chosen = choose(_grid(rows, labels, classes, grid, seed, number, bar))
            outcome.grid.extend(chosen)
            (best,) = (row for row in chosen if row.chosen)
            svm = fit(rows, labels, classes, best.c, seed, bar.advance)
            del rows
            truth = labelled.labels[split.test]
            found = predicted(descriptors, svm, split.test)
            recalls = class_recalls(truth, found, classes)
            outcome.rows.extend(
                ClassRow(
                    number,
                    name,
                    int((labels == label).sum()),
                    int((truth == label).sum()),
                    recall_pct=100 * float(recalls[label]),
                )
                for label, name in enumerate(labelled.classes)
            )
            outcome.images.append((len(split.train), len(split.test)))
            outcome.converged.append(svm.converged)
    return outcome


def predicted(descriptors: Descriptors, svm: Svm, images: np.ndarray) -> np.ndarray:
    """The class of the highest score of each image.

    Args:
        descriptors: Of all images.
        svm: One SVM per class.
        images: (k,) int64, indices of images.

    Returns:
        (k,) int64.
    """
    found = [svm.scores(rows).argmax(1) for rows in descriptors.blocks(images)]
    return np.concatenate(found)


def class_recalls(truth: np.ndarray, found: np.ndarray, classes: int) -> np.ndarray:
    """Share of each class's images that were given this class.

    Args:
        truth: (images,) int64; every class occurs.
        found: (images,) int64.
        classes: Number of classes.

    Returns:
        (classes,) float64.
    """
    right = np.bincount(truth[truth == found], minlength=classes)
    recalls: np.ndarray = right / np.bincount(truth, minlength=classes)
    return recalls


def _grid(
    rows: np.ndarray,
    labels: np.ndarray,
    classes: int,
    grid: Sequence[float],
    seed: int,
    number: int,
    bar: Bar,
) -> list[GridRow]:
    """Score every C on a fifth of the training images, learnt from the rest."""
    held = held_out_by_class(labels, (seed, number))
    found = []
    for c in grid:
        svm = fit(rows[~held], labels[~held], classes, c, seed, bar.advance)
        answers = svm.scores(rows[held]).argmax(1)
        score = 100 * float(class_recalls(labels[held], answers, classes).mean())
        found.append(GridRow(number, c, score, svm.converged))
        bar.advance(0, f"split {number}, C {c:g}: {score:.1f} %")
    return found
