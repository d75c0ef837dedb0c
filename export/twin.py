"""A float32 twin of a reduced file: the same nodes, the same stored values, sums in float32.

ONNX Runtime has no bfloat16 convolutions on CPUs, and computes half precision with its own roundings. The twin takes the
arithmetic out of the comparison: what is left are the values and the structure of the file, and they must be exact.
Convolutions are compared one by one, each fed with what the twin's own says before it: a value between two levels of a
quantizer may fall either way, and in a whole net that would grow.
"""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper

from export.graph import Graph
from export.precision import FLOAT
from export.quantization import LAST, ReducedNet
from vgg_deploy.errors import CheckFailed
from vgg_deploy.runtimes.contract import feed

EXACT = 1e-4  # of a convolution's largest output; rounding in another order gives about 1e-6
REDUCED = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


def float32_twin(model: onnx.ModelProto) -> Graph:
    """With the output of every convolution as one more output of the graph.

    Takes the stored values out of `model` and changes its casts; it is of no other use afterwards.
    """
    weights = {}
    while model.graph.initializer:
        tensor = model.graph.initializer.pop()
        values = numpy_helper.to_array(tensor)
        weights[tensor.name] = np.asarray(values.astype(FLOAT)) if tensor.data_type in REDUCED else values
    for node in model.graph.node:
        if node.op_type == "Conv" and node.output[0] not in {output.name for output in model.graph.output}:
            model.graph.output.append(helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None))
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in REDUCED:
                attribute.i = TensorProto.FLOAT
    return Graph(model, weights)


@torch.inference_mode()
def check_twin(path: Path, reduced: ReducedNet, form: str, pictures: list[np.ndarray], threads: int, name: str) -> None:
    """Every convolution of a twin against what PyTorch makes of the same input.

    Args: path, of the twin; form, of its input; pictures, batches (N, 3, H, W) uint8; name, of the file it is the twin of.
    Raises: CheckFailed, naming the convolution.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # as written, so that nothing is fused
    options.log_severity_level = 4
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    mean = torch.tensor(reduced.spec.preprocessing.mean).view(1, 3, 1, 1)
    for batch in pictures:
        steps = reduced.steps(torch.from_numpy(batch).float() - mean)
        conv, expected = next(steps)
        names = [output.name for output in session.get_outputs()]
        given = dict(zip(names, session.run(names, {"image": feed(torch.from_numpy(batch), form).numpy()}), strict=True))
        while True:
            found = torch.from_numpy(given["score_map" if conv == LAST else f"{conv}.out"])
            if found.shape != expected.shape:
                raise CheckFailed(f"{name}: {conv} gives {tuple(found.shape)}, PyTorch {tuple(expected.shape)}. Nothing was written")
            difference = float((found - expected).abs().max() / expected.abs().max())
            if not difference <= EXACT:
                raise CheckFailed(
                    f"{name}: {conv} differs from PyTorch by {difference:.1e} of its largest value on pictures of "
                    f"{batch.shape[2]}x{batch.shape[3]}, allowed {EXACT:.0e}. Nothing was written"
                )
            try:
                conv, expected = steps.send(found)
            except StopIteration:
                break
