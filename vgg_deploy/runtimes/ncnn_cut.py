"""Cuts a net, as ncnn reads it, into stages that run in bands, a body and a head.

A stage is convolutions and the pool behind them. The head is fc6 and what follows it.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from vgg_deploy.exported.ncnn_files import NcnnGraph, NcnnLayer, input_layer
from vgg_deploy.runtimes.ncnn_rows import SIDE, KernelRows, kernel_rows, row_layers

FIRST_OF_HEAD = "fc6"
# Pools at the end of a stage that runs in bands, and bytes of the widest value in a band. The first
# stays in the CPU's cache. In the second, bands only bound the memory.
IN_BANDS = {"pool1": 4 << 20, "pool2": 8 << 20}
AFTER_SCORES = ("mean_score", "softmax")  # computed by PyTorch, for each image on its own
KERNEL = 1  # id of a convolution's parameter
# ncnn's id of what a layer must not use, and its bit for Winograd's convolution. It does not pay
# where 3 channels come in: conv1_1 of 256 x 256 takes 2.8 ms instead of 5.8
NOT_USED, WINOGRAD = 31, 1 << 6
# A thinner net runs whole: little memory is in question, and parts take calls of their own
LEAST_CHANNELS = 32  # of a first stage that runs in bands
LEAST_BYTES = 64 << 20  # of fc6's weights, for a head of its own


class Part(NamedTuple):
    """Some layers, which are a net of their own in ncnn.

    Attributes:
        layers: In running order, its inputs too.
        summed: Weights that stand before a layer's arrays, by its name.
        band_bytes: Of a stage: most that its widest value takes in a band.
    """

    layers: tuple[NcnnLayer, ...]
    summed: Mapping[str, KernelRows] = MappingProxyType({})
    band_bytes: int = 0

    @property
    def reads(self) -> str:
        """The first value that it takes."""
        return self.layers[0].gives[0]

    @property
    def gives(self) -> str:
        """Its last value."""
        return self.layers[-1].gives[-1]

    @property
    def halo(self) -> int:
        """Rows above and below that a row of the output depends on; even, as pools want it."""
        rows = sum(int(layer.arrays[0].shape[2]) // 2 for layer in self._convolutions)
        return rows + rows % 2

    @property
    def channels(self) -> int:
        """Most outputs of a convolution."""
        return max((layer.arrays[0].shape[0] for layer in self._convolutions), default=0)

    @property
    def _convolutions(self) -> list[NcnnLayer]:
        return [layer for layer in self.layers if layer.kind == "Convolution"]


class Cut(NamedTuple):
    """The parts of a net, in running order.

    Attributes:
        stages: From the image on, each up to its pool. None gives an output of the net.
        body: What follows them, up to the head; without a head, all of the rest.
        head: From sums of rows on, see `row_layers`, without the posterior.
    """

    stages: tuple[Part, ...]
    body: Part
    head: Part | None


def whole(graph: NcnnGraph) -> Cut:
    """A net as one part, with Winograd's convolution only where it pays."""
    return Cut((), Part(_without_first_winograd(graph.layers)), None)


def cut(graph: NcnnGraph) -> Cut:
    """Cut a net.

    Args:
        graph: Of any net and any outputs.
    """
    layers = _without_first_winograd(graph.layers)[1:]
    names = [layer.name for layer in layers]
    start = names.index(FIRST_OF_HEAD) if FIRST_OF_HEAD in names else len(layers)
    head = _head(layers[start:]) if start < len(layers) else None
    end = start if head else len(layers)
    ends = [0]
    for pool in IN_BANDS:
        stop = names.index(pool) + 1 if pool in names else end
        gives_output = any(layer.kind == "Split" for layer in layers[ends[-1] : stop + 1])
        if gives_output or stop >= end:
            break
        ends.append(stop)
    stages = tuple(
        _part(layers[first:stop])._replace(band_bytes=most)
        for first, stop, most in zip(ends, ends[1:], IN_BANDS.values(), strict=False)
    )
    if stages and stages[0].channels < LEAST_CHANNELS:
        stages, ends = (), [0]
    return Cut(stages, _part(layers[ends[-1] : end]), head)


def _part(layers: tuple[NcnnLayer, ...]) -> Part:
    return Part((input_layer(layers[0].reads[0]), *layers))


def _head(layers: tuple[NcnnLayer, ...]) -> Part | None:
    """The head with fc6 from sums of rows; None where that does not pay."""
    fc6, *others = layers
    weight = fc6.arrays[0]
    if weight.shape[2] != SIDE or weight.bytes < LEAST_BYTES:
        return None
    behind = [layer for layer in others if layer.name not in AFTER_SCORES]
    return Part((*row_layers(fc6), *behind), kernel_rows(fc6))


def _without_first_winograd(layers: tuple[NcnnLayer, ...]) -> tuple[NcnnLayer, ...]:
    first = next(i for i, layer in enumerate(layers) if layer.kind == "Convolution")
    changed = layers[first]._replace(parameters={**layers[first].parameters, NOT_USED: WINOGRAD})
    return (*layers[:first], changed, *layers[first + 1 :])
