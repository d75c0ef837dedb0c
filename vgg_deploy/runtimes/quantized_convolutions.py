"""Lists the convolutions of a graph that have inputs, weights and outputs of 8 bits."""

from collections.abc import Mapping
from math import ceil, prod
from typing import Any, NamedTuple

import onnx
from onnx import helper, numpy_helper

BLOCK = 64  # channels: a multiple of those that kernels compute together
PRODUCTS = 1024  # more than kernels add up before they store sums


class Pool(NamedTuple):
    """A maximum pooling of 8-bit values."""

    kernel: tuple[int, ...]  # height, width
    strides: tuple[int, ...]


class Zero(NamedTuple):
    """The zero point of 8-bit values."""

    type: int  # of TensorProto
    value: int


class Kind(NamedTuple):
    """What decides which kernel computes a convolution, and how.

    Convolutions that differ by further whole blocks of channels are of one kind.
    """

    kernel: tuple[int, ...]  # height, width
    strides: tuple[int, ...]
    pads: tuple[int, ...]  # top, left, bottom, right
    channels: int  # of the input: whole blocks until the products are enough, and what is left
    rows: int  # output channels: at most one block, and what is left behind whole blocks
    by_channel: bool  # whether every output channel has a scale of its own
    relu: bool
    pool: Pool | None  # of the output's 8 bits
    input: Zero
    weight: Zero
    output: Zero


class QuantizedConvolution(NamedTuple):
    """A convolution that ONNX Runtime can compute in integers."""

    name: str
    weights: str  # the name of the stored integers
    kind: Kind


def quantized_convolutions(graph: onnx.GraphProto) -> list[QuantizedConvolution]:
    """Find the convolutions from 8 bits to 8 bits.

    Args:
        graph: Written by vgg-export. Zero points have values; weights need only shapes.

    Returns:
        In the order of the graph.
    """
    look = _Look(graph)
    return [found for node in graph.node if node.op_type == "Conv" and (found := look.at(node))]


class _Look:
    """Finds the nodes around a convolution."""

    def __init__(self, graph: onnx.GraphProto):
        self.stored = {tensor.name: tensor for tensor in graph.initializer}
        self.makers = {output: node for node in graph.node for output in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)

    def at(self, conv: onnx.NodeProto) -> QuantizedConvolution | None:
        """Describe a convolution, unless its input, weights or output have other types."""
        read, weight = (self._maker(name) for name in conv.input[:2])
        rectified = self._reader(conv.output[0], "Relu")
        written = self._reader((rectified or conv).output[0], "QuantizeLinear")
        if not (read and weight and written) or weight.input[0] not in self.stored:
            return None
        pool = self._reader(written.output[0], "MaxPool")
        own = _attributes(conv)
        outputs, channels, *kernel = self.stored[weight.input[0]].dims
        kind = Kind(
            kernel=tuple(kernel),
            strides=tuple(own["strides"]),
            pads=tuple(own["pads"]),
            channels=_fewest(channels, PRODUCTS / prod(kernel)),
            rows=_fewest(outputs, BLOCK),
            by_channel=bool(self.stored[weight.input[1]].dims),
            relu=rectified is not None,
            pool=_pool(_attributes(pool)) if pool else None,
            input=self._zero(read),
            weight=self._zero(weight),
            output=self._zero(written),
        )
        return QuantizedConvolution(conv.name, weight.input[0], kind)

    def _maker(self, name: str) -> onnx.NodeProto | None:
        """The node that turns 8 bits into these values, if one does."""
        node = self.makers.get(name)
        return node if node and node.op_type == "DequantizeLinear" else None

    def _reader(self, name: str, operator: str) -> onnx.NodeProto | None:
        """A node with this operator that reads these values, if there is one."""
        nodes = self.readers.get(name, [])
        return next((node for node in nodes if node.op_type == operator), None)

    def _zero(self, node: onnx.NodeProto) -> Zero:
        tensor = self.stored[node.input[2]]
        return Zero(tensor.data_type, int(numpy_helper.to_array(tensor).flat[0]))


def _fewest(channels: int, enough: float) -> int:
    """As few channels as are enough in whole blocks, and what is left behind whole blocks."""
    return min(channels, BLOCK * ceil(enough / BLOCK) + channels % BLOCK)


def _pool(attributes: Mapping[str, Any]) -> Pool:
    return Pool(tuple(attributes["kernel_shape"]), tuple(attributes["strides"]))


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {one.name: helper.get_attribute_value(one) for one in node.attribute}
