"""Average precision of a ranking, by the two rules of Pascal VOC.

Both begin with precision and recall behind every image of the ranking. The rule of 2007 averages
the largest precision at a recall of at least 0, 0.1, ..., 1. The rule since 2010 integrates over
all recalls that occur: the precision at a recall is the largest at this recall or any larger one.
scikit-learn's `average_precision_score` takes the precision at the recall itself instead, which is
never larger.
"""

from typing import NamedTuple

import numpy as np

POSITIVE, DIFFICULT, NEGATIVE = 1, 0, -1
POINTS = 11  # recalls of the rule of 2007


class AveragePrecision(NamedTuple):
    """Of one class, 0 to 1."""

    rule_2007: float
    rule_2010: float

    def by(self, rule: str) -> float:
        """The value by one of RULES."""
        return self.rule_2007 if rule == "2007" else self.rule_2010


def average_precision(scores: np.ndarray, truth: np.ndarray) -> AveragePrecision:
    """Compute the average precision of one class.

    Images of equal scores are ranked in their order, as in VOC's development kit.

    Args:
        scores: (images,) float, higher for images that rather show the class.
        truth: (images,) int: 1 the image shows the class, -1 it does not, 0 only in objects that
            are difficult. The last are left out.

    Raises:
        ValueError: If no image shows the class, or a score is not finite.
    """
    counted = truth != DIFFICULT
    scores, positive = scores[counted], truth[counted] == POSITIVE
    if not positive.any() or not np.isfinite(scores).all():
        raise ValueError("average precision needs a positive image and finite scores")
    ranked = positive[np.argsort(-scores, kind="stable")]
    found = np.cumsum(ranked)
    precision = found / np.arange(1, len(ranked) + 1)
    # the largest precision from each rank on
    best = np.maximum.accumulate(precision[::-1])[::-1]
    # in whole numbers: recall >= t / 10 is 10 found >= t positives, without rounding
    points = [best[np.argmax(10 * found >= t * found[-1])] for t in range(POINTS)]
    return AveragePrecision(float(np.mean(points)), float(best[ranked].sum() / found[-1]))
