"""Runs a net layer by layer, without copies of its weights."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vgg_deploy.net.model import VGG
from vgg_deploy.net.spec import NetSpec


def layers_of(net: VGG) -> list[tuple[str, nn.Module]]:
    """Names and layers in running order, without dropout, which does nothing after training."""
    return [
        (name, layer) for name, layer in net.named_children() if not isinstance(layer, nn.Dropout)
    ]


def convolutions_of(net: VGG) -> dict[str, nn.Conv2d]:
    """The convolutions by name, in running order; fc6, fc7 and fc8 are among them."""
    return {name: layer for name, layer in net.named_children() if isinstance(layer, nn.Conv2d)}


def net_input(images: np.ndarray, spec: NetSpec) -> Tensor:
    """Images as the net's first layer takes them.

    Args:
        images: (N, 3, H, W) uint8 RGB.
        spec: Description of the net.

    Returns:
        (N, 3, H, W) float32, minus the mean.
    """
    mean = torch.tensor(spec.preprocessing.mean).view(1, 3, 1, 1)
    return torch.from_numpy(images).float() - mean


def run_layer(layer: nn.Module, images: Tensor) -> Tensor:
    """Output of one layer, (N, C, H, W) -> (N, C', H', W')."""
    if isinstance(layer, nn.Conv2d):
        return convolve(images, layer.weight, bias_of(layer), padding_of(layer))
    output: Tensor = layer(images)
    return output


def convolve(images: Tensor, weight: Tensor, bias: Tensor, padding: tuple[int, int]) -> Tensor:
    """A convolution of stride 1.

    Without padding, as in fc6 to fc8, it is one matrix product over windows. conv2d would first
    copy the weights into another order, 411 MB for fc6.

    Args:
        images: (N, C, H, W) float32.
        weight: (out, C, kh, kw) float32.
        bias: (out,) float32.
        padding: Zeros on each side, vertically and horizontally.

    Returns:
        (N, out, h, w) float32.
    """
    if any(padding):
        return F.conv2d(images, weight, bias, padding=padding)
    kernel_height, kernel_width = weight.shape[2:]
    height = images.shape[2] - kernel_height + 1
    width = images.shape[3] - kernel_width + 1
    windows = F.unfold(images, (kernel_height, kernel_width))
    products = weight.flatten(1) @ windows + bias[:, None]
    return products.view(*products.shape[:2], height, width)


def bias_of(layer: nn.Conv2d) -> Tensor:
    """(out,) bias, which every convolution of a VGG has."""
    assert layer.bias is not None
    return layer.bias


def padding_of(layer: nn.Conv2d) -> tuple[int, int]:
    """Zeros on each side, vertically and horizontally."""
    assert not isinstance(layer.padding, str)  # a VGG states its padding in numbers
    vertical, horizontal = layer.padding
    return vertical, horizontal
