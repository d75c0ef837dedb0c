"""Measures the second moments of the inputs of fc6 and fc7 on calibration images.

The inputs of a layer are taken in groups of GROUP. Moments across groups would fill a matrix of
25,088 squared for fc6, 2.5 GB; a group of 512 is all channels at one position of fc6's window.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from export.quantize.convolve import convolutions_of, layers_of, net_input, run_layer_fast
from vgg_deploy.net.model import VGG

GROUP = 512  # inputs whose moments are measured together
IMAGES = 128  # are enough: photos have several positions each


def as_rows(weight: Tensor) -> Tensor:
    """Weights of a layer as a matrix whose columns are in the order of `windows`.

    Args:
        weight: (O, C, kh, kw).

    Returns:
        (O, kw * kh * C), a copy or a view.
    """
    return weight.permute(0, 3, 2, 1).flatten(1)


def windows(values: Tensor, kernel: tuple[int, int]) -> Tensor:
    """The windows that a convolution without padding sees, one row for each position.

    Args:
        values: (N, C, H, W).
        kernel: Height and width.

    Returns:
        (N * h * w, kw * kh * C).
    """
    height, width = kernel
    cut = values.unfold(2, height, 1).unfold(3, width, 1)  # N, C, h, w, kh, kw
    return cut.permute(0, 2, 3, 5, 4, 1).flatten(3).flatten(0, 2)


@torch.inference_mode()
def measure_moments(
    net: VGG, batches: Iterable[np.ndarray], names: tuple[str, ...]
) -> dict[str, Tensor]:
    """Mean products of the inputs of some layers, over all positions of all images.

    Args:
        net: In evaluation mode.
        batches: (N, 3, H, W) uint8 RGB.
        names: Of convolutions without padding.

    Returns:
        By layer, (groups, g, g) float32 with g = min(GROUP, inputs). Inputs that the last group
        lacks are zero.
    """
    convolutions = convolutions_of(net)
    sums, rows_seen = {name: _empty(convolutions[name]) for name in names}, dict.fromkeys(names, 0)
    layers = layers_of(net)
    last = max(i for i, (name, _) in enumerate(layers) if name in names)
    for batch in batches:
        for image in batch:
            values = net_input(image[None], net.spec)
            for name, layer in layers[: last + 1]:
                if name in names:
                    assert isinstance(layer, nn.Conv2d)
                    rows = windows(values, _kernel(layer))
                    _add(sums[name], rows)
                    rows_seen[name] += len(rows)
                values = run_layer_fast(layer, values)
    return {name: total / rows_seen[name] for name, total in sums.items()}


def group_of(inputs: int) -> int:
    """Number of inputs in a group of a layer with so many."""
    return min(GROUP, inputs)


def _kernel(layer: nn.Conv2d) -> tuple[int, int]:
    height, width = layer.kernel_size
    return height, width


def _empty(layer: nn.Conv2d) -> Tensor:
    inputs = layer.weight[0].numel()
    group = group_of(inputs)
    return torch.zeros(-(-inputs // group), group, group)


def _add(total: Tensor, rows: Tensor) -> None:
    """Add the products of (N, inputs) rows to the (groups, g, g) sums."""
    group = total.shape[1]
    for index in range(len(total)):
        part = rows[:, index * group : (index + 1) * group]
        count = part.shape[1]
        total[index, :count, :count].addmm_(part.T, part)
