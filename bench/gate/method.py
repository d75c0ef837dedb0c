"""How a number of images becomes a verdict: at a fixed number of images, or at any time."""

from collections.abc import Callable
from typing import NamedTuple

from bench.statistics.sequential import (
    SEQUENTIAL_LEVEL,
    images_to_decide_anytime,
    images_to_decide_proportion_anytime,
    paired_evidence_anytime,
    proportion_evidence_anytime,
)
from vgg_deploy.statistics.evidence import (
    LEVEL,
    Evidence,
    paired_evidence,
    paired_to_decide,
    proportion_evidence,
    proportion_to_decide,
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


FIXED = Method(
    level=LEVEL,
    paired=paired_evidence,
    proportion=proportion_evidence,
    paired_to_decide=paired_to_decide,
    proportion_to_decide=proportion_to_decide,
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
