"""Factors a fully connected layer into two narrow ones that change its outputs least on photos.

Of all matrices of rank r, U U^T W gives the least squared error of the outputs W x, where U holds
the leading directions of the outputs' own variation (Eckart and Young 1936, applied to the outputs
of the images). So it is exact for the images seen, and needs the outputs' covariance alone: 4,096
squared for fc6, not 25,088 squared. The mean output is kept by the bias.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from export.quantize.convolve import Factors, bias_of, layers_of, net_input, run_layer
from vgg_deploy.errors import InputError
from vgg_deploy.net.model import VGG

LAYERS = ("fc6", "fc7")
# Of the mean variance of the inputs, added to each: it orders directions that no image showed by
# the weights themselves
PRIOR = 1e-3


class LowRank(NamedTuple):
    """One layer in two factors.

    Attributes:
        first: (rank, C, kh, kw) float32.
        second: (O, rank, 1, 1) float32.
        bias: (O,) float32.
        kept: Share of the outputs' variance on the images that the factors keep.
    """

    first: Tensor
    second: Tensor
    bias: Tensor
    kept: float


class _Outputs:
    """Mean and mean products of a layer's outputs without bias, and the inputs' variance."""

    def __init__(self, outputs: int):
        self.total, self.products = torch.zeros(outputs), torch.zeros(outputs, outputs)
        self.rows, self.input_variance = 0, 0.0

    def add(self, outputs: Tensor, inputs: Tensor) -> None:
        """Add a map (1, O, h, w), and the inputs (1, C, H, W) that it is of."""
        rows = outputs.flatten(2)[0].T
        self.total += rows.sum(0)
        self.products.addmm_(rows.T, rows)
        self.rows += len(rows)
        self.input_variance += float(inputs.var()) * len(rows)


def check_ranks(ranks: Mapping[str, int], net: VGG) -> None:
    """Check that every rank makes its layer smaller.

    Raises:
        InputError: If one does not, or if the net has no such layer.
    """
    convolutions = net.convolutions()
    for name, rank in ranks.items():
        if name not in convolutions:
            raise InputError(f"--low-rank {name}:{rank}: this net has no {name}; leave it out")
        layer = convolutions[name]
        inputs, outputs = layer.weight[0].numel(), layer.out_channels
        most = inputs * outputs // (inputs + outputs)
        if rank > most:
            raise InputError(
                f"--low-rank {name}:{rank}: two factors of rank {rank} are no smaller than {name}; "
                f"choose at most {most}"
            )


@torch.inference_mode()
def factor(net: VGG, ranks: Mapping[str, int], batches: Iterable[np.ndarray]) -> dict[str, LowRank]:
    """Factor layers of a net by its outputs on images.

    Args:
        net: In evaluation mode; it is not changed.
        ranks: By layer.
        batches: (N, 3, H, W) uint8 RGB.

    Returns:
        The factors by layer.
    """
    convolutions = net.convolutions()
    seen = {name: _Outputs(convolutions[name].out_channels) for name in ranks}
    for batch in batches:
        for image in batch:
            values = net_input(image[None], net.spec)
            for name, layer in layers_of(net):
                inputs = values
                values = run_layer(layer, values)
                if name in ranks:
                    seen[name].add(values - bias_of(convolutions[name])[:, None, None], inputs)
    return {name: _factored(convolutions[name], rank, seen[name]) for name, rank in ranks.items()}


@contextmanager
def factored(net: VGG, factors: Mapping[str, LowRank]) -> Iterator[None]:
    """Put factors in place of a net's layers, within a block."""
    whole = {name: net.convolution(name) for name in factors}
    put_factors(net, factors)
    try:
        yield
    finally:
        for name, layer in whole.items():
            setattr(net, name, layer)


def put_factors(net: VGG, factors: Mapping[str, LowRank]) -> None:
    """Put factors in place of a net's layers, for good."""
    for name, low_rank in factors.items():
        setattr(net, name, _layers_of(low_rank))


def _factored(layer: nn.Conv2d, rank: int, seen: _Outputs) -> LowRank:
    mean = seen.total / seen.rows
    covariance = seen.products / seen.rows - torch.outer(mean, mean)
    weight = layer.weight.flatten(1)
    prior = PRIOR * seen.input_variance / seen.rows
    values, directions = torch.linalg.eigh(covariance + prior * (weight @ weight.T))
    leading = directions[:, -rank:].flip(1).contiguous()  # (O, rank)
    first = (leading.T @ weight).view(rank, *layer.weight.shape[1:])
    bias = bias_of(layer) + mean - leading @ (leading.T @ mean)
    total = float(covariance.diagonal().sum())
    kept = float(((covariance @ leading) * leading).sum()) / total if total else 1.0
    return LowRank(first, leading[:, :, None, None].contiguous(), bias, kept)


def _layers_of(low_rank: LowRank) -> Factors:
    rank, channels, height, width = low_rank.first.shape
    outputs = len(low_rank.second)
    with torch.device("meta"):  # its own weights would be drawn at random and thrown away
        first = nn.Conv2d(channels, rank, (height, width))
        second = nn.Conv2d(rank, outputs, 1)
    for layer, weight, bias in (
        (first, low_rank.first, torch.zeros(rank)),
        (second, low_rank.second, low_rank.bias),
    ):
        layer.weight = nn.Parameter(weight, requires_grad=False)
        layer.bias = nn.Parameter(bias, requires_grad=False)
    return Factors(first, second)
