"""A float32 twin of a reduced file: the same nodes, the same stored values, sums in float32.

ONNX Runtime has no bfloat16 convolutions on CPUs, and computes half precision with its own roundings. The twin takes the
arithmetic out of the comparison: what is left are the values and the structure of the file, and they must be exact.
Convolutions are compared one by one, each fed with what the twin's own says before it: a value between two levels of a
quantizer may fall either way, and in a whole net that would grow.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import BinaryIO

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper

from export.onnx.onnx_file import PAGE, beside, referring, stored_values
from export.quantize.rounding import LAST, ReducedNet
from export.settings.precision import FLOAT
from vgg_deploy.errors import CheckFailed
from vgg_deploy.runtimes.contract import Scores, feed

EXACT = 1e-4  # of a convolution's largest output; rounding in another order gives about 1e-6
REDUCED = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
ROWS = 512  # of a weight that are converted at a time


@contextmanager
def float32_twin(model: onnx.ModelProto, path: Path) -> Iterator[Path]:
    """With the output of every convolution and of LRN as one more output of the graph. Changes `model`.

    Args: model, of `read_referring`; path, of the file that it is of.
    Weights of half precision lie converted in a file of their own, others where they are; ONNX Runtime maps both without a copy.
    """
    graph = model.graph
    outputs = {output.name for output in graph.output}
    for node in graph.node:
        if node.op_type in ("Conv", "LRN") and node.output[0] not in outputs:
            graph.output.append(
                helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)
            )
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i in REDUCED:
                attribute.i = TensorProto.FLOAT
    with NamedTemporaryFile(prefix=f"{path.name}.", suffix=".twin.data", dir=path.parent) as file:
        for tensor in graph.initializer:
            if tensor.data_type not in REDUCED:
                continue
            if tensor.data_location != TensorProto.EXTERNAL:
                tensor.CopyFrom(
                    numpy_helper.from_array(
                        numpy_helper.to_array(tensor).astype(FLOAT), tensor.name
                    )
                )
                continue
            file.write(bytes(-file.tell() % PAGE))
            start = file.tell()
            _write_converted(file, tensor, path.parent)
            tensor.data_type = TensorProto.FLOAT
            referring(tensor, Path(file.name).name, start, file.tell() - start)
        file.flush()
        with beside(path, model, ".twin.onnx") as twin:
            yield twin


def _write_converted(file: BinaryIO, tensor: TensorProto, folder: Path) -> None:
    """An external tensor's values as float32, some rows at a time."""
    values = stored_values(tensor, folder)
    for start in range(0, len(values), ROWS):
        file.write(
            np.ascontiguousarray(values[start : start + ROWS].astype(FLOAT))
            .reshape(-1)
            .view(np.uint8)
            .data
        )


@torch.inference_mode()
def check_twin(
    twin: Path, reduced: ReducedNet, form: str, pictures: list[np.ndarray], threads: int, name: str
) -> list[Scores]:
    """Every convolution of a twin against what PyTorch makes of the same input.

    Args: form, of the input; pictures, batches (N, 3, H, W) uint8; name, of the file it is the twin of.
    Returns: what the twin says of every batch.
    Raises: CheckFailed, naming the convolution.
    """
    session, scores = _session(twin, threads), []
    mean = torch.tensor(reduced.spec.preprocessing.mean).view(1, 3, 1, 1)
    names = [output.name for output in session.get_outputs()]
    for batch in pictures:
        given = dict(
            zip(
                names,
                session.run(names, {"image": feed(torch.from_numpy(batch), form).numpy()}),
                strict=True,
            )
        )
        steps = reduced.steps(torch.from_numpy(batch).float() - mean)
        conv, expected = next(steps)
        while True:
            found = torch.from_numpy(
                given["score_map"] if conv == LAST else given.pop(f"{conv}.out")
            )  # which then needs no memory any more
            if found.shape != expected.shape:
                raise CheckFailed(
                    f"{name}: {conv} gives {tuple(found.shape)}, PyTorch {tuple(expected.shape)}"
                )
            largest = float(expected.abs().max())
            difference = float((found - expected).abs().max())
            if not difference <= EXACT * largest:
                raise CheckFailed(
                    f"{name}: {conv} differs from PyTorch by {difference:.1e} on images of {batch.shape[2]}x{batch.shape[3]}, "
                    f"its largest value is {largest:.1e}; allowed is {EXACT:.0e} of that"
                )
            try:
                conv, expected = steps.send(found)
            except StopIteration:
                break
        scores.append(Scores(given["posterior"], given["score_map"]))
    return scores


def _session(twin: Path, threads: int) -> ort.InferenceSession:
    """As written, nothing fused."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.disable_prepacking", "1")
    return ort.InferenceSession(twin, options, providers=["CPUExecutionProvider"])
