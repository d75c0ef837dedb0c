"""What a run measured."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np


class GridRow(NamedTuple):
    """One C on the images that were held out.

    Attributes:
        split: From 1.
        c: Weight of the losses.
        score_pct: Mean class recall or mean average precision on the held-out images, per cent.
        converged: Whether all SVMs did.
        chosen: Whether this C was chosen.
    """

    split: int
    c: float
    score_pct: float
    converged: bool
    chosen: bool = False


class ClassRow(NamedTuple):
    """One class in one split.

    Attributes:
        split: From 1.
        name: Of the class.
        train: Training images that show it.
        test: Test images that show it.
        recall_pct: Of the single task.
        ap_2007_pct: Of the multi task, as `ap_2010_pct`.
        ap_2010_pct: By the rule since 2010.
        difficult: Test images left out for this class.
    """

    split: int
    name: str
    train: int
    test: int
    recall_pct: float = float("nan")
    ap_2007_pct: float = float("nan")
    ap_2010_pct: float = float("nan")
    difficult: int = 0


@dataclass(frozen=True)
class Outcome:
    """The results of one run.

    Attributes:
        task: "single" or "multi".
        measure: Field of `ClassRow` that the task is judged by.
        data: VOC2007, VOC2012, Caltech-101 or Caltech-256 if images and protocol may be those of
            the paper; else empty.
        rows: Split by split, class by class.
        grid: Split by split.
        images: Training and test images of each split.
        converged: Of each split, whether the SVMs that were scored did.
    """

    task: str
    measure: str
    data: str
    rows: list[ClassRow] = field(default_factory=list)
    grid: list[GridRow] = field(default_factory=list)
    images: list[tuple[int, int]] = field(default_factory=list)
    converged: list[bool] = field(default_factory=list)

    @property
    def splits(self) -> int:
        """Number of splits."""
        return len(self.images)

    def means(self, measure: str) -> list[float]:
        """The mean over classes, of each split.

        Args:
            measure: Field of `ClassRow`.
        """
        return [
            float(np.mean([getattr(row, measure) for row in self.rows if row.split == split]))
            for split in range(1, self.splits + 1)
        ]

    def chosen(self) -> list[float]:
        """C of each split."""
        return [row.c for row in self.grid if row.chosen]


def spread(values: list[float]) -> float:
    """Standard deviation of a sample, with n - 1; NaN for one value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def choose(rows: list[GridRow]) -> list[GridRow]:
    """Mark the C of the highest score; the smallest of equal ones.

    Args:
        rows: Of one split.
    """
    best = max(rows, key=lambda row: (row.score_pct, -row.c))
    return [row._replace(chosen=row is best) for row in rows]
