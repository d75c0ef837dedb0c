"""Joins what classifier and box nets say about an image to answers: a box for each label."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vgg_deploy.boxes.merging import merge
from vgg_deploy.boxes.outputs import boxes_of_class
from vgg_deploy.net.box_outputs import MATCH, TOP_CLASSES

MOST_BOXES = 1000  # of a class that are merged: those of the highest scores


class ScaleView(NamedTuple):
    """What two nets say about an image at one scale.

    Attributes:
        posteriors: (classes, positions) softmax of the classifier's scores at every position.
        stated: (classes, positions, 4) boxes in pixels of the image, see `boxes_of_map`.
        numbers: (classes,) int64, the box net's number of each of the classifier's classes; None if
            they are the same.
    """

    posteriors: np.ndarray
    stated: np.ndarray
    numbers: np.ndarray | None = None

    def boxes(self, label: int) -> np.ndarray:
        """(positions, 4) boxes of a class.

        Args:
            label: As the classifier numbers it.
        """
        return boxes_of_class(
            self.stated, label if self.numbers is None else int(self.numbers[label])
        )


class Merging(NamedTuple):
    """How boxes are merged.

    Attributes:
        match: t of `merge`.
        top_classes: k: a scale contributes the boxes of the k classes with the highest posterior at
            any of its positions.
    """

    match: float = MATCH
    top_classes: int = TOP_CLASSES


def merged_box(views: Sequence[ScaleView], label: int, how: Merging) -> np.ndarray:
    """The best box of a class, from all scales and nets.

    A scale takes part if the class is among its first k; if it is so at no scale, all take part.

    Args:
        views: One or more.
        label: The class.
        how: Thresholds.

    Returns:
        (4,) float64, pixels of the image.
    """
    among = [view for view in views if _rank(view, label) < how.top_classes] or views
    boxes = np.concatenate([view.boxes(label) for view in among])
    scores = np.concatenate([view.posteriors[label] for view in among])
    if len(boxes) > MOST_BOXES:
        first = np.sort(np.argsort(-scores, kind="stable")[:MOST_BOXES])
        boxes, scores = boxes[first], scores[first]
    best: np.ndarray = merge(boxes, scores, how.match).boxes[0]
    return best


def _rank(view: ScaleView, label: int) -> int:
    """How many classes have a higher posterior at any position."""
    best = view.posteriors.max(axis=1)
    return int((best > best[label]).sum())
