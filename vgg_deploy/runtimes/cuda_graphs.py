"""CUDA graphs: the kernels of one input shape recorded once and launched together."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vgg_deploy.errors import InputError
from vgg_deploy.runtimes.contract import DeviceRuntime, Scores, checked, to_host

WARM_UP = 3  # calls before recording, on a side stream as CUDA wants it


class Recorded(NamedTuple):
    """One shape: fill `pixels`, replay, read the scores."""

    graph: torch.cuda.CUDAGraph
    pixels: Tensor
    scores: tuple[Tensor, Tensor]


class GraphedRuntime:
    """A runtime of PyTorch or TensorRT whose calls are replayed, a graph for every shape that comes."""

    def __init__(self, runtime: DeviceRuntime):
        if runtime.device != "cuda" or runtime.name.startswith("onnxruntime"):
            raise InputError(
                f"CUDA graphs: not for {runtime.name} on {runtime.device}; use them with torch or TensorRT on cuda"
            )
        self.inner = runtime
        self.spec, self.precision, self.device, self.threads = (
            runtime.spec,
            runtime.precision,
            runtime.device,
            runtime.threads,
        )
        self.name, self.artifact = runtime.name, runtime.artifact
        self.settings, self.where = runtime.settings, runtime.where
        self.recorded: dict[torch.Size, Recorded] = {}

    def on_device(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The scores are overwritten by the next call of the same shape."""
        if pixels.shape not in self.recorded:
            self.recorded[pixels.shape] = self._record(pixels)
        recorded = self.recorded[pixels.shape]
        recorded.pixels.copy_(pixels)
        recorded.graph.replay()
        return recorded.scores

    def __call__(self, images: np.ndarray) -> Scores:
        outputs = to_host(self.on_device(torch.from_numpy(images).to(self.device)))
        return checked(outputs, images, self.spec, self.where)

    def _record(self, pixels: Tensor) -> Recorded:
        fixed, side = pixels.clone(), torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP):
                self.inner.on_device(fixed)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            scores = self.inner.on_device(fixed)
        return Recorded(graph, fixed, scores)
