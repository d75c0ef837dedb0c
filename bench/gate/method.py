"""How a number of images becomes a verdict: at a fixed number of images, or at any time."""

import math
from collections.abc import Callable
from typing import NamedTuple

from bench.statistics.evidence import (
    LEVEL,
    Evidence,
    images_to_decide,
    images_to_decide_proportion,
    paired_evidence,
    proportion_evidence,
)
from bench.statistics.sequential import (
    SEQUENTIAL_LEVEL,
    images_to_decide_anytime,
    images_to_decide_proportion_anytime,
    paired_evidence_anytime,
    proportion_evidence_anytime,
)


class Method(NamedTuple):
    """One way to judge.

    All limits are fractions of images. `paired` and `paired_to_decide` take the images that only
    the reference has right, those that only the model has right, all images, and the limit.
    `proportion` and `proportion_to_decide` take the images that count, all images, and the limit.

    Attributes:
        level: Chance of a false pass, and of any false fail.
        paired: Evidence about a loss against the reference.
        proportion: Evidence about a share of images.
        paired_to_decide: How many images may decide about a loss; None if no number does.
        proportion_to_decide: How many images may decide about a share; None if no number does.
        source: The tests and their literature, for gate.json.
    """

    level: float
    paired: Callable[[int, int, int, float], Evidence]
    proportion: Callable[[int, int, float], Evidence]
    paired_to_decide: Callable[[int, int, int, float], int | None]
    proportion_to_decide: Callable[[int, int, float], int | None]
    source: str


def least_images(limit: float, level: float) -> int | None:
    """Smallest number of images that can show a loss within the limit.

    It suffices if no image speaks against the model. All of n images speak for a model that loses
    `limit` with the chance (1 - limit)^n.

    Example:
        >>> least_images(0.005, 0.05)
        598

    Args:
        limit: A fraction.
        level: Chance of a false pass.

    Returns:
        None for a limit of 0, which no number of images shows.
    """
    if limit <= 0:
        return None
    if limit >= 1:
        return 1
    return math.ceil(math.log(level) / math.log1p(-limit))


def _paired_to_decide(
    only_reference: int, only_model: int, images: int, limit: float
) -> int | None:
    if only_reference == only_model == 0:
        return least_images(limit, LEVEL)
    return images_to_decide(only_reference, only_model, images, limit)


def _proportion_to_decide(count: int, images: int, limit: float) -> int | None:
    if count == 0:
        return least_images(limit, LEVEL)
    return images_to_decide_proportion(count, images, limit)


FIXED = Method(
    level=LEVEL,
    paired=paired_evidence,
    proportion=proportion_evidence,
    paired_to_decide=_paired_to_decide,
    proportion_to_decide=_proportion_to_decide,
    source="exact one-sided tests at a fixed number of images (paired: unconditional, ordered by "
    "Tango's score; shares: Clopper and Pearson 1934); fails corrected over all rows by Holm 1979",
)
SEQUENTIAL = Method(
    level=SEQUENTIAL_LEVEL,
    paired=paired_evidence_anytime,
    proportion=proportion_evidence_anytime,
    paired_to_decide=images_to_decide_anytime,
    proportion_to_decide=images_to_decide_proportion_anytime,
    source="anytime-valid tests by betting (Waudby-Smith and Ramdas 2023; Ville 1939); fails "
    "corrected over all rows by Holm 1979",
)
