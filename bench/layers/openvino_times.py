"""Times the layers of a file in OpenVINO by its own performance counters."""

from importlib import import_module
from typing import Any

import numpy as np
import torch

from bench.layers.contract import NotSeparable, PartTimes
from bench.layers.node_times import Node, part_times
from vgg_deploy.errors import InputError
from vgg_deploy.net.outputs import layer_names
from vgg_deploy.runtimes.contract import Runtime, feed
from vgg_deploy.runtimes.signal_stack import kept_signal_stack

OPENVINO = ("openvino", "openvino-bf16")  # names of runtimes


class OpenVinoTimer:
    """The same file, compiled once more with performance counters."""

    how = "OpenVINO's performance counters"

    def __init__(self, runtime: Runtime):
        """Compile the file.

        Args:
            runtime: The file in OpenVINO.

        Raises:
            NotSeparable: For a runtime that is no exported file.
            InputError: If OpenVINO does not compile it again.
        """
        if runtime.artifact is None:
            raise NotSeparable("OpenVINO runs exported files")
        self.runtime, self._form = runtime, runtime.artifact.input
        self._request = _counting(runtime)
        self._calls: list[list[Node]] = []

    def __call__(self, images: np.ndarray) -> None:
        """Score a batch, as `LayerTimer`."""
        image = feed(torch.from_numpy(images), self._form).numpy()
        with kept_signal_stack():
            self._request.infer({"image": image})
        self._calls.append(
            [
                Node(node.node_name, node.node_type, 1000 * node.real_time.total_seconds())
                for node in self._request.get_profiling_info()
                if node.status == node.Status.EXECUTED
            ]
        )

    def forget(self) -> None:
        """As `LayerTimer`."""
        self._calls.clear()

    def finish(self) -> list[PartTimes]:
        """As `LayerTimer`."""
        return part_times(self._calls, layer_names(self.runtime.spec))


@kept_signal_stack()
def _counting(runtime: Runtime) -> Any:
    """A request with counters, which computes as the runtime's own."""
    ov = import_module("openvino")  # here, after the runtime has turned its telemetry off
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if runtime.precision == "bf16" else "f32",
        "INFERENCE_NUM_THREADS": runtime.threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
        "PERF_COUNT": True,
    }
    try:
        core = ov.Core()
        return core.compile_model(runtime.where, "CPU", settings).create_infer_request()
    except RuntimeError as error:
        raise InputError(
            f"{runtime.where}: OpenVINO does not compile it with performance counters "
            f"({str(error).strip()[:200]}); leave --per-layer out"
        ) from None
