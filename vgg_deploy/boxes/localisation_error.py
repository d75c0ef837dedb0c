"""Decides whether a box is right, as ILSVRC does: it overlaps a true box by more than half."""

from collections.abc import Sequence

import numpy as np

from vgg_deploy.boxes.geometry import iou

LEAST_OVERLAP = 0.5  # intersection over union; a box is right above it


def best_overlap(box: np.ndarray | None, true_boxes: np.ndarray) -> float:
    """The largest intersection over union of a box with any of an image's true boxes.

    Args:
        box: (4,) pixels; None where there is no answer.
        true_boxes: (boxes, 4), one or more, all of the image's class.

    Returns:
        0 to 1; 0 for no answer and for a box that is not finite.
    """
    if box is None or not np.isfinite(box).all():
        return 0.0
    return float(iou(box, true_boxes).max())


def is_right(box: np.ndarray | None, true_boxes: np.ndarray) -> bool:
    """Whether a box is that of any of the objects.

    Args:
        box: As `best_overlap`.
        true_boxes: As `best_overlap`.
    """
    return best_overlap(box, true_boxes) > LEAST_OVERLAP


def rank_of_right_answer(
    labels: Sequence[int], boxes: Sequence[np.ndarray | None], label: int, true_boxes: np.ndarray
) -> int:
    """The rank of the first answer whose label and box are right.

    Args:
        labels: The answers' classes, the best first.
        boxes: Their boxes.
        label: The true class.
        true_boxes: As `best_overlap`.

    Returns:
        0 for the first answer; the number of answers if none is right.
    """
    for rank, (answer, box) in enumerate(zip(labels, boxes, strict=True)):
        if answer == label and is_right(box, true_boxes):
            return rank
    return len(labels)
