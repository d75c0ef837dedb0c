"""What a training step is fed with."""

from typing import NamedTuple

from torch import Tensor


class Examples(NamedTuple):
    """One process's input of one update, on its device."""

    inputs: Tensor  # (N, ...) float32, ready for the trainee
    labels: Tensor  # (N,) int64
    rows: Tensor  # (N,) int64, places in this process's share of the batch
