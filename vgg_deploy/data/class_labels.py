"""Matches the classes of a net with those of a data set, and numbers the labels accordingly."""

import numpy as np

from vgg_deploy.data.dataset import Dataset
from vgg_deploy.net.class_matching import Matching, match_classes
from vgg_deploy.net.spec import NetSpec


def matching(dataset: Dataset, spec: NetSpec, where: str, stated: bool = False) -> Matching:
    """Match a net's classes with those of a data set.

    Args:
        dataset: The data set.
        spec: Of the net.
        where: The net's file, for errors.
        stated: Whether the user gave `spec.classes`, so that they are ids even if they are numbers.

    Raises:
        InputError: For classes that the net does not have.
        Unstated: For a net without ids whose order cannot be taken from the data.
    """
    numbering = dataset.benchmark.numbering if dataset.benchmark else ()
    return match_classes(dataset.classes, spec, stated, str(dataset.root), where, numbering)


def matched_classes(
    dataset: Dataset, spec: NetSpec, where: str, stated: bool = False
) -> tuple[str, ...]:
    """List a net's classes by the ids that the data set uses, in the order of the net's scores.

    Args:
        dataset: As in `matching`.
        spec: As in `matching`.
        where: As in `matching`.
        stated: As in `matching`.

    Raises:
        InputError: As `matching`.
        Unstated: As `matching`.
    """
    return matching(dataset, spec, where, stated).classes


def labels_for(dataset: Dataset, classes: tuple[str, ...]) -> np.ndarray:
    """Number the labels of a data set by the classes of a net.

    Args:
        dataset: With labels.
        classes: As `matched_classes` lists them.

    Returns:
        (images,) int64, index into `classes`.
    """
    labels: np.ndarray = _numbers(dataset, classes)[dataset.labels]
    return labels


def right_for(dataset: Dataset, classes: tuple[str, ...]) -> np.ndarray | None:
    """Number all right classes of the images by the classes of a net.

    Args:
        dataset: As in `labels_for`.
        classes: As in `labels_for`.

    Returns:
        (images, most) int64, index into `classes`, -1 behind the last; None if every image has one
        right class.
    """
    if dataset.right is None:
        return None
    return np.where(dataset.right < 0, -1, _numbers(dataset, classes)[dataset.right])


def _numbers(dataset: Dataset, classes: tuple[str, ...]) -> np.ndarray:
    """(classes of the data,) index of each in `classes`."""
    positions = {id: i for i, id in enumerate(classes)}
    return np.array([positions[id] for id in dataset.classes], np.int64)
