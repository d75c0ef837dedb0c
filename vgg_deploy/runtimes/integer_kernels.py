"""Checks whether ONNX Runtime on this CPU computes quantized convolutions as they are written.

ONNX Runtime fuses quantized convolutions into integer kernels and chooses these by the CPU. Without
VNNI, products of uint8 activations and int8 weights are added in pairs in 16 bits and saturate
(vpmaddubsw; microsoft/onnxruntime#6004), without an error.

Here every kind of convolution in a file is run on random integers and compared with exact
arithmetic. Which kernel runs does not depend on the values, so these are harder than a photo's: the
activations use all 8 bits, and the weights the whole range of the file's. Few positions and output
channels are enough, so this takes a tenth of a second for a whole net.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch.nn import functional as F

from vgg_deploy.errors import CheckFailed
from vgg_deploy.exported.onnx_outline import Range, read_outline, value_range
from vgg_deploy.machine import cpu_instructions
from vgg_deploy.onnx_options import session_options
from vgg_deploy.runtimes.kernel_trials import (
    Scaling,
    Trial,
    dtype_of,
    exact_levels,
    scalings,
    trial,
)
from vgg_deploy.runtimes.quantized_convolutions import Kind, Zero, quantized_convolutions

ROUNDING = 0.501  # levels of 8 bits: half a level, and what float32 adds to it
OPSET, IR_VERSION = 20, 10


def check_arithmetic(path: Path, threads: int, name: str) -> None:
    """Compare the integer kernels that a file needs with exact arithmetic.

    Args:
        path: An ONNX file of ours whose 8-bit values ONNX Runtime fuses (int8-cpu).
        threads: On the CPU.
        name: Of the file, for messages.

    Raises:
        CheckFailed: If a kernel's result is off by more than rounding; names the CPU's
            instructions.
        InputError: If the file cannot be read.
    """
    errors = kernel_errors(path, threads)
    wrong = {conv: levels for conv, levels in errors.items() if not levels <= ROUNDING}
    if not wrong:
        return
    instructions = ", ".join(cpu_instructions()) or "unknown instructions"
    first = next(iter(wrong))
    raise CheckFailed(
        f"{name}: ONNX Runtime's 8-bit kernels for this CPU ({instructions}) "
        f"compute {len(wrong)} of {len(errors)} convolutions wrongly, {first} first, by up to "
        f"{max(wrong.values()):.0f} of 255 levels where rounding explains a half; "
        "use another precision on this CPU, or a CPU with VNNI"
    )


def kernel_errors(path: Path, threads: int) -> dict[str, float]:
    """Compare every kind of convolution of a file with exact arithmetic on random integers.

    Args:
        path: As in `check_arithmetic`.
        threads: As in `check_arithmetic`.

    Returns:
        Largest difference from the exact value, levels of 8 bits, by the name of the convolution,
        in running order. Only convolutions from 8 bits to 8 bits are listed: others have no integer
        kernel.

    Raises:
        InputError: As `check_arithmetic`.
    """
    outline = read_outline(path)
    quantized = quantized_convolutions(outline.graph)
    ranges: dict[Kind, Range] = {}  # of the weights of all convolutions of a kind
    for one in quantized:
        own = value_range(outline, one.weights)
        other = ranges.get(one.kind, own)
        ranges[one.kind] = Range(min(own.low, other.low), max(own.high, other.high))
    errors = _errors(ranges, threads) if ranges else {}
    return {one.name: errors[one.kind] for one in quantized}


def _errors(ranges: Mapping[Kind, Range], threads: int) -> dict[Kind, float]:
    """Largest difference from the exact value, levels, of each kind with weights of its range."""
    draw = np.random.default_rng(0)
    trials = [trial(kind, weights, draw) for kind, weights in ranges.items()]
    scaled = [(one, scaling) for one in trials for scaling in scalings(one)]
    graph, images = onnx.GraphProto(name="kernels"), {}
    for number, (one, scaling) in enumerate(scaled):
        _add(graph, f"{number}.", one, scaling)
        images[f"{number}.image"] = one.images
    found = _found(graph, images, threads)
    errors = dict.fromkeys(ranges, 0.0)
    for number, (one, scaling) in enumerate(scaled):
        levels = found[f"{number}.levels"]
        off = [float(np.abs(levels - exact_levels(one, scaling)).max())]
        if pool := one.kind.pool:
            largest = F.max_pool2d(torch.from_numpy(levels).double(), *pool).numpy()
            off.append(float(np.abs(found[f"{number}.pooled"] - largest).max()))
        errors[one.kind] = max(errors[one.kind], *off)
    return errors


def _add(graph: onnx.GraphProto, prefix: str, one: Trial, scaling: Scaling) -> None:
    """Add a convolution with the input `image` and the outputs `levels` and `pooled` to a graph."""
    kind, unit = one.kind, np.float32(1)
    scale = scaling.scale if kind.by_channel else scaling.scale[0]

    def stored(name: str, values: np.ndarray | np.generic) -> str:
        graph.initializer.append(numpy_helper.from_array(np.asarray(values), prefix + name))
        return prefix + name

    def node(name: str, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        made = helper.make_node(operator, inputs, [prefix + name], prefix + name, **attributes)
        graph.node.append(made)
        return prefix + name

    def quantizing(name: str, zero: Zero, scale: np.ndarray | np.generic) -> list[str]:
        zeros = np.full(scale.shape, zero.value, dtype_of(zero))
        return [stored(f"{name}.scale", scale), stored(f"{name}.zero", zeros)]

    values = prefix + "image"
    graph.input.append(helper.make_tensor_value_info(values, kind.input.type, one.images.shape))
    read, written = (quantizing(*pair, unit) for pair in (("x", kind.input), ("y", kind.output)))
    values = node("x", "DequantizeLinear", [values, *read])
    weights = [stored("integers", one.weights), *quantizing("w", kind.weight, scale)]
    operands = [node("w", "DequantizeLinear", weights, axis=0), stored("bias", scaling.bias)]
    shapes = {"kernel_shape": kind.kernel, "strides": kind.strides, "pads": kind.pads}
    values = node("sums", "Conv", [values, *operands], **shapes)
    if kind.relu:
        values = node("rectified", "Relu", [values])
    levels = node("levels", "QuantizeLinear", [values, *written])
    outputs = [levels]
    if kind.pool:
        shapes = {"kernel_shape": kind.pool.kernel, "strides": kind.pool.strides}
        outputs.append(node("pooled", "MaxPool", [levels], **shapes))
    for name in outputs:
        graph.output.append(helper.make_tensor_value_info(name, kind.output.type, None))


def _found(
    graph: onnx.GraphProto, images: Mapping[str, np.ndarray], threads: int
) -> dict[str, np.ndarray]:
    """The outputs of a graph by name, from ONNX Runtime as the bench sets it up."""
    import onnxruntime as ort

    opset = helper.make_opsetid("", OPSET)
    model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION)
    session = ort.InferenceSession(
        model.SerializeToString(),
        session_options(ort, "cpu", threads),
        providers=["CPUExecutionProvider"],
    )
    names = [output.name for output in graph.output]
    return dict(zip(names, session.run(names, images), strict=True))
