"""Runs fc6 and what follows it for all windows of several images at once.

So their weights, most of the net's, are read once for many windows.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import unfold

from vgg_deploy.runtimes.ncnn_loading import NcnnPart

WINDOWS = 128  # at once, where an image has fewer; as many inputs of a full-width fc6 take 13 MB


def images_at_once(height: int, width: int) -> int:
    """Images whose windows are multiplied at once.

    Args:
        height: Of a score map.
        width: Of a score map.
    """
    return max(1, WINDOWS // (height * width))


def run_head(
    head: NcnnPart, maps: np.ndarray, side: int, names: Sequence[str]
) -> dict[str, np.ndarray]:
    """Run the head.

    Args:
        head: fc6 and what follows it.
        maps: What fc6 takes, (N, C, h, w) float32.
        side: Of fc6's kernel.
        names: Of the values that are wanted.

    Returns:
        By name, (N, C', h - side + 1, w - side + 1) float32.
    """
    count, height, width = len(maps), maps.shape[2] - side + 1, maps.shape[3] - side + 1
    strips: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for strip in _strips(torch.from_numpy(maps), side, height, width):
        columns = unfold(strip, side)  # N, C * side * side, windows
        windows = columns.transpose(0, 1).flatten(1)[:, None]
        for name, value in zip(names, head(head.mat(windows.numpy()), names), strict=True):
            values = np.asarray(value)
            split = values.reshape(len(values), count, -1, width)
            strips[name].append(split.transpose(1, 0, 2, 3))
    return {name: np.concatenate(parts, 2) for name, parts in strips.items()}


def _strips(maps: Tensor, side: int, height: int, width: int) -> Iterator[Tensor]:
    """The rows of maps that some rows of score maps depend on."""
    rows = max(1, WINDOWS // width) if len(maps) == 1 else height
    for start in range(0, height, rows):
        yield maps[:, :, start : min(start + rows, height) + side - 1]
