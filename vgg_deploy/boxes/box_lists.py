"""Holds the boxes of a data set's images: some images have none, others several."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class BoxLists:
    """Boxes image by image.

    Attributes:
        boxes: (all boxes, 4) float64: left, top, right, bottom, pixels of the image as it is
            decoded; those of the first image first.
        ends: (images,) int64: where an image's boxes end.
    """

    boxes: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, lists: Sequence[np.ndarray]) -> "BoxLists":
        """Join the boxes of images.

        Args:
            lists: One (boxes, 4) array per image, in the order of the images.
        """
        counts = np.array([len(boxes) for boxes in lists], np.int64)
        boxes = np.concatenate([np.zeros((0, 4)), *lists])
        return cls(boxes, counts.cumsum())

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int) -> np.ndarray:
        """(boxes, 4) float64 of one image."""
        begin = int(self.ends[index - 1]) if index else 0
        return self.boxes[begin : int(self.ends[index])]

    @property
    def counts(self) -> np.ndarray:
        """(images,) int64: how many boxes each image has."""
        return np.diff(self.ends, prepend=0)

    def lists(self) -> Iterator[np.ndarray]:
        """(boxes, 4) float64 of each image in turn."""
        return (self[index] for index in range(len(self)))

    def take(self, kept: np.ndarray) -> "BoxLists":
        """Select images.

        Args:
            kept: (images,) int64, their indices, in the order of the result.
        """
        return BoxLists.of([self[index] for index in kept.tolist()])
