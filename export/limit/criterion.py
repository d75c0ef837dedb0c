"""A limit of what a quantized file may lose, and what images show about it.

With labels the loss is that of top-1 accuracy. Without labels it is the share of changed answers:
images whose best class is not that of the float32 net.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from vgg_deploy.statistics.evidence import (
    Evidence,
    least_images,
    paired_evidence,
    paired_to_decide,
    proportion_evidence,
    proportion_to_decide,
)

UNREADABLE = -1  # the best class of an image that was skipped


class Tally(NamedTuple):
    """What counts on some images.

    Attributes:
        lost: Images that only the float32 net has right; without labels, changed answers.
        won: Images that only the quantized net has right; without labels 0.
        images: All of them.
    """

    lost: int
    won: int
    images: int

    def scaled(self, images: int) -> "Tally":
        """The same rates on another number of images, rounded against the file."""
        factor = images / self.images
        return Tally(math.ceil(self.lost * factor), int(self.won * factor), images)


@dataclass(frozen=True)
class Criterion:
    """A limit.

    Attributes:
        points: The largest loss, in percentage points.
        labelled: Whether the images have labels.
    """

    points: float
    labelled: bool

    @property
    def share(self) -> float:
        """The limit as a fraction of images."""
        return self.points / 100

    @property
    def what(self) -> str:
        """What is limited, in words."""
        return "top-1 accuracy" if self.labelled else "answers"

    def evidence(self, tally: Tally, level: float) -> Evidence:
        """What images show, with bounds of the confidence 1 - level."""
        if self.labelled:
            return paired_evidence(tally.lost, tally.won, tally.images, self.share, level)
        return proportion_evidence(tally.lost, tally.images, self.share, level)

    def to_decide(self, tally: Tally) -> int | None:
        """About how many images would give a verdict at these rates; None if no number would."""
        if self.labelled:
            return paired_to_decide(*tally, self.share)
        return proportion_to_decide(tally.lost, tally.images, self.share)

    def least_images(self, level: float) -> int:
        """How many images it takes if none of them speaks against the file."""
        least = least_images(self.share, level)
        assert least is not None  # limits are above 0
        return least

    def loss_in_words(self, tally: Tally, evidence: Evidence) -> str:
        """In words, such as "2.00 % of the answers change (at most 4.61 %) on 200 images"."""
        found, high = 100 * evidence.estimate, 100 * evidence.high
        on = f"on {tally.images:,} images"
        if not self.labelled:
            return f"{found:.2f} % of the answers change (at most {high:.2f} %) {on}"
        return (
            f"top-1 accuracy falls by {found:.2f} points (at most {high:.2f}) {on}: {tally.lost} "
            f"lost, {tally.won} won"
        )


@dataclass(frozen=True, eq=False)
class Standard:
    """The float32 net's answers, and the true ones.

    Attributes:
        best: (N,) int64, the float32 net's best class; UNREADABLE where an image was skipped.
        accepted: (N, most) int64, the right classes, -1 behind the last; None without labels.
    """

    best: np.ndarray
    accepted: np.ndarray | None

    def tally(self, best: np.ndarray) -> Tally:
        """Compare a net's answers with the float32 net's.

        Args:
            best: (N,) int64, the net's best class, UNREADABLE for the same images.
        """
        seen = self.best != UNREADABLE
        images = int(seen.sum())
        if self.accepted is None:
            return Tally(int((best != self.best)[seen].sum()), 0, images)
        reference = (self.best[:, None] == self.accepted).any(1)
        found = (best[:, None] == self.accepted).any(1)
        lost, won = (reference & ~found)[seen], (found & ~reference)[seen]
        return Tally(int(lost.sum()), int(won.sum()), images)

    def error_pct(self) -> float | None:
        """The float32 net's top-1 error; None without labels."""
        if self.accepted is None:
            return None
        seen = self.best != UNREADABLE
        wrong = ~(self.best[:, None] == self.accepted).any(1)[seen]
        return 100 * float(wrong.mean())
