"""Times the layers of an ONNX file by ONNX Runtime's own profiler.

The profiler measures nodes of the graph as ONNX Runtime has rewritten it. Nodes that fuse others
keep the name of a node or of a value of the file, and these begin with the paper's names of layers.
"""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch

from bench.layers.contract import NotSeparable, PartTimes
from bench.layers.parts import INPUT, LAYOUT, POSTERIOR, Part, owners, parts_of
from vgg_deploy.errors import InputError
from vgg_deploy.net.outputs import SCORES, layer_names
from vgg_deploy.runtimes.contract import feed
from vgg_deploy.runtimes.onnx_session import run_failure
from vgg_deploy.runtimes.onnxruntime import OnnxRuntime

NODE = "_kernel_time"  # the end of an event's name: the time in which a node was computed
CALL = "model_run"  # the event at the end of a call
BEFORE = ("to_float", "subtract_mean", "denormalise", "move_mean")
AFTER = ("mean_score", "softmax", "posterior")
LAST = "score_map"  # the value that fc8 gives
LAYER = re.compile(r"(?:conv|relu|norm|pool|fc)\d(?:_\d)?(?!\d)")
CONVOLUTIONS = ("Conv", "MatMul", "Gemm")  # parts of the names of operators
COMPUTING = {"relu": ("Relu", "Clip"), "pool": ("Pool",), "norm": ("LRN",)}


class Node(NamedTuple):
    """One node in one call.

    Attributes:
        name: Of the node.
        op: Operator.
        ms: Milliseconds.
    """

    name: str
    op: str
    ms: float


class OnnxTimer:
    """A second session of the same file with the same options, and the profiler on."""

    def __init__(self, runtime: OnnxRuntime):
        """Open the session.

        Args:
            runtime: The file, on the CPU.

        Raises:
            NotSeparable: On a GPU.
            InputError: If the profile cannot be written.
        """
        if runtime.device != "cpu":
            raise NotSeparable(
                "ONNX Runtime's profiler sees when a kernel is queued on a GPU, not how long it "
                "runs there"
            )
        self.runtime, self.how = runtime, "ONNX Runtime's profiler"
        self._folder = TemporaryDirectory(prefix="vgg-bench-profile-")
        self.session = _profiled(runtime, Path(self._folder.name) / "calls")
        self._calls = self._forgotten = 0

    def __call__(self, images: np.ndarray) -> None:
        """Score a batch, as `LayerTimer`."""
        image = feed(torch.from_numpy(images), self.runtime.artifact.input).numpy()
        try:
            self.session.run(list(SCORES), {"image": image})
        except self.runtime.failures as error:
            raise run_failure(self.runtime.where, images.shape, "images", error) from None
        self._calls += 1

    def forget(self) -> None:
        """As `LayerTimer`."""
        self._forgotten = self._calls

    def finish(self) -> list[PartTimes]:
        """As `LayerTimer`."""
        with self._folder:
            try:
                events = json.loads(Path(self.session.end_profiling()).read_bytes())
            except (OSError, ValueError) as error:
                raise InputError(
                    f"{self._folder.name}: ONNX Runtime's profile cannot be read back ({error}); "
                    "free space there, or name another folder with TMPDIR"
                ) from None
        del self.session
        calls = calls_of(events)[self._forgotten :]
        return part_times(calls, layer_names(self.runtime.spec))


def calls_of(events: Iterable[dict[str, Any]]) -> list[list[Node]]:
    """Sort the events of a profile into calls.

    Args:
        events: As ONNX Runtime writes them, in order of time.

    Returns:
        Call by call, the nodes in running order.
    """
    calls: list[list[Node]] = []
    nodes: list[Node] = []
    for event in events:
        name = event["name"]
        if event["cat"] == "Node" and name.endswith(NODE):
            op = event["args"]["op_name"]
            nodes.append(Node(name.removesuffix(NODE), op, event["dur"] / 1000))
        elif event["cat"] == "Session" and name == CALL:
            calls.append(nodes)
            nodes = []
    return calls


def part_times(calls: Sequence[Sequence[Node]], layers: Sequence[str]) -> list[PartTimes]:
    """Add the times of nodes up by the part of the net that they belong to.

    Args:
        calls: Of `calls_of`, at least one.
        layers: Names of the net's layers, in running order.
    """
    parts = parts_in(calls[0], layers)
    part_of = {**owners(parts), INPUT: (INPUT,), POSTERIOR: (POSTERIOR,), LAYOUT: (LAYOUT,)}
    rows: dict[Part, np.ndarray] = {}
    for part in ((INPUT,), *parts, (POSTERIOR,), (LAYOUT,)):
        rows[part] = np.zeros(len(calls))
    for index, nodes in enumerate(calls):
        for node in nodes:
            rows[part_of[_place(node)]][index] += node.ms
    return [PartTimes(part, ms) for part, ms in rows.items() if ms.any() or part in parts]


def computing(nodes: Sequence[Node]) -> list[tuple[str, str]]:
    """Layer and operator of the nodes that are a layer's own operation, in running order."""
    return [(place, node.op) for node in nodes if (place := _computed(node))]


def parts_in(nodes: Sequence[Node], layers: Sequence[str]) -> list[Part]:
    """The parts that the nodes of one call compute.

    Args:
        nodes: Of one call.
        layers: Names of the net's layers, in running order.
    """
    return parts_of(layers, {layer for layer, _ in computing(nodes)})


def _place(node: Node) -> str:
    """The layer that a node belongs to, or one of AROUND."""
    if found := LAYER.search(node.name):
        layer = found[0]
        # a fused node may have the name of its last layer
        return _own_convolution(layer) if _is_convolution(node) else layer
    if LAST in node.name:
        return "fc8"
    if any(name in node.name for name in BEFORE):
        return INPUT
    if any(name in node.name for name in AFTER):
        return POSTERIOR
    return LAYOUT


def _computed(node: Node) -> str | None:
    """The layer whose own operation a node is; None for roundings, types and orders."""
    place = _place(node)
    if _is_convolution(node):
        return place
    operators = COMPUTING.get(place.rstrip("_0123456789"), ())
    return place if any(operator in node.op for operator in operators) else None


def _is_convolution(node: Node) -> bool:
    return any(operator in node.op for operator in CONVOLUTIONS)


def _own_convolution(layer: str) -> str:
    """conv1_1 for relu1_1, fc6 for relu6."""
    number = layer.removeprefix("relu")
    if number == layer:
        return layer
    return f"conv{number}" if "_" in number else f"fc{number}"


def _profiled(runtime: OnnxRuntime, prefix: Path) -> Any:
    """A session as the runtime's own, and the profiler on."""
    import onnxruntime as ort

    own = runtime.session
    options = own.get_session_options()
    options.enable_profiling, options.profile_file_prefix = True, str(prefix)
    settings = own.get_provider_options()
    providers = [(name, settings.get(name, {})) for name in own.get_providers()]
    try:
        return ort.InferenceSession(runtime.where, options, providers=providers, enable_fallback=0)
    finally:
        options.enable_profiling = False
