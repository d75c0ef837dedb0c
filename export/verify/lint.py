"""Checks what every file of a reduced precision must satisfy before it is released.

Nothing else reports most of it. TensorRT accepts a scale of shape (1,) and then computes in floats.
ONNX Runtime on a CPU computes half precision in float32 and so never overflows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from export.onnx.onnx_file import stored_values
from export.quantize.ranges import Range
from export.quantize.rounding import LAST, has_both_signs
from export.settings.precision import HALF, Precision

HEADROOM = 2.0  # other images reach further than those that were seen
LARGEST_HALF = float(np.finfo(np.float16).max)
# vpmaddubsw, the multiplication of CPUs without VNNI, adds two products of a uint8 and an int8 in
# 16 bits and saturates
LARGEST_PAIR, SMALLEST_PAIR = 2**15 - 1, -(2**15)
CHUNK = 512  # output channels whose weights are looked at together
FLOAT_ONLY = {  # nodes that are float32 in every precision
    "subtract_mean",
    "denormalise",
    "move_mean",
    LAST,
    "norm1",
    "mean_score",
    "softmax",
}
PRODUCT = ".product"  # ends the name of a product with 4-bit weights
QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class _Nodes:
    """A graph, and where its values come from.

    Attributes:
        nodes: In running order.
        stored: Stored tensors by name.
        producers: Nodes by the name of their output.
    """

    nodes: list[onnx.NodeProto]
    stored: dict[str, TensorProto]
    producers: dict[str, onnx.NodeProto]

    def of_type(self, *op_types: str) -> Iterator[onnx.NodeProto]:
        return (node for node in self.nodes if node.op_type in op_types)

    def dequantizers(self, conv: onnx.NodeProto) -> list[onnx.NodeProto] | None:
        """The DequantizeLinear nodes of input and weight; None unless both have one."""
        before = [self.producers.get(name) for name in conv.input[:2]]
        found = [node for node in before if node is not None and node.op_type == QUANTIZERS[1]]
        return found if len(found) == 2 else None

    def type_of(self, value: str) -> int:
        """The type of a value, in a straight line of nodes."""
        while value in self.producers:
            node = self.producers[value]
            match node.op_type:
                case "Cast":
                    return next(int(a.i) for a in node.attribute if a.name == "to")
                case "DequantizeLinear":
                    return int(self.stored[node.input[1]].data_type)
                case "QuantizeLinear":
                    return int(self.stored[node.input[2]].data_type)
            value = node.input[0]
        return int(TensorProto.FLOAT)  # the input of the graph, where it is not cast


def lint(
    model: onnx.ModelProto,
    precision: Precision,
    quantized: set[str],
    ranges: dict[str, Range],
    folder: Path = Path(),
) -> list[str]:
    """Check a model.

    Args:
        model: With its weights, or with references to files in `folder`.
        precision: Of the file.
        quantized: Names of the convolutions that must be quantized.
        ranges: By convolution, for the overflow of half precision.
        folder: Of the files that the model refers to.

    Returns:
        What is wrong, one sentence each; empty for a file that may be released.
    """
    nodes = _Nodes(
        nodes=list(model.graph.node),
        stored={tensor.name: tensor for tensor in model.graph.initializer},
        producers={output: node for node in model.graph.node for output in node.output},
    )
    return [
        *_scales(nodes, precision, folder),
        *_zero_points(nodes),
        *_convolutions(nodes, quantized),
        *_types(nodes),
        *_saturation(nodes, folder),
        *(overflows(ranges) if precision.trunk == HALF else ()),
    ]


def _scales(nodes: _Nodes, precision: Precision, folder: Path) -> Iterator[str]:
    """Scales are finite, positive, and of a shape that TensorRT computes with in 8 bits."""
    for node in nodes.of_type(*QUANTIZERS):
        scale = stored_values(nodes.stored[node.input[1]], folder).astype(np.float64)
        weight = nodes.stored.get(node.input[0])
        if scale.ndim and weight is None:
            yield (
                f"{node.name}: activation scale of shape {scale.shape}, expected rank 0; "
                "TensorRT would silently compute in floats"
            )
        block = _block_of(node)
        if block and weight is not None:
            inputs, outputs = weight.dims
            if scale.shape != (-(-inputs // block), outputs):
                yield (
                    f"{node.name}: {scale.shape} scales for {inputs} inputs in blocks of {block} "
                    f"and {outputs} outputs"
                )
        elif scale.ndim and weight is not None and scale.shape != tuple(weight.dims[:1]):
            yield f"{node.name}: {scale.shape} weight scales for {weight.dims[0]} output channels"
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            yield f"{node.name}: a scale is zero, negative or not finite in {precision.trunk.name}"


def _zero_points(nodes: _Nodes) -> Iterator[str]:
    """Quantization is symmetric; uint8 inputs are centred where they have both signs."""
    for node in nodes.of_type(*QUANTIZERS):
        if len(node.input) < 3:  # blocks of 4 bits have no zero points
            continue
        zero = numpy_helper.to_array(nodes.stored[node.input[2]])
        is_signed = has_both_signs(node.name.rpartition(".")[0])
        middle = 128 if zero.dtype == np.uint8 and is_signed else 0
        if (zero.astype(np.float64) != middle).any():
            yield (
                f"{node.name}: zero point {zero.tolist()}, expected {middle}; "
                "TensorRT accepts symmetric quantization only"
            )


def _convolutions(nodes: _Nodes, quantized: set[str]) -> Iterator[str]:
    """The right convolutions are quantized, and biases are stored floats."""
    for node in nodes.of_type("Conv"):
        is_quantized = nodes.dequantizers(node) is not None
        if is_quantized and node.name not in quantized:
            yield f"{node.name}: is quantized, but should not be"
        if not is_quantized and node.name in quantized:
            yield f"{node.name}: is not quantized, but should be"
        bias = nodes.stored.get(node.input[2])
        if bias is None or bias.data_type == TensorProto.INT32:
            yield f"{node.name}: its bias is no stored float; TensorRT refuses int32 biases"
    products = {node.name.removesuffix(PRODUCT): node for node in nodes.of_type("MatMul")}
    for name, node in products.items():
        weight = nodes.producers.get(node.input[1])
        stored = nodes.stored.get(weight.input[0]) if weight else None
        if stored is None or stored.data_type != TensorProto.INT4 or not _block_of(weight):
            yield f"{name}: its weights do not have 4 bits in blocks, but should"
        if name not in quantized:
            yield f"{name}: is quantized, but should not be"
    missing = quantized - {node.name for node in nodes.of_type("Conv")} - set(products)
    for name in sorted(missing):
        yield f"{name}: is no convolution of the graph"


def _block_of(node: onnx.NodeProto | None) -> int:
    """Inputs that share a scale, of a DequantizeLinear of blocks; 0 for others."""
    attributes = node.attribute if node is not None else ()
    return next((int(a.i) for a in attributes if a.name == "block_size"), 0)


def _types(nodes: _Nodes) -> Iterator[str]:
    """The nodes of FLOAT_ONLY compute in float32.

    Their type is that of the Cast or the stored scale that their input comes from.
    """
    for node in nodes.nodes:
        if node.name not in FLOAT_ONLY:
            continue
        types = {nodes.type_of(node.input[0])}
        for name in node.input[1:]:
            tensor = nodes.stored.get(name)
            if tensor is not None and tensor.data_type != TensorProto.INT64:
                types.add(int(tensor.data_type))
        if types != {TensorProto.FLOAT}:
            names = sorted(TensorProto.DataType.Name(t) for t in types)
            yield (
                f"{node.name}: computes in {' and '.join(names)}, expected FLOAT in every precision"
            )


def _saturation(nodes: _Nodes, folder: Path) -> Iterator[str]:
    """In convolutions of uint8 by int8, the sum of any two products fits in 16 bits.

    Which weights a kernel pairs is up to the kernel, so any two of an output channel count. An
    activation reaches 255.
    """
    for node in nodes.of_type("Conv"):
        dequantizers = nodes.dequantizers(node)
        if dequantizers is None:
            continue
        activation, weight = dequantizers
        stored_weight = nodes.stored[weight.input[0]]
        activation_type = nodes.stored[activation.input[2]].data_type
        if (activation_type, stored_weight.data_type) != (TensorProto.UINT8, TensorProto.INT8):
            continue
        high, low = pair_sums(stored_values(stored_weight, folder))
        if high > LARGEST_PAIR or low < SMALLEST_PAIR:
            worst = high if high > LARGEST_PAIR else low
            yield (
                f"{node.name}: two products of its weights and 255 sum to {worst:,}, which "
                "saturates in the 16 bits of CPUs without VNNI"
            )


def pair_sums(weight: np.ndarray) -> tuple[int, int]:
    """The extreme sums of two products of weights of one output channel and any two uint8.

    Args:
        weight: (out, in, kh, kw) int8.

    Returns:
        The largest and the smallest sum.
    """
    high, low = 0, 0
    for start in range(0, len(weight), CHUNK):
        chunk = weight[start : start + CHUNK]
        rows = chunk.reshape(len(chunk), -1)
        count = min(2, rows.shape[1])
        ordered = np.partition(rows, [count - 1, -count], axis=1).astype(np.int64)
        high = max(high, int(np.maximum(ordered[:, -count:], 0).sum(1).max()))
        low = min(low, int(np.minimum(ordered[:, :count], 0).sum(1).min()))
    return 255 * high, 255 * low


def overflows(ranges: dict[str, Range]) -> list[str]:
    """Convolutions that come within HEADROOM of half precision's largest value.

    Args:
        ranges: By convolution.

    Returns:
        One sentence per convolution.
    """
    limit = LARGEST_HALF / HEADROOM
    found = []
    for name, seen in ranges.items():
        largest = max(seen.input_max, seen.output_max)
        if name != LAST and largest > limit:
            found.append(
                f"{name}: reaches {largest:,.0f} on the images seen, half precision ends at "
                f"{LARGEST_HALF:,.0f} and {limit:,.0f} is allowed for headroom; use bf16"
            )
    return found
