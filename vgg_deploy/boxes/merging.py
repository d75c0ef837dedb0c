"""Merges the boxes of many positions and scales to few, and rates them (OverFeat's procedure).

Sermanet et al., "OverFeat" (2013), section 4.3, to which the paper refers: the two boxes that match
best are replaced by one, again and again, until the best match is too poor. The box that remains is
rated by the class scores of all windows that went into it.

What OverFeat leaves open is decided here. Two boxes match by the distance of their centres, in
parts of the mean of their diagonals, plus the part of their union that they do not share: 0 for
equal boxes, 1 or more for boxes that do not overlap. A merged box is the mean of the two.
"""

from typing import NamedTuple

import numpy as np

from vgg_deploy.boxes.geometry import iou
from vgg_deploy.net.box_outputs import MATCH


class Merged(NamedTuple):
    """Boxes after merging.

    Attributes:
        boxes: (boxes, 4) float64, pixels, the best rated first.
        ratings: (boxes,) float64: sums of the scores that went into a box.
    """

    boxes: np.ndarray
    ratings: np.ndarray


def match_scores(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How badly a box matches others: 0 for an equal one, more the less they have in common.

    Args:
        box: (4,).
        others: (boxes, 4).

    Returns:
        (boxes,) float64.
    """
    apart = _lengths(_centres(others) - _centres(box))
    diagonals = (_diagonals(others) + _diagonals(box)) / 2
    distance = np.divide(apart, diagonals, out=np.full(len(others), np.inf), where=diagonals > 0)
    distance[apart == 0] = 0
    scores: np.ndarray = distance + 1 - iou(box, others)
    return scores


def merge(boxes: np.ndarray, scores: np.ndarray, match: float = MATCH) -> Merged:
    """Merge the boxes of one class greedily.

    Args:
        boxes: (boxes, 4) float64, of all positions, scales and nets; finite.
        scores: (boxes,) that class's score in the window that each box comes from, 0 or more.
        match: t. The two boxes that match best are merged as long as their score is not above it.

    Returns:
        The boxes that remain. Of equal matches the first pair is merged first; of equal ratings the
        first box comes first. An input without boxes gives none.

    Example:
        >>> boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60.0]])
        >>> merge(boxes, np.array([0.2, 0.5, 0.6])).boxes.tolist()
        [[0.5, 0.0, 10.5, 10.0], [50.0, 50.0, 60.0, 60.0]]
    """
    left = np.array(boxes, np.float64)
    ratings = np.array(scores, np.float64)
    there = np.ones(len(left), bool)
    pairs = _Pairs(left)
    while there.sum() > 1:
        one, other, score = pairs.best()
        if score > match:
            break
        left[one] = (left[one] + left[other]) / 2
        ratings[one] += ratings[other]
        there[other] = False
        again = match_scores(left[one], left)
        again[~there] = np.inf
        pairs.replace(one, other, again)
    order = np.argsort(-ratings[there], kind="stable")
    return Merged(left[there][order], ratings[there][order])


class _Pairs:
    """The scores of all pairs, and the lowest of each row, so that a search looks at one row."""

    def __init__(self, boxes: np.ndarray):
        """Match each box with each that follows it."""
        count = len(boxes)
        self.scores = np.full((count, count), np.inf)  # above the diagonal
        for index in range(count - 1):
            self.scores[index, index + 1 :] = match_scores(boxes[index], boxes[index + 1 :])
        self.column = self.scores.argmin(axis=1) if count else np.zeros(0, np.int64)
        self.lowest = self.scores.min(axis=1, initial=np.inf)

    def best(self) -> tuple[int, int, float]:
        """The first of the pairs with the lowest score, and that score."""
        one = int(self.lowest.argmin())
        return one, int(self.scores[one].argmin()), float(self.lowest[one])

    def replace(self, one: int, other: int, scores: np.ndarray) -> None:
        """Replace a pair of boxes by one in the place of the first.

        Args:
            one: The first.
            other: The second, which goes.
            scores: (boxes,) of the new box with each; infinite for boxes that are gone.
        """
        self.scores[other], self.scores[:, other] = np.inf, np.inf
        self.scores[one, one + 1 :] = scores[one + 1 :]
        self.scores[:one, one] = scores[:one]
        stale = (self.column == one) | (self.column == other)
        stale[[one, other]] = True
        rows = self.scores[stale]
        self.column[stale], self.lowest[stale] = rows.argmin(axis=1), rows.min(axis=1)
        lower = self.scores[:, one] < self.lowest
        self.column[lower], self.lowest[lower] = one, self.scores[lower, one]


def _centres(boxes: np.ndarray) -> np.ndarray:
    centres: np.ndarray = (boxes[..., :2] + boxes[..., 2:]) / 2
    return centres


def _diagonals(boxes: np.ndarray) -> np.ndarray:
    return _lengths(boxes[..., 2:] - boxes[..., :2])


def _lengths(vectors: np.ndarray) -> np.ndarray:
    lengths: np.ndarray = np.hypot(vectors[..., 0], vectors[..., 1])
    return lengths
