"""Draws convolutions of random integers that are hard for 8-bit kernels, with exact results."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from onnx import helper
from torch.nn import functional as F

from vgg_deploy.exported.onnx_outline import Range
from vgg_deploy.runtimes.quantized_convolutions import Kind, Zero

IMAGES, HEIGHT, WIDTH = 2, 2, 5  # of an output: no multiple of what kernels compute together


class Trial(NamedTuple):
    """A convolution of random integers, and the exact sums of its products."""

    kind: Kind
    images: np.ndarray  # (IMAGES, channels, h, w) uint8 or int8
    weights: np.ndarray  # (rows, channels, kernel h, kernel w) int8 or uint8
    sums: np.ndarray  # (IMAGES, rows, HEIGHT, WIDTH) float64, whole numbers


class Scaling(NamedTuple):
    """How a sum becomes a value: sum * scale + bias."""

    scale: np.ndarray  # (rows,) float32
    bias: np.ndarray  # (rows,) float32


def dtype_of(zero: Zero) -> np.dtype[Any]:
    """The type of 8-bit values.

    Args:
        zero: Their zero point.
    """
    return helper.tensor_dtype_to_np_dtype(zero.type)


def trial(kind: Kind, weights: Range, draw: np.random.Generator) -> Trial:
    """Draw activations of all 8 bits, and weights.

    Half of the images and rows have values at the ends of the range only. So products that can
    overflow together do.

    Args:
        kind: Of the convolution.
        weights: Their range.
        draw: The generator.
    """
    image, row = (kind.channels, *_input_sides(kind)), (kind.channels, *kind.kernel)
    images = _drawn(_limits(kind.input), (IMAGES, *image), draw).astype(dtype_of(kind.input))
    factors = _drawn(weights, (kind.rows, *row), draw).astype(dtype_of(kind.weight))
    return Trial(kind, images, factors, _sums(kind, images, factors))


def scalings(one: Trial) -> Iterator[Scaling]:
    """Give two ways to look at the sums of every row with 8 bits.

    The first spreads them over all levels, as a file does. The second is exact: a level is one, and
    the middle is the sum at one position, another one in each row.

    Args:
        one: The trial.

    Yields:
        Both.
    """
    kind = one.kind
    sums, zero = one.sums.swapaxes(0, 1).reshape(kind.rows, -1), kind.output.value
    lower, upper = _limits(kind.output)
    spread = np.maximum(sums.max(1) - sums.min(1), 1)
    if not kind.by_channel:
        spread = np.full_like(spread, spread.max())
    scale = (upper - lower) / spread
    yield _scaling(scale, (lower - zero) / scale - sums.min(1))
    rows = np.arange(kind.rows)
    middle = (lower + upper + 1) // 2 - zero
    yield _scaling(np.ones(kind.rows), middle - sums[rows, rows % sums.shape[1]])


def exact_levels(one: Trial, scaling: Scaling) -> np.ndarray:
    """Compute the output with exact sums, before it is rounded to whole levels.

    Args:
        one: The trial.
        scaling: One of its scalings.

    Returns:
        (IMAGES, rows, HEIGHT, WIDTH) float64.
    """
    scale, bias = (part.astype(np.float64).reshape(-1, 1, 1) for part in scaling)
    values = one.sums * scale + bias
    if one.kind.relu:
        values = np.maximum(values, 0)
    levels: np.ndarray = np.clip(values + one.kind.output.value, *_limits(one.kind.output))
    return levels


def _drawn(values: Range, shape: Sequence[int], draw: np.random.Generator) -> np.ndarray:
    """int16 anywhere in a range in the first half, and at its ends in the second half."""
    drawn = draw.integers(*values, shape, np.int16, endpoint=True)
    second = drawn[len(drawn) // 2 :]
    second[...] = np.where(second > sum(values) / 2, values.high, values.low)
    return drawn


def _limits(zero: Zero) -> Range:
    """The least and the greatest of 8-bit values, by their zero point."""
    limits = np.iinfo(dtype_of(zero))
    return Range(int(limits.min), int(limits.max))


def _input_sides(kind: Kind) -> list[int]:
    """Height and width of an input whose output is HEIGHT x WIDTH."""
    sides = []
    for axis, side in enumerate((HEIGHT, WIDTH)):
        side = (side - 1) * kind.strides[axis] + kind.kernel[axis]
        sides.append(side - kind.pads[axis] - kind.pads[axis + 2])
    return sides


@torch.inference_mode()
def _sums(kind: Kind, images: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The sums of products as in `Trial`; float64 holds them and their parts exactly."""
    top, left, bottom, right = kind.pads
    values = torch.from_numpy(images).double() - kind.input.value
    factors = torch.from_numpy(weights).double() - kind.weight.value
    padded = F.pad(values, (left, right, top, bottom))
    sums: np.ndarray = F.conv2d(padded, factors, stride=kind.strides).numpy()
    return sums


def _scaling(scale: np.ndarray, added: np.ndarray) -> Scaling:
    """The scaling after which (sum + added) * scale is computed; `added` is rounded."""
    scale = scale.astype(np.float32)
    return Scaling(scale, (np.rint(added) * scale).astype(np.float32))
