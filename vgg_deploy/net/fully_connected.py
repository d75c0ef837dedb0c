"""Computes fc6, fc7 and fc8, convolutions without padding (section 3.2), as matrix products.

A convolution first copies its weights into another order, in every call. For the 411 MB of fc6 this
takes longer than the whole trunk of one image. The three functions differ in the order in which
they add, so they agree to rounding only: use the same one where results must be the same bits.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear, unfold

ROWS = 256  # positions of a score map that are multiplied at once; as many inputs of fc6 take 26 MB


def fc_at_crop_size(layer: nn.Conv2d, values: Tensor) -> Tensor:
    """Apply a layer whose kernel covers its whole input, so that the score map is 1x1.

    Args:
        layer: (O, C, k, k) weight and (O,) bias.
        values: (N, C * k * k), flattened in the order C, row, column.

    Returns:
        (N, O).
    """
    return linear(values, layer.weight.flatten(1), layer.bias)


def fc_channels_last(layer: nn.Conv2d, maps: Tensor) -> Tensor:
    """Apply a layer to a map of any size, for weights and maps whose channels lie last in memory.

    Args:
        layer: (O, C, k, k) weight and (O,) bias; no padding, stride 1.
        maps: (N, C, H, W).

    Returns:
        (N, O, H - k + 1, W - k + 1).
    """
    k = layer.kernel_size[0]
    windows = maps.unfold(2, k, 1).unfold(3, k, 1).permute(0, 2, 3, 4, 5, 1)  # N, h, w, k, k, C
    weights = layer.weight.permute(0, 2, 3, 1).flatten(1)  # a view, in this order
    images_at_once = max(1, ROWS // (windows.shape[1] * windows.shape[2]))
    parts = [
        linear(part.flatten(3), weights, layer.bias)
        for part in torch.split(windows, images_at_once)
    ]
    return torch.cat(parts).permute(0, 3, 1, 2)


def convolve(
    images: Tensor, weight: Tensor, bias: Tensor, padding: int | tuple[int, int]
) -> Tensor:
    """Convolve as `conv2d` with stride 1, but without a copy of the weights if there is no padding.

    Args:
        images: (N, C, H, W).
        weight: (O, C, k, k).
        bias: (O,).
        padding: Rows and columns of zeros on each side.

    Returns:
        (N, O, h, w).
    """
    if padding not in (0, (0, 0)):
        return conv2d(images, weight, bias, padding=padding)
    k_height, k_width = weight.shape[2:]
    columns = unfold(images, (k_height, k_width))  # N, C * k * k, h * w
    scores = weight.flatten(1) @ columns + bias[:, None]
    height, width = images.shape[2] - k_height + 1, images.shape[3] - k_width + 1
    return scores.view(len(images), len(weight), height, width)
