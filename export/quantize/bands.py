"""Computes some rows of a convolution's output: all columns and channels, in a few bands of rows.

A convolution is the same at every position but the borders, so its first, middle and last rows show
every stored value of it, its padding and its strides, in a fraction of the time.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
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


def inputs_of(images: Tensor, band: slice, kernel: int, padding: int) -> Tensor:
    """The input rows that a band of an output is computed from, zeros beyond the borders.

    Args:
        images: (N, C, H, W), the input of a convolution with stride 1.
        band: Rows of its output.
        kernel: Its height.
        padding: Its zeros above and below.

    Returns:
        (N, C, rows + kernel - 1, W).
    """
    height = images.shape[2]
    first, end = band.start - padding, band.stop - padding + kernel - 1
    part = images[:, :, max(first, 0) : min(end, height)]
    return F.pad(part, (0, 0, max(-first, 0), max(end - height, 0)))
