"""Draws images for training and testing, and training images that are held out to choose C."""

from typing import NamedTuple

import numpy as np

from vgg_deploy.errors import InputError

HELD_OUT = 0.2  # share of the training images (appendix B)


class Split(NamedTuple):
    """Images of one split, as ascending indices."""

    train: np.ndarray  # int64
    test: np.ndarray  # int64


def random_split(
    labels: np.ndarray, classes: tuple[str, ...], train: int, test: int, seed: tuple[int, int]
) -> Split:
    """Draw images of every class.

    Args:
        labels: (images,) int64, index into classes; -1 for images without a class.
        classes: Their ids, for messages.
        train: Training images per class.
        test: Most test images per class; all others if there are fewer.
        seed: Of the run, and number of the split.

    Raises:
        InputError: If a class has too few images.
    """
    rng = np.random.default_rng(seed)
    trains, tests = [], []
    for label, name in enumerate(classes):
        members = np.flatnonzero(labels == label)
        if len(members) <= train:
            raise InputError(
                f"class {name} has {len(members)} images; {train} for training leave none to test",
                about="train_per_class",
            )
        drawn = rng.permutation(members)
        trains.append(drawn[:train])
        tests.append(drawn[train : train + test])
    return Split(np.sort(np.concatenate(trains)), np.sort(np.concatenate(tests)))


def held_out_by_class(labels: np.ndarray, seed: tuple[int, ...]) -> np.ndarray:
    """Hold out a fifth of each class, at least one image.

    Args:
        labels: (images,) int64 of the training images; each class has two or more.
        seed: Any numbers.

    Returns:
        (images,) bool.
    """
    rng = np.random.default_rng(seed)
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = max(1, round(HELD_OUT * len(members)))
        held[rng.permutation(members)[:count]] = True
    return held


def held_out(count: int, seed: tuple[int, ...]) -> np.ndarray:
    """Hold out a fifth of some images.

    Args:
        count: Of the training images.
        seed: Any numbers.

    Returns:
        (count,) bool.
    """
    held = np.zeros(count, bool)
    held[np.random.default_rng(seed).permutation(count)[: max(1, round(HELD_OUT * count))]] = True
    return held
