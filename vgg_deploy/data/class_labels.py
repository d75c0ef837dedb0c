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
    return match_classes(dataset.classes, spec, stated, str(dataset.root), where)


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
    positions = {id: i for i, id in enumerate(classes)}
    by_class = np.array([positions[id] for id in dataset.classes], np.int64)
    labels: np.ndarray = by_class[dataset.labels]
    return labels
