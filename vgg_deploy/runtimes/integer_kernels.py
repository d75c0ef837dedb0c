"""Checks whether ONNX Runtime on this CPU computes a quantized file as it is written.

ONNX Runtime fuses quantized convolutions into integer kernels and chooses these by the CPU. Without
VNNI, products of uint8 activations and int8 weights are added in pairs in 16 bits and saturate
(vpmaddubsw; microsoft/onnxruntime#6004), without an error. Here the fused file also outputs the
8-bit values between its convolutions. Each of these is compared with what float32 arithmetic makes
of the 8-bit values before it.
"""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor
from torch.nn import functional as F

from vgg_deploy.errors import CheckFailed
from vgg_deploy.exported.interface import LOGITS, PIXELS
from vgg_deploy.exported.onnx_wire import data_files
from vgg_deploy.machine import cpu_instructions
from vgg_deploy.net.fully_connected import convolve
from vgg_deploy.net.outputs import BOXES, SCORES
from vgg_deploy.regular_files import read_regular
from vgg_deploy.runtimes.contract import feed

MOST_BYTES = 2**31  # of a protobuf
EXTERNAL_FOLDER = "session.model_external_initializers_file_folder_path"  # ONNX Runtime's word
ROUNDING = 1  # levels of 8 bits: a value halfway between two may go either way
ROWS = 512  # output channels whose weights are converted to float32 at a time


class Stored:
    """The stored values of a file, in it or beside it."""

    def __init__(self, model: onnx.ModelProto, folder: Path):
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        self._folder = str(folder)

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __getitem__(self, name: str) -> np.ndarray:
        """The values of a tensor, read now."""
        return numpy_helper.to_array(self._tensors[name], self._folder)


def check_arithmetic(path: Path, images: np.ndarray, form: str, threads: int, name: str) -> None:
    """Compare all fused kernels of a file with float32 arithmetic.

    Args:
        path: An ONNX file of ours whose 8-bit values ONNX Runtime fuses (int8-cpu).
        images: (N, 3, H, W) uint8 RGB. One or two are enough, but they must be photos: other images
            use less of the range.
        form: Of the file's input, one of INPUT_FORMS.
        threads: On the CPU.
        name: Of the file, for messages.

    Raises:
        CheckFailed: If a kernel's result is off by more than rounding; names the CPU's
            instructions.
    """
    errors = kernel_errors(path, images, form, threads)
    wrong = {conv: levels for conv, levels in errors.items() if levels > ROUNDING}
    if not wrong:
        return
    instructions = ", ".join(cpu_instructions()) or "unknown instructions"
    first = next(iter(wrong))
    raise CheckFailed(
        f"{name}: ONNX Runtime's 8-bit kernels for this CPU ({instructions}) "
        f"compute {len(wrong)} of {len(errors)} convolutions wrongly, {first} first, by up to "
        f"{max(wrong.values())} of 255 levels where rounding explains {ROUNDING}; "
        "use another precision on this CPU, or a CPU with VNNI"
    )


@torch.inference_mode()
def kernel_errors(path: Path, images: np.ndarray, form: str, threads: int) -> dict[str, int]:
    """Compare every quantizer's output with float32 arithmetic on the quantizer before it.

    Args:
        path: As in `check_arithmetic`.
        images: As in `check_arithmetic`.
        form: As in `check_arithmetic`.
        threads: As in `check_arithmetic`.

    Returns:
        Largest difference, levels of 8 bits, by the name of the convolution that computes the
        values, in running order.
    """
    data_files(path)  # refuses weights that are not beside the file
    content = read_regular(path, MOST_BYTES)
    model = onnx.load_model_from_string(content)
    stored = Stored(model, path.parent)
    image = feed(torch.from_numpy(images), form)
    fused_outputs = _fused(model, content, path.parent, image.contiguous().numpy(), threads)
    nodes, values = list(model.graph.node), image
    if PIXELS in fused_outputs:  # the graph rescales; behind that it is a straight line
        rescaled = next(i for i, node in enumerate(nodes) if PIXELS in node.output)
        nodes, values = nodes[rescaled + 1 :], torch.from_numpy(fused_outputs[PIXELS])
    features = {output.name for output in model.graph.output} - {*SCORES, BOXES, LOGITS}
    conv = ""  # the last one
    errors = {}
    last = max((i for i, n in enumerate(nodes) if n.op_type == "QuantizeLinear"), default=-1)
    for node in nodes[: last + 1]:  # after the last quantizer there are floats
        if node.op_type == "DequantizeLinear" and node.input[0] in stored:
            continue  # of a weight; its convolution reads it
        if node.output[0] in features:
            continue  # beside the row
        values = _computed(node, values, stored, model.graph)
        if node.op_type == "Conv":
            conv = node.name
        if node.op_type == "QuantizeLinear":
            fused = torch.from_numpy(fused_outputs[node.output[0]])
            if conv:
                errors[conv] = int((fused.int() - values.int()).abs().max())
            values = fused
    return errors


def _fused(
    model: onnx.ModelProto, content: bytes, folder: Path, image: np.ndarray, threads: int
) -> dict[str, np.ndarray]:
    """The output of every quantizer, and rescaled pixels, from ONNX Runtime as it is used.

    Messages of protobuf that stand one after another are one message, whose repeated fields have
    the elements of both. So outputs are added to the file's bytes without writing it anew.
    """
    import onnxruntime as ort

    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    taps = onnx.ModelProto()
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            kind = types[node.input[2]]  # that of the zero point
            taps.graph.output.append(helper.make_tensor_value_info(node.output[0], kind, None))
        if PIXELS in node.output:
            kind = onnx.TensorProto.UINT8
            taps.graph.output.append(helper.make_tensor_value_info(PIXELS, kind, None))
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    # where weights lie that are not in the bytes
    options.add_session_config_entry(EXTERNAL_FOLDER, str(folder))
    session = ort.InferenceSession(
        content + taps.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": image}), strict=True))


def _computed(
    node: onnx.NodeProto, values: Tensor, stored: Stored, graph: onnx.GraphProto
) -> Tensor:
    """Compute one node in float32.

    Args:
        node: Of the graph.
        values: Its first input.
        stored: Weights of the file.
        graph: For the weights of a convolution, which have a node of their own.
    """
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    match node.op_type:
        case "Conv":
            return _convolved(node, values, stored, graph, attributes["pads"][0])
        case "Cast":
            return values.float()
        case "Relu":
            return values.relu()
        case "MaxPool":
            sides, strides = attributes["kernel_shape"], attributes["strides"]
            return F.max_pool2d(values.float(), sides, strides).to(values.dtype)
        case "LRN":
            names = ("size", "alpha", "beta", "bias")
            return F.local_response_norm(values, *(attributes[name] for name in names))
    operands = [torch.from_numpy(stored[name].copy()) for name in node.input[1:] if name in stored]
    match node.op_type, operands:
        case "Sub", [operand]:
            return values - operand
        case "Mul", [operand]:
            return values * operand
        case "Add", [operand]:
            return values + operand
        case "QuantizeLinear", [scale, zero]:
            limits = torch.iinfo(zero.dtype)
            levels = (values / scale).round_() + zero
            return levels.clamp_(limits.min, limits.max).to(zero.dtype)
        case "DequantizeLinear", [scale, zero]:
            return (values.float() - zero) * scale
    raise TypeError(
        f"{node.name} is a {node.op_type}, which no file of vgg-export for ONNX Runtime on CPUs has"
    )


def _convolved(
    node: onnx.NodeProto, values: Tensor, stored: Stored, graph: onnx.GraphProto, padding: int
) -> Tensor:
    """Compute a convolution, some output channels at a time.

    So fc6's weights are not all in memory as float32.
    """
    bias = torch.from_numpy(stored[node.input[2]].copy())
    dequantizers = {n.output[0]: n for n in graph.node}
    dequantizer = dequantizers.get(node.input[1])
    if dequantizer is None:
        weight, scale = stored[node.input[1]], np.ones((), np.float32)
    else:
        weight = stored[dequantizer.input[0]]
        scale = np.asarray(stored[dequantizer.input[1]])
    parts = []
    for start in range(0, len(weight), ROWS):
        rows = slice(start, start + ROWS)
        own_scale = scale[rows].reshape(-1, 1, 1, 1) if scale.ndim else scale
        part = torch.from_numpy(weight[rows].astype(np.float32) * own_scale)
        parts.append(convolve(values, part, bias[rows], padding))
    return torch.cat(parts, 1)
