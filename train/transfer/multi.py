"""Several classes per image, as Pascal VOC: one SVM per class, and average precision."""

from collections.abc import Sequence

import numpy as np

from train.transfer.average_precision import DIFFICULT, NEGATIVE, POSITIVE, average_precision
from train.transfer.descriptors import Descriptors
from train.transfer.outcome import ClassRow, GridRow, Outcome, choose
from train.transfer.splits import held_out
from train.transfer.svm import Svm, fit_binary, side_by_side
from train.transfer.voc_lists import ImageSet, VocTruth
from vgg_deploy.errors import InputError
from vgg_deploy.progress import Bar, progress


def rows_of(descriptors: Descriptors, images: ImageSet) -> np.ndarray:
    """Find the features of the images of a set.

    Args:
        descriptors: Of images whose names without folder and suffix are those of the set.
        images: The set.

    Returns:
        (ids,) int64, indices of images.

    Raises:
        InputError: If an image has no features, or two have its name.
    """
    where = descriptors.parts[0].folder.path
    wanted = {image: row for row, image in enumerate(images.ids)}
    found = np.full(len(images.ids), -1, np.int64)
    for index, name in enumerate(descriptors.images):
        base = name.rpartition("/")[2]
        row = wanted.get(base.rpartition(".")[0] or base)
        if row is None:
            continue
        if found[row] >= 0:
            raise InputError(f"{where}: has two images named {images.ids[row]}")
        found[row] = index
    missing = np.flatnonzero(found < 0)
    if len(missing):
        more = f" (and of {len(missing) - 1} others)" if len(missing) > 1 else ""
        raise InputError(
            f"{where}: has no features of {images.ids[missing[0]]}{more}, which the set "
            f"{images.name} names; write the features of all images of the set",
            about="annotations",
        )
    return found


def check_positives(truth: VocTruth) -> None:
    """Refuse classes that cannot be learnt or scored.

    Raises:
        InputError: If a class has no positive or no negative image in a set.
    """
    for images in (truth.train, truth.test):
        for label, what in ((POSITIVE, "shows"), (NEGATIVE, "lacks")):
            absent = np.flatnonzero(~(images.labels == label).any(0))
            if len(absent):
                raise InputError(
                    f"{truth.root}: no image of the set {images.name} {what} "
                    f"{truth.classes[absent[0]]}; choose another set",
                    about="sets",
                )


def measure_multi(
    descriptors: Descriptors,
    truth: VocTruth,
    grid: Sequence[float],
    rule: str,
    data: str,
    seed: int,
) -> Outcome:
    """Train on one set and score the other.

    C is the same for all classes.

    Args:
        descriptors: Of all images.
        truth: The sets and their labels.
        grid: Values of C.
        rule: One of RULES; C is chosen by it.
        data: As of `Outcome`.
        seed: Of the held-out images, and of scikit-learn.

    Raises:
        InputError: If an image has no features, or a class no positive image.
    """
    check_positives(truth)
    train, test = rows_of(descriptors, truth.train), rows_of(descriptors, truth.test)
    outcome = Outcome("multi", f"ap_{rule}_pct", data)
    classes = len(truth.classes)
    with progress("training SVMs", (len(grid) + 1) * classes) as bar:
        rows, labels = descriptors.take(train), truth.train.labels
        held = held_out(len(rows), (seed,))
        kept = _scorable(labels, held)
        if not kept:
            raise InputError(
                f"{truth.root}: a fifth of the set {truth.train.name} has no class with positive "
                "and negative images, so that C cannot be chosen; use a larger set",
                about="sets",
            )
        found = []
        for c in grid:
            svm = _fit_all(rows[~held], labels[~held], kept, c, seed, bar)
            scores = svm.scores(rows[held])
            values = [
                average_precision(scores[:, column], labels[held, label]).by(rule)
                for column, label in enumerate(kept)
            ]
            found.append(GridRow(1, c, 100 * float(np.mean(values)), svm.converged))
            bar.advance(classes - len(kept), f"C {c:g}: {found[-1].score_pct:.1f} %")
        outcome.grid.extend(choose(found))
        svm = _fit_all(rows, labels, range(classes), outcome.chosen()[0], seed, bar)
        del rows
    outcome.converged.append(svm.converged)
    outcome.images.append((len(train), len(test)))
    scores = np.concatenate([svm.scores(block) for block in descriptors.blocks(test)])
    for label, name in enumerate(truth.classes):
        expected = truth.test.labels[:, label]
        value = average_precision(scores[:, label], expected)
        outcome.rows.append(
            ClassRow(
                1,
                name,
                int((labels[:, label] == POSITIVE).sum()),
                int((expected == POSITIVE).sum()),
                ap_2007_pct=100 * value.rule_2007,
                ap_2010_pct=100 * value.rule_2010,
                difficult=int((expected == DIFFICULT).sum()),
            )
        )
    return outcome


def _scorable(labels: np.ndarray, held: np.ndarray) -> list[int]:
    """Classes with positive and negative images in both parts of the training images."""
    return [
        label
        for label in range(labels.shape[1])
        if all({POSITIVE, NEGATIVE} <= {*labels[part, label].tolist()} for part in (held, ~held))
    ]


def _fit_all(
    rows: np.ndarray, labels: np.ndarray, chosen: Sequence[int], c: float, seed: int, bar: Bar
) -> Svm:
    """Train one SVM per class; images that show it only in difficult objects are left out."""
    wide, found = rows.astype(np.float64), []
    for label in chosen:
        counted = labels[:, label] != DIFFICULT
        inputs = wide if counted.all() else wide[counted]
        found.append(fit_binary(inputs, labels[counted, label] == POSITIVE, c, seed))
        bar.advance()
    return side_by_side(found)
