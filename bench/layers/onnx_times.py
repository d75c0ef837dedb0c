"""Times the layers of an ONNX file by ONNX Runtime's own profiler.

It measures the nodes of the graph as ONNX Runtime has rewritten it.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.layers.contract import NotSeparable, PartTimes
from bench.layers.node_times import Node, part_times
from bench.layers.onnx_sessions import OTHER_FOLDER, profile_folder, reopened
from vgg_deploy.errors import InputError
from vgg_deploy.net.outputs import SCORES, layer_names
from vgg_deploy.runtimes.contract import feed
from vgg_deploy.runtimes.onnx_session import run_failure
from vgg_deploy.runtimes.onnxruntime import OnnxRuntime

NODE = "_kernel_time"  # the end of an event's name: the time in which a node was computed
CALL = "model_run"  # the event at the end of a call


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
        self._folder = profile_folder()
        self.session = reopened(runtime, runtime.where, Path(self._folder.name) / "calls")
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
            calls = end_profile(self.session)[self._forgotten :]
        del self.session
        return part_times(calls, layer_names(self.runtime.spec))


def end_profile(session: Any) -> list[list[Node]]:
    """End the profile of a session and read it.

    Args:
        session: An onnxruntime.InferenceSession with the profiler on.

    Returns:
        As `calls_of`.

    Raises:
        InputError: If it cannot be read back.
    """
    path = session.end_profiling()
    try:
        return calls_of(json.loads(Path(path).read_bytes()))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path}: ONNX Runtime's profile cannot be read back ({error}); {OTHER_FOLDER}"
        ) from None


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
