"""Measures the error of every part of a net against the float32 net, on the same images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.layers.contract import LayerValues
from bench.layers.parts import Part
from bench.layers.reference import FloatNet


@dataclass(frozen=True)
class PartError:
    """The error of what one part gives.

    Attributes:
        part: Which one.
        added_db: Signal-to-noise ratio where the part alone is the file's and takes the float32
            net's values: 10 log10 of the signal's power over the error's. Infinite without error.
        added_rms: Root mean square of that error.
        total_db: The same where all parts up to this one are the file's.
        total_rms: Root mean square of that error.
    """

    part: Part
    added_db: float
    added_rms: float
    total_db: float
    total_rms: float


class _Sums:
    """Squares of a part's values and errors."""

    def __init__(self) -> None:
        self.count, self.signal, self.added, self.total = 0, 0.0, 0.0, 0.0

    def error(self, part: Part) -> PartError:
        return PartError(
            part,
            decibels(self.signal, self.added),
            math.sqrt(self.added / self.count),
            decibels(self.signal, self.total),
            math.sqrt(self.total / self.count),
        )


def part_errors(
    values: LayerValues, net: FloatNet, images: Sequence[np.ndarray]
) -> list[PartError]:
    """Measure the errors of all parts.

    Args:
        values: Of a model.
        net: The float32 net of its weights.
        images: (1, 3, H, W) uint8 RGB each, at least one.
    """
    sums = [_Sums() for _ in values.parts]
    for image in images:
        current = net.start(image)
        shown = values.all_values(image)
        for index, part in enumerate(values.parts):
            current = net.part(part, current)
            exact, one = current.cpu().numpy(), sums[index]
            one.count += exact.size
            one.signal += _power(exact)
            one.total += _power(shown[index] - exact)
    given = [net.start(image) for image in images]
    for index, part in enumerate(values.parts):
        for at, taken in enumerate(given):
            given[at] = net.part(part, taken)
            # planes of channels, as every runtime takes them
            floats = np.ascontiguousarray(taken.cpu().numpy())
            alone = values.alone(part, floats)
            sums[index].added += _power(alone - given[at].cpu().numpy())
    return [one.error(part) for one, part in zip(sums, values.parts, strict=True)]


def decibels(signal: float, noise: float) -> float:
    """10 log10 of a ratio of powers.

    Example:
        >>> decibels(100.0, 1.0)
        20.0
    """
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf


def _power(values: np.ndarray) -> float:
    return float(np.sum(values.astype(np.float64) ** 2))
