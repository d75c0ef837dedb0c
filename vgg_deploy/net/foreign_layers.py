"""Converts the layers of foreign weights to ours: shapes, batch normalisation, input convention."""

import math
import statistics

import torch
from torch import Tensor

from vgg_deploy.errors import InputError
from vgg_deploy.net.archs import HIDDEN, STRIDE, Arch, Conv
from vgg_deploy.net.checkpoint import is_finite
from vgg_deploy.net.foreign_files import Tensors
from vgg_deploy.net.foreign_layouts import Source
from vgg_deploy.net.input_convention import Convention

TensorShape = tuple[int, ...]
NORM_EPS = 1e-5  # PyTorch's default, which torchvision and timm keep


def width_of(tensors: Tensors, sources: list[Source], arch: Arch) -> float:
    """Find the multiplier behind a file's channel counts.

    Each count allows an interval of multipliers; the result is the middle of what the intervals
    share. The most typical count goes first. A count that shares nothing with those before it is
    left out: the check of each layer's shape will name it.

    Args:
        tensors: Of the file.
        sources: Of its layers, in running order.
        arch: The net.
    """
    # without fc8, whose outputs are the classes
    full_counts = [conv.c_out for conv in arch.trunk()] + [HIDDEN, HIDDEN]
    counts = [
        (tensors[source.bias].numel(), full)
        for source, full in zip(sources, full_counts, strict=False)
    ]
    typical = statistics.median(count / full for count, full in counts)

    def distance(pair: tuple[int, int]) -> float:
        count, full = pair
        return abs(count / full - typical)

    low, high = 0.0, math.inf
    for count, full in sorted(counts, key=distance):
        lower = (count - 0.5) / full if count > 1 else 0.0  # a net keeps at least one channel
        upper = (count + 0.5) / full
        if max(low, lower) <= min(high, upper):
            low, high = max(low, lower), min(high, upper)
    return (low + high) / 2


def crop_of(tensors: Tensors, sources: list[Source]) -> int:
    """Side of the training crop in pixels, from the inputs of fc6.

    These are conv5's channels times a square.

    Args:
        tensors: Of the file.
        sources: Of its layers, in running order, head included.

    Returns:
        The side; 224 if the inputs are no such product.
    """
    conv5, fc6 = sources[-4], sources[-3]
    weights_per_position = tensors[fc6.bias].numel() * tensors[conv5.bias].numel()
    positions = tensors[fc6.weight].numel() // max(1, weights_per_position)
    side = math.isqrt(positions)
    return STRIDE * side if side > 0 and side**2 == positions else 224


def read_layer(tensors: Tensors, source: Source, conv: Conv, where: str) -> tuple[Tensor, Tensor]:
    """Convert one layer, with the batch normalisation after it folded in.

    Args:
        tensors: Of the file.
        source: Names of the layer's tensors.
        conv: The layer.
        where: Names the file and the net in errors.

    Returns:
        (c_out, c_in, k, k) weight and (c_out,) bias; float64 after a batch normalisation.

    Raises:
        InputError: If a tensor is misshapen or not finite.
    """
    shape = (conv.c_out, conv.c_in, conv.kernel, conv.kernel)
    shapes: list[TensorShape] = [shape]
    if conv.name.startswith("fc"):  # a matrix; legacy Caffe files have four dimensions everywhere
        matrix = (conv.c_out, math.prod(shape[1:]))
        shapes = [matrix, shape, (1, 1, *matrix)]
    weight = _checked(tensors, source.weight, shapes, where).reshape(shape)
    vectors: list[TensorShape] = [(conv.c_out,), (1, 1, 1, conv.c_out)]
    bias = _checked(tensors, source.bias, vectors, where).flatten()
    if not source.norm:
        return weight, bias
    gamma, beta, mean, variance = (
        _checked(tensors, name, vectors, where).flatten().double() for name in source.norm
    )
    if (variance < 0).any():
        raise InputError(
            f"{where} expects variances, but {source.norm[3]} has negative values; "
            "the file is damaged, take another one"
        )
    scale = gamma / (variance + NORM_EPS).sqrt()
    return weight.double() * scale.view(-1, 1, 1, 1), (bias.double() - mean) * scale + beta


def for_our_input(weight: Tensor, convention: Convention) -> Tensor:
    """Convert conv1_1 to an input of x - mean in RGB.

    The mean stays outside of the weights. Padding zeros stand for it, so folding it into the bias
    would be wrong along the border.

    Args:
        weight: (c_out, 3, k, k), for (x - mean) / scale in the convention's channel order.
        convention: The input that the weight was trained on.

    Returns:
        (c_out, 3, k, k) float64.
    """
    if convention.channel_order == "BGR":
        weight = weight.flip(1)
    return weight.double() / torch.tensor(convention.scale, dtype=torch.float64).view(1, 3, 1, 1)


def _checked(tensors: Tensors, name: str, shapes: list[TensorShape], where: str) -> Tensor:
    """A finite tensor of one of the given shapes."""
    tensor = tensors[name]
    if tuple(tensor.shape) not in shapes:
        wanted = " or ".join(map(str, shapes))
        raise InputError(
            f"{where} expects {name} with shape {wanted}, found {tuple(tensor.shape)}; "
            "take the weights of an unchanged net"
        )
    if not is_finite(tensor):
        raise InputError(
            f"{where} expects finite values, but {name} has NaN or infinite values; "
            "the file is damaged, take another one"
        )
    return tensor
