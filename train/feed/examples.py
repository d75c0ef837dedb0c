"""Defines the input of one training step."""

from typing import NamedTuple

from torch import Tensor


class Examples(NamedTuple):
    """One process's input of one update, on its device.

    Attributes:
        inputs: (N, ...) float32, ready for the trainee.
        labels: (N,) int64.
        rows: (N,) int64, positions in this process's share of the batch.
        boxes: (N, 4) float32, what a localiser should say; None for a classifier.
    """

    inputs: Tensor
    labels: Tensor
    rows: Tensor
    boxes: Tensor | None = None

    def part(self, images: slice) -> "Examples":
        """Some of the images, without a copy."""
        boxes = None if self.boxes is None else self.boxes[images]
        return Examples(self.inputs[images], self.labels[images], self.rows[images], boxes)
