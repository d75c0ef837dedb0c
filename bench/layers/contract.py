"""Defines what a runtime offers of which single layers are measured: their times and their values.

A new runtime needs a class that meets `LayerTimer` and a line in `bench.layers.timers`; for the
values of its layers, one that meets `LayerValues` and a line in `bench.layers.watchers`.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from bench.layers.parts import Part
from vgg_deploy.exported.interface import Interface


class PartTimes(NamedTuple):
    """What one part of a net took in every call.

    Attributes:
        part: What was computed.
        ms: (calls,) milliseconds.
    """

    part: Part
    ms: np.ndarray


class NotSeparable(Exception):
    """A runtime whose layers cannot be measured here; the message is the end of a sentence."""


def refuse_fixed_shape(interface: Interface) -> None:
    """Refuse a graph that takes one shape only: layers are seen with other batches.

    Raises:
        NotSeparable: If it is such a graph.
    """
    if interface.shape is not None:
        raise NotSeparable(
            f"it takes {interface.text()} only; measure a file of the same net without that"
        )


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


class Rounding(NamedTuple):
    """How a part of a net rounds what it stores, as far as its file says.

    Attributes:
        weight: (O, C, k, k) float32, the convolution's weights as they are stored; None where the
            file does not show them, so that they should be those of the net in `kind`.
        weight_step: (O,) or (1,) float32, the distance of two stored weights; None for floats.
        kind: "fp32", "fp16" or "bf16": what weights and values are stored in if they are no
            integers.
        input_levels: (scale, zero point, lowest, highest) of the integers that the input is rounded
            to; None for floats.
        output_levels: The same of the values that the part gives.
    """

    weight: np.ndarray | None = None
    weight_step: np.ndarray | None = None
    kind: str = "fp32"
    input_levels: tuple[float, int, int, int] | None = None
    output_levels: tuple[float, int, int, int] | None = None


class LayerValues(Protocol):
    """Runs a net and shows the values between its parts."""

    @property
    def parts(self) -> Sequence[Part]:
        """Those whose values it shows, in running order, together all layers of the net."""

    @property
    def note(self) -> str:
        """What showing them changes, as a sentence without its point; empty if nothing."""

    def all_values(self, images: np.ndarray) -> list[np.ndarray]:
        """What every part gives.

        Args:
            images: (N, 3, H, W) uint8 RGB.

        Returns:
            (N, C, h, w) float32, part by part.
        """

    def alone(self, part: Part, values: np.ndarray) -> np.ndarray:
        """What one part gives by its own arithmetic, before it is rounded for the next part.

        Args:
            part: One of `parts`.
            values: (N, C, h, w) float32, what its first layer takes.

        Returns:
            (N, C', h', w') float32.
        """

    def rounding(self, part: Part) -> Rounding:
        """How a part rounds.

        Raises:
            NotSeparable: If the file does not show it.
        """
