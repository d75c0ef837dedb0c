"""Judges files one after the other, so that a wrong "kept" has a chance of at most 5 % in all.

The first file has the level 4 %, and every further one a fifth of the level before it: 0.8 %,
0.16 %. The sum stays below 5 % (Bonferroni's inequality), although each file was chosen after the
one before it had failed.
"""

from typing import NamedTuple

from export.limit.criterion import Criterion, Tally
from export.limit.photos import FIRST_LEVEL
from export.limit.search import Kept
from vgg_deploy.statistics.evidence import LEVEL, Evidence

MOST_ATTEMPTS = 3
SPENT = 1 / 5  # of the level before


class Attempt(NamedTuple):
    """One file that was judged.

    Attributes:
        kept: Layers that it keeps in float.
        tally: What counts on the judging images.
        evidence: About its loss, with bounds of the confidence 1 - level.
        level: Of its test.
    """

    kept: Kept
    tally: Tally
    evidence: Evidence
    level: float

    @property
    def proves(self) -> bool:
        """Whether the file is shown to keep the limit."""
        return self.evidence.p_pass <= self.level

    @property
    def disproves(self) -> bool:
        """Whether the file is shown to break the limit."""
        return self.evidence.p_fail <= LEVEL


def level_of(attempt: int) -> float:
    """The level of the test of a file.

    Args:
        attempt: From 0.

    Example:
        >>> [round(level_of(attempt), 4) for attempt in range(3)]
        [0.04, 0.008, 0.0016]
    """
    return FIRST_LEVEL * SPENT**attempt


def may_go_on(attempt: int, images: int, criterion: Criterion) -> bool:
    """Whether another file could be shown to keep the limit.

    Args:
        attempt: Of that file, from 0.
        images: Number of judging images.
        criterion: The limit.
    """
    return attempt < MOST_ATTEMPTS and images >= criterion.least_images(level_of(attempt))


def promises(tally: Tally, judging: int, criterion: Criterion) -> bool:
    """Whether a net would be shown to keep the limit if it did as well on the judging images.

    Args:
        tally: On the choosing images.
        judging: Number of judging images.
        criterion: The limit.
    """
    return criterion.evidence(tally.scaled(judging), FIRST_LEVEL).p_pass <= FIRST_LEVEL


def best_of(attempts: list[Attempt]) -> Attempt:
    """The file whose loss is the smallest for certain; of equal ones the first."""
    return min(attempts, key=lambda attempt: attempt.evidence.high)
