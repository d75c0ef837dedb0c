"""What every file of a reduced precision must satisfy before it is released.

Most of it nobody else reports: TensorRT takes a scale of shape (1,) and then computes in floats, ONNX Runtime on a CPU
computes half precision in float32 and so never overflows.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from export.onnx.onnx_file import stored_values
from export.quantize.ranges import Range
from export.quantize.rounding import FIRST, LAST
from export.settings.precision import HALF, Precision

HEADROOM = 2.0  # other pictures reach further than those that were seen
LARGEST_HALF = float(np.finfo(np.float16).max)
# vpmaddubsw, the multiplication of CPUs without VNNI, adds two products of a uint8 and an int8 in 16 bits and saturates
LARGEST_PAIR, SMALLEST_PAIR = 2**15 - 1, -(2**15)
CHUNK = 512  # output channels whose weights are looked at together
FLOAT_ONLY = {
    "subtract_mean",
    "denormalise",
    "move_mean",
    LAST,
    "norm1",
    "mean_score",
    "softmax",
}  # nodes of every precision


def lint(
    model: onnx.ModelProto,
    precision: Precision,
    quantized: set[str],
    ranges: dict[str, Range],
    folder: Path = Path(),
) -> list[str]:
    """Findings in words; an empty list for a file that may be released.

    Args:
        model: with its weights, or with references to files in `folder`.
        quantized: the convolutions that were asked for.
        ranges: for the overflow of half precision.
    """
    held = {t.name: t for t in model.graph.initializer}
    made = {output: node for node in model.graph.node for output in node.output}
    return [
        *_scales(model, held, precision),
        *_zero_points(model, held),
        *_convolutions(model, held, made, quantized),
        *_types(model, held, made),
        *_saturation(model, held, made, folder),
        *(overflows(ranges) if precision.trunk == HALF else ()),
    ]


def _scales(
    model: onnx.ModelProto, held: dict[str, TensorProto], precision: Precision
) -> list[str]:
    found = []
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        scale = numpy_helper.to_array(held[node.input[1]]).astype(np.float64)
        of_weight = node.input[0] in held
        if scale.ndim and not of_weight:
            found.append(
                f"{node.name}: activation scale of shape {scale.shape}, expected rank 0; TensorRT would compute in floats without a word"
            )
        if of_weight and scale.ndim and scale.shape != tuple(held[node.input[0]].dims[:1]):
            found.append(
                f"{node.name}: {scale.shape} weight scales for {held[node.input[0]].dims[0]} output channels"
            )
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            found.append(
                f"{node.name}: a scale is zero, negative or not finite in {precision.trunk.name}"
            )
    return found


def _zero_points(model: onnx.ModelProto, held: dict[str, TensorProto]) -> list[str]:
    found = []
    for node in model.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
            continue
        zero = numpy_helper.to_array(held[node.input[2]])
        middle = 128 if zero.dtype == np.uint8 and node.name.startswith(f"{FIRST}.") else 0
        if (zero.astype(np.float64) != middle).any():
            found.append(
                f"{node.name}: zero point {zero.tolist()}, expected {middle}; TensorRT takes symmetric quantization only"
            )
    return found


def _convolutions(
    model: onnx.ModelProto,
    held: dict[str, TensorProto],
    made: dict[str, onnx.NodeProto],
    quantized: set[str],
) -> list[str]:
    found = []
    for node in model.graph.node:
        if node.op_type != "Conv":
            continue
        through = [made[name].op_type if name in made else None for name in node.input[:2]]
        is_quantized = through == ["DequantizeLinear", "DequantizeLinear"]
        if is_quantized != (node.name in quantized):
            found.append(
                f"{node.name}: is {'' if is_quantized else 'not '}quantized, {'not ' if is_quantized else ''}as asked"
            )
        if node.input[2] not in held or held[node.input[2]].data_type == TensorProto.INT32:
            found.append(f"{node.name}: its bias is no stored float; TensorRT refuses int32 biases")
    missing = quantized - {node.name for node in model.graph.node if node.op_type == "Conv"}
    return [*found, *(f"{name}: is no convolution of the graph" for name in sorted(missing))]


def _saturation(
    model: onnx.ModelProto,
    held: dict[str, TensorProto],
    made: dict[str, onnx.NodeProto],
    folder: Path,
) -> list[str]:
    """Convolutions of uint8 by int8 in which two products may not fit in 16 bits.

    Which weights a kernel pairs is its own affair, so any two of an output channel count. An activation reaches 255.
    """
    found = []
    for node in model.graph.node:
        through = [made.get(name) for name in node.input[:2]]
        if node.op_type != "Conv" or any(
            n is None or n.op_type != "DequantizeLinear" for n in through
        ):
            continue
        activation, weight = through
        if (
            held[activation.input[2]].data_type != TensorProto.UINT8
            or held[weight.input[0]].data_type != TensorProto.INT8
        ):
            continue
        high, low = pair_sums(stored_values(held[weight.input[0]], folder))
        if high > LARGEST_PAIR or low < SMALLEST_PAIR:
            worst = high if high > LARGEST_PAIR else low
            found.append(
                f"{node.name}: two products of its weights and 255 sum to {worst:,}, which saturates in the 16 bits "
                "of CPUs without VNNI"
            )
    return found


def pair_sums(weight: np.ndarray) -> tuple[int, int]:
    """The largest and the smallest sum of two products, of two weights of one output channel and any two uint8.

    Args: weight, (out, in, kh, kw) int8.
    """
    high, low = 0, 0
    for start in range(0, len(weight), CHUNK):
        rows = weight[start : start + CHUNK].reshape(len(weight[start : start + CHUNK]), -1)
        last = min(2, rows.shape[1])
        ordered = np.partition(rows, [last - 1, -last], axis=1).astype(np.int64)
        high = max(high, int(np.maximum(ordered[:, -last:], 0).sum(1).max()))
        low = min(low, int(np.minimum(ordered[:, :last], 0).sum(1).min()))
    return 255 * high, 255 * low


def _types(
    model: onnx.ModelProto, held: dict[str, TensorProto], made: dict[str, onnx.NodeProto]
) -> list[str]:
    """The nodes of FLOAT_ONLY take float32, told by the Cast or the stored scale that their input comes from."""
    found = []
    for node in model.graph.node:
        if node.name in FLOAT_ONLY:
            given = _type_of(node.input[0], held, made)
            stored = [
                held[name].data_type
                for name in node.input[1:]
                if name in held and held[name].data_type != TensorProto.INT64
            ]
            if {given, *stored} != {TensorProto.FLOAT}:
                names = sorted(TensorProto.DataType.Name(t) for t in {given, *stored})
                found.append(
                    f"{node.name}: computes in {' and '.join(names)}, expected FLOAT in every precision"
                )
    return found


def _type_of(value: str, held: dict[str, TensorProto], made: dict[str, onnx.NodeProto]) -> int:
    """The type of a value of a straight line of nodes."""
    while value in made:
        node = made[value]
        match node.op_type:
            case "Cast":
                return next(a.i for a in node.attribute if a.name == "to")
            case "DequantizeLinear":
                return held[node.input[1]].data_type
            case "QuantizeLinear":
                return held[node.input[2]].data_type
        value = node.input[0]
    return TensorProto.FLOAT  # what the caller feeds, where it is not cast


def overflows(ranges: dict[str, Range]) -> list[str]:
    """Convolutions whose input or output comes within HEADROOM of half precision's largest value."""
    limit = LARGEST_HALF / HEADROOM
    return [
        f"{name}: reaches {max(r.input_max, r.output_max):,.0f} on the pictures seen, half precision ends at {LARGEST_HALF:,.0f} "
        f"and {limit:,.0f} is allowed for headroom; use bf16"
        for name, r in ranges.items()
        if name != LAST and max(r.input_max, r.output_max) > limit
    ]
