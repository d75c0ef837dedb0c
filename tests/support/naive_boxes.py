"""Boxes in plain loops over numbers: the oracle of vgg_deploy.boxes."""

import math


def area(box):
    left, top, right, bottom = box
    return max(right - left, 0) * max(bottom - top, 0)


def overlap(one, other):
    """Intersection over union."""
    left, top = max(one[0], other[0]), max(one[1], other[1])
    right, bottom = min(one[2], other[2]), min(one[3], other[3])
    common = max(right - left, 0) * max(bottom - top, 0)
    union = area(one) + area(other) - common
    return common / union if union else 0.0


def diagonal(box):
    return math.hypot(box[2] - box[0], box[3] - box[1])


def match(one, other):
    apart = math.hypot(
        (one[0] + one[2] - other[0] - other[2]) / 2, (one[1] + one[3] - other[1] - other[3]) / 2
    )
    mean = (diagonal(one) + diagonal(other)) / 2
    distance = 0.0 if apart == 0 else apart / mean if mean > 0 else math.inf
    return distance + 1 - overlap(one, other)


def merge(boxes, scores, threshold):
    """OverFeat's loop as it is printed: a list, searched whole in every round."""
    left = [(list(box), float(score)) for box, score in zip(boxes, scores, strict=True)]
    while len(left) > 1:
        best, pair = math.inf, None
        for i in range(len(left)):
            for j in range(i + 1, len(left)):
                score = match(left[i][0], left[j][0])
                if score < best:
                    best, pair = score, (i, j)
        if pair is None or best > threshold:
            break
        i, j = pair
        mean = [(a + b) / 2 for a, b in zip(left[i][0], left[j][0], strict=True)]
        left[i] = (mean, left[i][1] + left[j][1])
        del left[j]
    return sorted(left, key=lambda one: -one[1])


def is_right(box, true_boxes):
    return any(overlap(box, true) > 0.5 for true in true_boxes)


def localisation_errors(answers, labels, true_boxes, k):
    """Per cent of the images without a right answer among the first k.

    answers: of each image a list of (label, box).
    """
    wrong = 0
    for given, label, boxes in zip(answers, labels, true_boxes, strict=True):
        wrong += not any(answer == label and is_right(box, boxes) for answer, box in given[:k])
    return 100 * wrong / len(answers)


def window(row, column, height, width, side, crop):
    """The image's pixels that a map position sees, walked from the rescaled image back."""
    shorter = min(height, width)
    longer = math.floor(max(height, width) * side / shorter + 0.5)
    new_height, new_width = (side, longer) if height <= width else (longer, side)
    left, top = 32 * column, 32 * row
    return (
        left * width / new_width,
        top * height / new_height,
        (left + crop) * width / new_width,
        (top + crop) * height / new_height,
    )
