"""Compares a reduced file's float32 twin with PyTorch: the same nodes and stored values.

ONNX Runtime has no bfloat16 convolutions on CPUs, and computes half precision with its own
roundings. The twin computes its sums in float32. This takes the arithmetic out of the comparison:
what remains are the values and the structure of the file, and they must be exact. Convolutions are
compared one by one, each fed with what the twin itself computes before it, on all rows of small
outputs and on the first, middle and last rows of large ones. A value between two
levels of a quantizer may be rounded either way, and in a whole net that would grow.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from export.onnx.onnx_file import beside, read_referring
from export.quantize.bands import Rows, chosen
from export.quantize.convolve import net_input
from export.quantize.rounding import LAST, ReducedNet
from export.settings.precision import FLOAT, FOUR_BIT
from export.verify.memory import keep_blocks, return_blocks, trim
from vgg_deploy.errors import CheckFailed
from vgg_deploy.exported.metadata import KEY, Artifact
from vgg_deploy.net.outputs import map_name
from vgg_deploy.runtimes.contract import Outputs, feed
from vgg_deploy.runtimes.graph_interface import (
    fixed_batches,
    joined_batches,
    softmax_of_logits,
)

EXACT = 1e-4  # of a convolution's largest output; rounding in another order gives about 1e-6
REDUCED = (TensorProto.FLOAT16, TensorProto.BFLOAT16)


class Twin(NamedTuple):
    """A twin, ready to run."""

    session: Any  # onnxruntime.InferenceSession
    form: str  # of the input, one of INPUT_FORMS


class TwinRuntime:
    """A twin that is run as its file would be."""

    def __init__(self, twin: Twin, artifact: Artifact):
        self._twin, self._artifact = twin, artifact
        self.outputs = artifact.outputs

    def run(self, images: np.ndarray, outputs: Sequence[str]) -> Outputs:
        """Outputs by name of images (N, 3, H, W) uint8 RGB, as `Runtime`."""
        interface = self._artifact.interface
        names = [interface.graph_name(name) for name in outputs]
        parts = [
            _outputs(self._twin, part, names) for part in fixed_batches(images, interface.count)
        ]
        return joined_batches(parts, len(images))


class _Kept:
    """A twin's outputs for some batches, on disk: those of one batch can have 100 MB."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._files = folder, dict[tuple[int, str], Path]()

    def add(self, index: int, outputs: Outputs) -> None:
        """Keep the outputs of one batch."""
        for name, values in outputs.items():
            path = self.folder / f"{len(self._files)}.npy"
            np.save(path, values)
            self._files[index, name] = path

    def has(self, name: str) -> bool:
        """Whether the twin gives this output."""
        return (0, name) in self._files

    def read(self, index: int, name: str) -> np.ndarray:
        """(N, C, h, w) float32 of one batch, mapped: what is not looked at is not read."""
        found: np.ndarray = np.load(self._files[index, name], mmap_mode="c")
        return found


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

    Weights are used where they are. Those of half precision get a Cast to float32.

    Args:
        model: Of `read_referring`; it is changed.
        path: The file that the model is of.

    Yields:
        The file, which is removed at the end of the block.
    """
    _cast_to_float32(model.graph)
    _cast_stored(model.graph)
    with beside(path, model, ".twin.onnx") as twin:
        yield twin


@torch.inference_mode()
def check_twin(
    path: Path,
    open_reduced: Callable[[], ReducedNet],
    form: str,
    batches: list[np.ndarray],
    threads: int,
    name: str,
    seen: list[np.ndarray] | None = None,
    on_twin: Callable[[Twin], None] = lambda twin: None,
) -> Iterator[Outputs]:
    """Compare every convolution and every feature of a twin with PyTorch's on the same input.

    First the twin runs, then PyTorch, so that only one of them has its weights in memory.

    Args:
        path: The twin.
        open_reduced: Gives the reference; called after the twin was run.
        form: Of the input, one of INPUT_FORMS, or WHOLE.
        batches: (N, 3, H, W) uint8 RGB.
        threads: Of ONNX Runtime.
        name: Of the file that it is the twin of.
        seen: The batches as the convolutions see them; None: as they are.
        on_twin: Called with the twin after it was run on the batches.

    Yields:
        The twin's outputs for every batch, after all were compared.

    Raises:
        CheckFailed: If a layer differs; its name is in the message.
    """
    with TemporaryDirectory(prefix=f"{path.name}.", dir=path.parent) as folder:
        twin = Twin(_session(path, threads), form)
        keep_blocks()
        kept = _Kept(Path(folder))
        for index, batch in enumerate(batches):
            kept.add(index, _outputs(twin, batch))
            trim()
        return_blocks()
        on_twin(twin)
        del twin
        return_blocks()
        reduced = open_reduced()
        outputs = reduced.outputs
        keep_blocks()
        _check_steps(name, kept, reduced, batches, seen or batches)
        del reduced
        return_blocks()
        for index in range(len(batches)):
            yield {output: kept.read(index, output) for output in outputs}


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
        twin = Twin(_session(file, threads), form)
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


def _cast_stored(graph: onnx.GraphProto) -> None:
    """Make every stored value of a reduced type one of float32, a large one by a Cast."""
    casts = []
    for tensor in graph.initializer:
        if tensor.data_type not in REDUCED:
            continue
        if tensor.data_location != TensorProto.EXTERNAL:
            values = numpy_helper.to_array(tensor).astype(FLOAT)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
            continue
        name, tensor.name = tensor.name, f"{tensor.name}.stored"
        casts.append(helper.make_node("Cast", [tensor.name], [name], name, to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _check_steps(
    name: str,
    kept: _Kept,
    reduced: ReducedNet,
    batches: list[np.ndarray],
    seen: list[np.ndarray],
) -> None:
    """Compare all steps on some batches (N, 3, H, W) uint8, which the convolutions see so."""
    steps = reduced.steps([net_input(images, reduced.spec) for images in seen])
    step, expected = next(steps)
    while True:
        output = f"{step}.out" if kept.has(f"{step}.out") else _shown(step, reduced)
        found = []
        for index, batch in enumerate(batches):
            found.append(torch.from_numpy(kept.read(index, output)))
            _compare_step(f"{name}: {step}", found[-1], expected.pop(0), batch)
        try:
            step, expected = steps.send(found)
        except StopIteration:
            return


def _shown(step: str, reduced: ReducedNet) -> str:
    """Name of a step's output that is an output of the file."""
    return map_name(reduced.spec) if step == LAST and step not in reduced.outputs else step


def _outputs(
    twin: Twin, batch: np.ndarray, names: list[str] | None = None
) -> dict[str, np.ndarray]:
    """Outputs of these names in the graph, or all."""
    names = names or [output.name for output in twin.session.get_outputs()]
    image = feed(torch.from_numpy(batch), twin.form).contiguous().numpy()
    found = dict(zip(names, twin.session.run(names, {"image": image}), strict=True))
    return softmax_of_logits(found)


def _compare_step(where: str, output: Tensor, rows: Rows, batch: np.ndarray) -> None:
    """Raise CheckFailed if an output differs from PyTorch's rows of it."""
    count, channels, _, width = rows.values.shape
    shape = (count, channels, rows.height, width)
    if output.shape != shape:
        raise CheckFailed(f"{where} gives {tuple(output.shape)}, PyTorch {shape}")
    found, expected = chosen(output, rows.bands), rows.values
    largest = float(expected.abs().max())
    difference = float((found - expected).abs().max())
    if not difference <= EXACT * largest:
        raise CheckFailed(
            f"{where} differs from PyTorch by {difference:.1e} on images of "
            f"{batch.shape[2]}x{batch.shape[3]}, its largest value is {largest:.1e}; "
            f"allowed is {EXACT:.0e} of that"
        )


def _session(path: Path, threads: int) -> Any:
    """A session that computes the nodes as written, and stored values in float32 only once.

    ONNX Runtime folds what depends on stored values alone: DequantizeLinear of weights, and casts
    of them. Without the option it would not fold the first, but fuse it into integer kernels.
    """
    import onnxruntime as ort  # here, after vgg_deploy has turned its telemetry off

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 4
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
