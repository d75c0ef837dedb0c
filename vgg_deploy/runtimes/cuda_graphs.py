"""Records the kernels of one input shape as a CUDA graph, and launches them together."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vgg_deploy.errors import InputError
from vgg_deploy.net.outputs import SCORES
from vgg_deploy.runtimes.contract import (
    Outputs,
    Runtime,
    Scores,
    checked,
    is_device_runtime,
    to_host,
)

WARM_UP = 3  # calls before recording, on a side stream as CUDA requires


class Recorded(NamedTuple):
    """One shape: fill `pixels`, replay the graph, read the scores."""

    graph: torch.cuda.CUDAGraph
    pixels: Tensor
    scores: tuple[Tensor, Tensor]


class GraphedRuntime:
    """A runtime of PyTorch or TensorRT whose calls are replayed from one graph per input shape."""

    def __init__(self, runtime: Runtime):
        """Wrap a runtime.

        Args:
            runtime: On a GPU, of PyTorch or TensorRT.

        Raises:
            InputError: For another runtime.
        """
        if not is_device_runtime(runtime) or runtime.name.startswith("onnxruntime"):
            raise InputError(
                f"CUDA graphs: not for {runtime.name} on {runtime.device}; "
                "use them with torch or TensorRT on cuda"
            )
        self.inner = runtime
        self.spec, self.name, self.precision = runtime.spec, runtime.name, runtime.precision
        self.device, self.threads = runtime.device, runtime.threads
        self.outputs = runtime.outputs
        self.artifact, self.settings, self.where = runtime.artifact, runtime.settings, runtime.where
        self.recorded: dict[torch.Size, Recorded] = {}

    def on_device(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Score a batch on the device; the next call of the same shape overwrites the scores.

        Args:
            pixels: (N, 3, H, W) uint8 RGB on the device.

        Returns:
            As `DeviceRuntime.on_device`.
        """
        if pixels.shape not in self.recorded:
            self.recorded[pixels.shape] = self._record(pixels)
        recorded = self.recorded[pixels.shape]
        recorded.pixels.copy_(pixels)
        recorded.graph.replay()
        return recorded.scores

    def __call__(self, images: np.ndarray) -> Scores:
        """Score a batch, as `Runtime`."""
        scores = self.on_device(torch.from_numpy(images).to(self.device))
        found = to_host(dict(zip(SCORES, scores, strict=True)))
        found = checked(found, images, self.spec, self.where)
        return Scores(found["posterior"], found["score_map"])

    def run(self, images: np.ndarray, outputs: Sequence[str]) -> Outputs:
        """Give some outputs, as `Runtime`; they are computed without a graph."""
        return self.inner.run(images, outputs)

    def _record(self, pixels: Tensor) -> Recorded:
        fixed = pixels.clone()
        side_stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # by torch
        side_stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side_stream):
            for _ in range(WARM_UP):
                self.inner.on_device(fixed)
        torch.cuda.current_stream().wait_stream(side_stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            scores = self.inner.on_device(fixed)
        return Recorded(graph, fixed, scores)
