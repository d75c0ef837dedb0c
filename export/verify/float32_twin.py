"""Compares a reduced file's float32 twin with PyTorch: the same nodes and stored values.

ONNX Runtime has no bfloat16 convolutions on CPUs, and computes half precision with its own
roundings. The twin computes its sums in float32. This takes the arithmetic out of the comparison:
what remains are the values and the structure of the file, and they must be exact. Convolutions are
compared one by one, each fed with what the twin itself computes before it. A value between two
levels of a quantizer may be rounded either way, and in a whole net that would grow.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any, NamedTuple

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from export.onnx.onnx_file import PAGE, Span, beside, read_referring, referring, stored_values
from export.quantize.convolve import net_input
from export.quantize.rounding import LAST, ReducedNet
from export.settings.precision import FLOAT, FOUR_BIT
from vgg_deploy.errors import CheckFailed
from vgg_deploy.exported.metadata import KEY, Artifact
from vgg_deploy.net.outputs import map_name
from vgg_deploy.runtimes.contract import Outputs, feed
from vgg_deploy.runtimes.graph_interface import softmax_of_logits

EXACT = 1e-4  # of a convolution's largest output; rounding in another order gives about 1e-6
REDUCED = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
ROWS = 512  # of a weight that are converted at a time


class Twin(NamedTuple):
    """A twin, ready to run."""

    session: Any  # onnxruntime.InferenceSession
    form: str  # of the input, one of INPUT_FORMS
    name: str  # of the file that it is the twin of


@contextmanager
def float32_twin(model: onnx.ModelProto, path: Path) -> Iterator[Path]:
    """Write a twin whose outputs include the output of every convolution and of LRN.

    Args:
        model: Of `read_referring`; it is changed.
        path: The file that the model is of.

    Yields:
        The twin, which is removed at the end of the block.
    """
    _show_steps(model.graph)
    with in_float32(model, path) as twin:
        yield twin


@contextmanager
def in_float32(model: onnx.ModelProto, path: Path) -> Iterator[Path]:
    """Write a model so that it computes in float32 with the values that it stores.

    Weights of half precision are converted into a separate file, others are used where they are.
    ONNX Runtime maps both without a copy.

    Args:
        model: Of `read_referring`; it is changed.
        path: The file that the model is of.

    Yields:
        The file, which is removed at the end of the block.
    """
    _cast_to_float32(model.graph)
    with NamedTemporaryFile(prefix=f"{path.name}.", suffix=".twin.data", dir=path.parent) as file:
        for tensor in model.graph.initializer:
            if tensor.data_type in REDUCED:
                _convert(tensor, file, path.parent)
        file.flush()
        with beside(path, model, ".twin.onnx") as twin:
            yield twin


def check_twin(
    path: Path,
    reduced: ReducedNet,
    form: str,
    batches: list[np.ndarray],
    threads: int,
    name: str,
    seen: list[np.ndarray] | None = None,
) -> Iterator[Outputs]:
    """Compare every convolution and every feature of a twin with PyTorch's on the same input.

    Args:
        path: The twin.
        reduced: The reference.
        form: Of the input, one of INPUT_FORMS, or WHOLE.
        batches: (N, 3, H, W) uint8 RGB.
        threads: Of ONNX Runtime.
        name: Of the file that it is the twin of.
        seen: The batches as the convolutions see them; None: as they are.

    Yields:
        The twin's outputs for every batch.

    Raises:
        CheckFailed: If a layer differs; its name is in the message.
    """
    twin = Twin(_session(path, threads), form, name)
    for batch, pixels in zip(batches, seen or batches, strict=True):
        yield _check_batch(twin, reduced, batch, pixels)


def twin_outputs(
    path: Path, data: Path | None, batches: list[np.ndarray], threads: int
) -> list[Outputs]:
    """Outputs of a file's float32 twin, without a comparison.

    Args:
        path: A file of ours.
        data: The separate file of its weights, if it has one.
        batches: (N, 3, H, W) uint8 RGB.
        threads: Of ONNX Runtime.

    Returns:
        By batch and name.
    """
    model = read_referring(path, data)
    form = Artifact.from_json(
        next(entry.value for entry in model.metadata_props if entry.key == KEY), str(path)
    ).input
    names = [output.name for output in model.graph.output]
    with float32_twin(model, path) as file:
        twin = Twin(_session(file, threads), form, path.name)
        found = [_outputs(twin, batch) for batch in batches]
    return [{name: outputs[name] for name in names} for outputs in found]


def _show_steps(graph: onnx.GraphProto) -> None:
    """Make the output of every convolution and of LRN an output of the graph.

    A convolution with 4-bit weights ends in a Transpose of its name.
    """
    outputs = {output.name for output in graph.output}
    for node in graph.node:
        is_step = node.op_type in ("Conv", "LRN") or node.name in FOUR_BIT
        if is_step and node.output[0] not in outputs:
            value = helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)
            graph.output.append(value)


def _cast_to_float32(graph: onnx.GraphProto) -> None:
    """Make every cast to a reduced type one to float32."""
    for node in graph.node:
        if node.op_type != "Cast":
            continue
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i in REDUCED:
                attribute.i = TensorProto.FLOAT


def _convert(tensor: TensorProto, file: IO[bytes], folder: Path) -> None:
    """Convert a tensor to float32, and append its values to `file` if they are external."""
    if tensor.data_location != TensorProto.EXTERNAL:
        values = numpy_helper.to_array(tensor).astype(FLOAT)
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        return
    file.write(bytes(-file.tell() % PAGE))
    start = file.tell()
    values = stored_values(tensor, folder)
    for row in range(0, len(values), ROWS):
        converted = np.ascontiguousarray(values[row : row + ROWS].astype(FLOAT))
        file.write(converted.reshape(-1).view(np.uint8).data)
    tensor.data_type = TensorProto.FLOAT
    referring(tensor, Path(file.name).name, Span(start, file.tell() - start))


@torch.inference_mode()
def _check_batch(twin: Twin, reduced: ReducedNet, batch: np.ndarray, seen: np.ndarray) -> Outputs:
    """Compare all steps on one batch (N, 3, H, W) uint8, which the convolutions see so."""
    outputs = _outputs(twin, batch)
    steps = reduced.steps(net_input(seen, reduced.spec))
    step, expected = next(steps)
    while True:
        # an output that was compared needs no memory any more
        own = f"{step}.out"
        output = outputs.pop(own) if own in outputs else outputs[_shown(step, reduced)]
        found = torch.from_numpy(output)
        _compare_step(f"{twin.name}: {step}", found, expected, batch)
        try:
            step, expected = steps.send(found)
        except StopIteration:
            return {name: outputs[name] for name in reduced.outputs}


def _shown(step: str, reduced: ReducedNet) -> str:
    """Name of a step's output that is an output of the file."""
    return map_name(reduced.spec) if step == LAST and step not in reduced.outputs else step


def _outputs(twin: Twin, batch: np.ndarray) -> dict[str, np.ndarray]:
    names = [output.name for output in twin.session.get_outputs()]
    image = feed(torch.from_numpy(batch), twin.form).contiguous().numpy()
    found = dict(zip(names, twin.session.run(names, {"image": image}), strict=True))
    return softmax_of_logits(found)


def _compare_step(where: str, found: Tensor, expected: Tensor, batch: np.ndarray) -> None:
    """Raise CheckFailed if an output differs from PyTorch's."""
    if found.shape != expected.shape:
        raise CheckFailed(f"{where} gives {tuple(found.shape)}, PyTorch {tuple(expected.shape)}")
    largest = float(expected.abs().max())
    difference = float((found - expected).abs().max())
    if not difference <= EXACT * largest:
        raise CheckFailed(
            f"{where} differs from PyTorch by {difference:.1e} on images of "
            f"{batch.shape[2]}x{batch.shape[3]}, its largest value is {largest:.1e}; "
            f"allowed is {EXACT:.0e} of that"
        )


def _session(path: Path, threads: int) -> Any:
    """A session that computes the nodes as written, without fusing any."""
    import onnxruntime as ort  # here, after vgg_deploy has turned its telemetry off

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.disable_prepacking", "1")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
