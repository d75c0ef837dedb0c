"""Checks whether ONNX Runtime on this CPU computes products of 4-bit weights as they are written.

ONNX Runtime turns such a product into one kernel, chosen by the CPU, and rounds the inputs of each
block to 8 bits for it. That costs about 0.1 % of the outputs' root mean square. Version 1.31 gives
zeros for half precision with the optimisation level ENABLE_EXTENDED, without an error. Here the
inputs and outputs of the kernels are taken from ONNX Runtime, and compared with float32 arithmetic.
"""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from vgg_deploy.errors import CheckFailed
from vgg_deploy.machine import cpu_instructions
from vgg_deploy.runtimes.contract import feed

MOST_PCT = 3.0  # root mean square of the error, of that of the outputs; 8-bit inputs cost 0.1 to 1
OUTPUTS = 512  # whose weights are converted to float32 at a time


def check_products(path: Path, images: np.ndarray, form: str, threads: int, name: str) -> None:
    """Compare all products of 4-bit weights in a file with float32 arithmetic.

    Args:
        path: An ONNX file of ours with weights in blocks.
        images: (N, 3, H, W) uint8 RGB photos; one or two are enough.
        form: Of the file's input, one of INPUT_FORMS.
        threads: On the CPU.
        name: Of the file, for messages.

    Raises:
        CheckFailed: If a product is off by more than 8-bit inputs explain; names the CPU's
            instructions.
    """
    errors = product_errors(path, images, form, threads)
    wrong = {product: error for product, error in errors.items() if not error <= MOST_PCT}
    if not wrong:
        return
    instructions = ", ".join(cpu_instructions()) or "unknown instructions"
    first = next(iter(wrong))
    raise CheckFailed(
        f"{name}: ONNX Runtime's 4-bit kernels for this CPU ({instructions}) compute {first} "
        f"wrongly: it is off by {wrong[first]:.1f} % (root mean square) where 8-bit inputs explain "
        f"{MOST_PCT:g} %; use another precision, or another version of ONNX Runtime"
    )


@torch.inference_mode()
def product_errors(path: Path, images: np.ndarray, form: str, threads: int) -> dict[str, float]:
    """Compare every product of 4-bit weights with float32 arithmetic on the same inputs.

    Args:
        path: As in `check_products`.
        images: As in `check_products`.
        form: As in `check_products`.
        threads: As in `check_products`.

    Returns:
        Root mean square of the differences over that of the outputs, in per cent, by product.
    """
    model = onnx.load(path)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    weights = {
        node.output[0]: node
        for node in model.graph.node
        if node.op_type == "DequantizeLinear"
        and node.input[0] in stored
        and stored[node.input[0]].data_type == TensorProto.INT4
    }
    products = [n for n in model.graph.node if n.op_type == "MatMul" and n.input[1] in weights]
    values = _tapped(model, products, feed(torch.from_numpy(images), form).numpy(), threads)
    errors = {}
    for node in products:
        levels, scales = (
            numpy_helper.to_array(stored[name]) for name in weights[node.input[1]].input[:2]
        )
        block = next(a.i for a in weights[node.input[1]].attribute if a.name == "block_size")
        rows, found = (values[name].astype(np.float32) for name in (node.input[0], node.output[0]))
        expected = _product(rows, levels, scales, block)
        power = float(np.mean(expected.astype(np.float64) ** 2))
        noise = float(np.mean((found - expected).astype(np.float64) ** 2))
        errors[node.name] = 100 * float(np.sqrt(noise / power)) if power else float(noise > 0) * 100
    return errors


def _product(rows: np.ndarray, levels: np.ndarray, scales: np.ndarray, block: int) -> np.ndarray:
    """(..., inputs) by (inputs, outputs) of 4 bits with (blocks, outputs) scales, in float32."""
    parts = []
    for start in range(0, levels.shape[1], OUTPUTS):
        own = slice(start, start + OUTPUTS)
        repeated = np.repeat(scales[:, own].astype(np.float32), block, axis=0)[: len(levels)]
        parts.append(rows @ (levels[:, own].astype(np.float32) * repeated))
    return np.concatenate(parts, -1)


def _tapped(
    model: onnx.ModelProto, products: list[onnx.NodeProto], image: np.ndarray, threads: int
) -> dict[str, np.ndarray]:
    """Inputs and outputs of the products, from ONNX Runtime with the usual settings."""
    import onnxruntime as ort

    for name in dict.fromkeys(v for n in products for v in (n.input[0], n.output[0])):
        model.graph.output.append(helper.make_empty_tensor_value_info(name))
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"image": image}), strict=True))
