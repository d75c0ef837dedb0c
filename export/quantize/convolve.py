"""Runs a net layer by layer, without copies of its weights."""

from collections import OrderedDict
from collections.abc import Callable, Collection

import numpy as np
import torch
from torch import Tensor, nn

from export.quantize.winograd import convolve_fast
from vgg_deploy.net.fully_connected import convolve
from vgg_deploy.net.model import VGG, subtract_mean
from vgg_deploy.net.outputs import BOXES, SCORES
from vgg_deploy.net.spec import NetSpec

SECOND = ".b"  # ends the name of a second factor

Run = Callable[[nn.Module, Tensor], Tensor]  # `run_layer` or `run_layer_fast`


class Factors(nn.Sequential):
    """Two convolutions in place of one, called `<layer>.a` and `<layer>.b`."""

    def __init__(self, first: nn.Conv2d, second: nn.Conv2d):
        super().__init__(OrderedDict(a=first, b=second))


def layers_of(net: VGG) -> list[tuple[str, nn.Module]]:
    """Names and layers in running order, without dropout, which does nothing after training.

    A layer in two factors is two layers.
    """
    layers: list[tuple[str, nn.Module]] = []
    for name, layer in net.named_children():
        if isinstance(layer, Factors):
            layers += [(f"{name}.{part}", factor) for part, factor in layer.named_children()]
        elif not isinstance(layer, nn.Dropout):
            layers.append((name, layer))
    return layers


def trunk_and_head(
    net: VGG,
) -> tuple[list[tuple[str, nn.Module]], list[tuple[str, nn.Module]]]:
    """Names and layers as `layers_of`, those before fc6 and those from there on.

    The trunk's activations are large and its weights small. The head is the other way round, so it
    takes many images at once.
    """
    layers = layers_of(net)
    first = next(
        (i for i, (name, _) in enumerate(layers) if paper_name(name) == "fc6"), len(layers)
    )
    return layers[:first], layers[first:]


def multiply_adds(net: VGG, height: int, width: int) -> dict[str, int]:
    """The work of every convolution for one image of a size, in multiplications.

    Args:
        net: The net.
        height: Of the image, pixels.
        width: Of the image, pixels.
    """
    work = {}
    for name, layer in layers_of(net):
        if isinstance(layer, nn.Conv2d):
            vertical, horizontal = padding_of(layer)
            height += 2 * vertical - layer.kernel_size[0] + 1
            width += 2 * horizontal - layer.kernel_size[1] + 1
            work[name] = layer.weight.numel() * height * width
        elif isinstance(layer, nn.MaxPool2d):
            height, width = height // 2, width // 2
    return work


def whole_name(name: str) -> str:
    """The layer whose output this one gives: that of a second factor is the layer's own."""
    return name.removesuffix(SECOND)


def paper_name(name: str) -> str:
    """The layer of the paper that this one is, or is a factor of."""
    return name.partition(".")[0]


def layers_for(net: VGG, outputs: Collection[str]) -> list[tuple[str, nn.Module]]:
    """Names and layers in running order, up to the last that some outputs need.

    Args:
        net: The net.
        outputs: Of SCORES, BOXES, or names of layers.
    """
    layers = layers_of(net)
    if set(outputs) & {*SCORES, BOXES}:
        return layers
    last = max(i for i, (name, _) in enumerate(layers) if whole_name(name) in outputs)
    return layers[: last + 1]


def convolutions_of(net: VGG) -> dict[str, nn.Conv2d]:
    """The convolutions by name, in running order; fc6, fc7 and fc8 are among them."""
    return {name: layer for name, layer in layers_of(net) if isinstance(layer, nn.Conv2d)}


def net_input(images: np.ndarray, spec: NetSpec) -> Tensor:
    """Images as the net's first layer takes them.

    Channels lie last in memory, and stay there from layer to layer: PyTorch's convolutions are
    faster so on CPUs.

    Args:
        images: (N, 3, H, W) uint8 RGB.
        spec: Description of the net.

    Returns:
        (N, 3, H, W) float32, minus the mean.
    """
    values = subtract_mean(torch.from_numpy(images), spec.preprocessing)
    return values.contiguous(memory_format=torch.channels_last)


def run_layer(layer: nn.Module, images: Tensor) -> Tensor:
    """Output of one layer, (N, C, H, W) -> (N, C', H', W')."""
    if isinstance(layer, nn.Conv2d):
        return convolve(images, layer.weight, bias_of(layer), padding_of(layer))
    output: Tensor = layer(images)
    return output


def run_layer_fast(layer: nn.Module, images: Tensor) -> Tensor:
    """Output of one layer as `run_layer`, to about 1e-5 of the largest value."""
    if isinstance(layer, nn.Conv2d):
        return convolve_fast(images, layer.weight, bias_of(layer), padding_of(layer))
    output: Tensor = layer(images)
    return output


def bias_of(layer: nn.Conv2d) -> Tensor:
    """(out,) bias, which every convolution of a VGG has."""
    assert layer.bias is not None
    return layer.bias


def padding_of(layer: nn.Conv2d) -> tuple[int, int]:
    """Zeros on each side, vertically and horizontally."""
    assert not isinstance(layer.padding, str)  # a VGG states its padding in numbers
    vertical, horizontal = layer.padding
    return vertical, horizontal
