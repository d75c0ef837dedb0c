"""Computes some rows of a convolution's output: all columns and channels, in a few bands of rows.

A convolution is the same at every position but the borders, so its first, middle and last rows show
every stored value of it, its padding and its strides, in a fraction of the time. What stands before
it is computed for these rows only.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ROWS = 4  # of a band

RowsOf = Callable[[int], list[slice]]  # from the height of an output to its rows


def all_rows(height: int) -> list[slice]:
    """All rows of an output, as one band."""
    return [slice(0, height)]


def some_rows(height: int) -> list[slice]:
    """The first, middle and last rows of an output; all rows of a low one.

    Example:
        >>> some_rows(100)
        [slice(0, 4, None), slice(48, 52, None), slice(96, 100, None)]
    """
    if height <= 3 * ROWS:
        return all_rows(height)
    starts = (0, (height - ROWS) // 2, height - ROWS)
    return [slice(start, start + ROWS) for start in starts]


class Map(NamedTuple):
    """What a layer gives, of which only the rows are computed that are asked for.

    Attributes:
        height: Of the whole.
        rows: Gives some of its rows, (N, C, rows, W), as a new tensor.
    """

    height: int
    rows: Callable[[slice], Tensor]

    def whole(self) -> Tensor:
        """(N, C, H, W)."""
        return self.rows(slice(0, self.height))


def held(values: Tensor) -> Map:
    """A map whose values (N, C, H, W) exist; they are not changed."""

    def rows(band: slice) -> Tensor:
        part = values[:, :, band]
        # a copy, because a ReLU overwrites its input. Convolutions are faster with channels last
        return torch.empty_like(part, memory_format=torch.channels_last).copy_(part)

    return Map(values.shape[2], rows)


def behind(layer: nn.Module, before: Map) -> Map:
    """What a pool, or a layer that looks at one position, gives for a map."""
    if not isinstance(layer, nn.MaxPool2d):
        return Map(before.height, lambda band: layer(before.rows(band)))
    side, stride = layer.kernel_size, layer.stride
    assert isinstance(side, int) and isinstance(stride, int)  # a VGG's windows are square
    height = (before.height - side) // stride + 1
    return Map(
        height,
        lambda band: layer(
            before.rows(slice(band.start * stride, (band.stop - 1) * stride + side))
        ),
    )


class Rows(NamedTuple):
    """Some rows of an output.

    Attributes:
        values: (N, C, rows, W), one band below the other.
        height: Of the whole output.
        bands: Which rows.
    """

    values: Tensor
    height: int
    bands: list[slice]


def whole(values: Tensor) -> Rows:
    """All rows of an output (N, C, H, W)."""
    height = values.shape[2]
    return Rows(values, height, all_rows(height))


def chosen(values: Tensor, bands: list[slice]) -> Tensor:
    """Rows of an output, one band below the other.

    Args:
        values: (N, C, H, W).
        bands: Which rows.

    Returns:
        (N, C, rows, W); the values themselves if it is all of them.
    """
    if bands == all_rows(values.shape[2]):
        return values
    return torch.cat([values[:, :, band] for band in bands], 2)


def inputs_of(images: Map, band: slice, kernel: int, padding: int) -> Tensor:
    """The input rows that a band of an output is computed from, zeros beyond the borders.

    Args:
        images: The input of a convolution with stride 1.
        band: Rows of its output.
        kernel: Its height.
        padding: Its zeros above and below.

    Returns:
        (N, C, rows + kernel - 1, W).
    """
    height = images.height
    first, end = band.start - padding, band.stop - padding + kernel - 1
    part = images.rows(slice(max(first, 0), min(end, height)))
    return F.pad(part, (0, 0, max(-first, 0), max(end - height, 0)))
