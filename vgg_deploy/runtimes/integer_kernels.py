"""Whether ONNX Runtime on this CPU computes a quantized file as it is written.

ONNX Runtime fuses quantized convolutions into integer kernels and chooses these by the CPU. Without VNNI, products of
uint8 activations and int8 weights are added in pairs in 16 bits and saturate (vpmaddubsw; microsoft/onnxruntime#6004),
without an error. Here the fused file also gives the 8-bit values between its convolutions, and each of these is compared
with what float32 arithmetic makes of the 8-bit values before it.
"""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor
from torch.nn import functional as F

from vgg_deploy.errors import CheckFailed
from vgg_deploy.machine import cpu_instructions
from vgg_deploy.runtimes.contract import feed

ROUNDING = 1  # levels of 8 bits: a value halfway between two may go either way
ROWS = 512  # output channels whose weights are converted to float32 at a time


def check_arithmetic(path: Path, images: np.ndarray, form: str, threads: int, name: str) -> None:
    """Compare all fused kernels of a file with float32 arithmetic.

    Args:
        path: an ONNX file of ours whose 8-bit values ONNX Runtime fuses (int8-cpu).
        images: (N, 3, H, W) uint8 RGB. One or two photos are enough, but photos they must be: others use less of the range.
        form: of the file's input, one of INPUT_FORMS.
        name: of the file in messages.
    Raises: CheckFailed, naming the CPU's instruction set, if a kernel's result is off by more than rounding.
    """
    largest = kernel_errors(path, images, form, threads)
    wrong = {step: levels for step, levels in largest.items() if levels > ROUNDING}
    if not wrong:
        return
    first = next(iter(wrong))
    raise CheckFailed(
        f"{name}: ONNX Runtime's 8-bit kernels for this CPU ({', '.join(cpu_instructions()) or 'unknown instructions'}) "
        f"compute {len(wrong)} of {len(largest)} convolutions wrongly, {first} first, by up to {max(wrong.values())} of 255 levels "
        f"where rounding explains {ROUNDING}; use another precision on this CPU, or a CPU with VNNI"
    )


@torch.inference_mode()
def kernel_errors(path: Path, images: np.ndarray, form: str, threads: int) -> dict[str, int]:
    """Largest difference of every quantizer's output from float32 arithmetic on the quantizer's output before it.

    Args: as `check_arithmetic`.
    Returns: by the name of the convolution that computes the values, in running order: levels of 8 bits.
    """
    model = onnx.load(path)
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    image = feed(torch.from_numpy(images), form)
    given = _fused(model, image.numpy(), threads)
    values, source, found = {"image": image}, "image", {}
    for node in model.graph.node:
        if node.op_type in ("ReduceMean", "Softmax"):
            break  # float32 in every file
        if node.op_type == "DequantizeLinear" and node.input[0] in held:
            continue  # of a weight; its convolution reads it
        result = _computed(node, values[node.input[0]], held, model.graph)
        if node.op_type == "Conv":
            source = node.name
        if node.op_type == "QuantizeLinear":
            fused = torch.from_numpy(given[node.output[0]])
            if source != "image":
                found[source] = int((fused.int() - result.int()).abs().max())
            result = fused
        values = {node.output[0]: result}  # a straight line: nothing else is needed any more
    return found


def _fused(model: onnx.ModelProto, image: np.ndarray, threads: int) -> dict[str, np.ndarray]:
    """The output of every quantizer, from ONNX Runtime with the settings of use."""
    import onnxruntime as ort

    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            kind = next(t.data_type for t in model.graph.initializer if t.name == node.input[2])
            tapped.graph.output.append(helper.make_tensor_value_info(node.output[0], kind, None))
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    session = ort.InferenceSession(
        tapped.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": image}), strict=True))


def _computed(
    node: onnx.NodeProto, values: Tensor, held: dict[str, onnx.TensorProto], graph: onnx.GraphProto
) -> Tensor:
    """One node in float32. Args: values, its first input; held, stored tensors by name."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    stored = [
        torch.from_numpy(numpy_helper.to_array(held[name]).copy())
        for name in node.input[1:]
        if name in held and node.op_type != "Conv"
    ]
    match node.op_type:
        case "Cast":
            return values.float()
        case "Sub":
            return values - stored[0]
        case "Mul":
            return values * stored[0]
        case "Add":
            return values + stored[0]
        case "Relu":
            return values.relu()
        case "MaxPool":
            return F.max_pool2d(
                values.float(), attributes["kernel_shape"], attributes["strides"]
            ).to(values.dtype)
        case "LRN":
            return F.local_response_norm(
                values,
                attributes["size"],
                attributes["alpha"],
                attributes["beta"],
                attributes["bias"],
            )
        case "QuantizeLinear":
            scale, zero = stored
            limits = torch.iinfo(zero.dtype)
            return ((values / scale).round_() + zero).clamp_(limits.min, limits.max).to(zero.dtype)
        case "DequantizeLinear":
            scale, zero = stored
            return (values.float() - zero) * scale
        case "Conv":
            return _convolved(node, values, held, graph, attributes["pads"][0])
    raise TypeError(
        f"{node.name} is a {node.op_type}, which no file of vgg-export for ONNX Runtime on CPUs has"
    )


def _convolved(
    node: onnx.NodeProto,
    values: Tensor,
    held: dict[str, onnx.TensorProto],
    graph: onnx.GraphProto,
    padding: int,
) -> Tensor:
    """Some output channels at a time, so that fc6's weights are not all in memory as float32."""
    bias = torch.from_numpy(numpy_helper.to_array(held[node.input[2]]).copy())
    stored = next((n for n in graph.node if n.output[0] == node.input[1]), None)
    weight = numpy_helper.to_array(held[stored.input[0] if stored else node.input[1]])
    scale = numpy_helper.to_array(held[stored.input[1]]) if stored else np.float32(1)
    parts = []
    for start in range(0, len(weight), ROWS):
        rows = slice(start, start + ROWS)
        own = scale[rows].reshape(-1, 1, 1, 1) if scale.ndim else scale
        part = torch.from_numpy(weight[rows].astype(np.float32) * own)
        parts.append(_convolution(values, part, bias[rows], padding))
    return torch.cat(parts, 1)


def _convolution(values: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
    """Stride 1. Without padding it is one product over windows, for which conv2d would first copy the weights."""
    if padding:
        return F.conv2d(values, weight, bias, padding=padding)
    height, width = (
        side - k + 1 for side, k in zip(values.shape[2:], weight.shape[2:], strict=True)
    )
    return (
        weight.flatten(1) @ F.unfold(values, tuple(weight.shape[2:])) + bias[:, None]
    ).unflatten(2, (height, width))
