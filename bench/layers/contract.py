"""Defines what every runtime offers that tells the time of single layers.

A new runtime needs a class that meets `LayerTimer`, and a line in `bench.layers.timers`.
"""

from typing import NamedTuple, Protocol

import numpy as np

from bench.layers.parts import Part


class PartTimes(NamedTuple):
    """What one part of a net took in every call.

    Attributes:
        part: What was computed.
        ms: (calls,) milliseconds.
    """

    part: Part
    ms: np.ndarray


class NotSeparable(Exception):
    """A runtime whose layers cannot be timed here; the message is the end of a sentence."""


class LayerTimer(Protocol):
    """Runs a net and takes the time of its layers.

    Attributes:
        how: How the times are taken, for people.
    """

    how: str

    def __call__(self, images: np.ndarray) -> None:
        """Score a batch (N, 3, H, W) uint8 RGB, and note the time of each layer."""

    def forget(self) -> None:
        """Forget the times so far: those of the first calls."""

    def finish(self) -> list[PartTimes]:
        """The times of all calls since the last `forget`; the timer is not called again.

        Returns:
            Part by part in running order. LAYOUT, which stands in no single place, is the last.
        """
