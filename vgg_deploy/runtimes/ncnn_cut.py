"""Cuts a net, as ncnn reads it, into stages that run in bands, a body and a head.

A stage is convolutions and the pool behind them. The head is fc6 and what follows it.
"""

from typing import NamedTuple

from vgg_deploy.exported.ncnn_files import NcnnGraph, NcnnLayer, input_layer

# Pools at the end of a stage that runs in bands, and bytes of Winograd's buffer in a band. In the
# first two it stays in the CPU's cache. Behind them bands only keep memory bounded.
IN_CACHE = 10 << 20
IN_BANDS = {"pool1": IN_CACHE, "pool2": IN_CACHE, "pool3": 40 << 20, "pool4": 40 << 20}
FIRST_OF_HEAD = "fc6"
AFTER_SCORES = ("mean_score", "softmax")  # computed by PyTorch, for each image on its own
KERNEL = 1  # id of a convolution's parameter


class Part(NamedTuple):
    """Some layers in a row, which are a net of their own in ncnn.

    Attributes:
        layers: In running order; the first is the input.
        offset: Where their weights start in the .bin, bytes.
        band_bytes: Of a stage: most that Winograd's buffer takes in a band.
    """

    layers: tuple[NcnnLayer, ...]
    offset: int
    band_bytes: int = 0

    @property
    def reads(self) -> str:
        """The value that it takes."""
        return self.layers[0].gives[0]

    @property
    def gives(self) -> str:
        """Its last value."""
        return self.layers[-1].gives[-1]

    @property
    def halo(self) -> int:
        """Rows above and below that a row of the output depends on; even, as pools want it."""
        kernels = [int(layer.parameters[KERNEL]) for layer in self._convolutions]
        rows = sum(kernel // 2 for kernel in kernels)
        return rows + rows % 2

    @property
    def channels(self) -> int:
        """Most inputs of a convolution."""
        return max(layer.arrays[0].shape[1] for layer in self._convolutions)

    @property
    def _convolutions(self) -> list[NcnnLayer]:
        return [layer for layer in self.layers if layer.kind == "Convolution"]


class Cut(NamedTuple):
    """The parts of a net, in running order.

    Attributes:
        stages: From the image on, each up to its pool. None gives an output of the net.
        body: What follows them, up to the head.
        head: None for a net that ends before fc6.
        side: Side of fc6's kernel; 0 without a head.
    """

    stages: tuple[Part, ...]
    body: Part
    head: Part | None
    side: int


def cut(graph: NcnnGraph) -> Cut:
    """Cut a net.

    fc6 becomes a convolution of side 1, which takes all values of a window as channels: its weights
    lie in the same order. So one product serves all windows of all images.

    Args:
        graph: Of any net and any outputs.
    """
    layers = graph.layers[1:]
    names = [layer.name for layer in layers]
    start = names.index(FIRST_OF_HEAD) if FIRST_OF_HEAD in names else len(layers)
    ends = [0]
    for pool in IN_BANDS:
        end = names.index(pool) + 1 if pool in names else start + 1
        gives_output = any(layer.kind == "Split" for layer in layers[ends[-1] : end + 1])
        if gives_output or end >= start:
            break
        ends.append(end)
    stages = tuple(
        _part(layers, first, end)._replace(band_bytes=bound)
        for first, end, bound in zip(ends, ends[1:], IN_BANDS.values(), strict=False)
    )
    body = _part(layers, ends[-1], start)
    if start == len(layers):
        return Cut(stages, body, None, 0)
    head = _part(layers, start, len(layers))
    fc6 = layers[start]
    return Cut(stages, body, _over_windows(head), int(fc6.parameters[KERNEL]))


def _part(layers: tuple[NcnnLayer, ...], start: int, end: int) -> Part:
    own = layers[start:end]
    before = sum(array.bytes for layer in layers[:start] for array in layer.arrays)
    return Part((input_layer(own[0].reads), *own), before)


def _over_windows(head: Part) -> Part:
    """The head for windows beside each other, each with its values as channels."""
    layers = [layer for layer in head.layers if layer.name not in AFTER_SCORES]
    for i, layer in enumerate(layers):
        if layer.name == FIRST_OF_HEAD:
            layers[i] = layer._replace(parameters={**layer.parameters, KERNEL: 1})
    return head._replace(layers=tuple(layers))
