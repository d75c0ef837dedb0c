"""Times the layers of a net in PyTorch: eager, one layer after the other."""

import time
from collections import defaultdict
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from bench.layers.contract import NotSeparable, PartTimes
from bench.layers.parts import INPUT, POSTERIOR
from vgg_deploy.net.model import posterior
from vgg_deploy.runtimes.pytorch import TorchRuntime


class TorchTimer:
    """Reads the clock between layers; on a GPU that of the GPU, by events."""

    def __init__(self, runtime: TorchRuntime):
        """Take over a net.

        Args:
            runtime: The net; eager.

        Raises:
            NotSeparable: If it is compiled.
        """
        if runtime.name != "torch":
            raise NotSeparable(
                "torch.compile writes kernels that reach over layers and have no names of layers"
            )
        self.runtime = runtime
        on_gpu = runtime.device == "cuda"
        self.how = "events of the GPU between layers" if on_gpu else "the clock between layers"
        self._marks = _gpu_marks if on_gpu else _cpu_marks
        self._ms: dict[str, list[float]] = defaultdict(list)

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> None:
        """Score a batch, as `LayerTimer`."""
        pixels = torch.from_numpy(images).to(self.runtime.device)
        for name, ms in self._marks(self._steps(pixels)):
            self._ms[name].append(ms)

    def forget(self) -> None:
        """As `LayerTimer`."""
        self._ms.clear()

    def finish(self) -> list[PartTimes]:
        """As `LayerTimer`."""
        return [PartTimes((name,), np.array(ms)) for name, ms in self._ms.items()]

    def _steps(self, pixels: Tensor) -> Iterator[str]:
        """Compute step by step; yields the name of each when it is computed."""
        values = self.runtime.start(pixels)
        yield INPUT
        for name, given in self.runtime.layers_from(values):
            values = given
            yield name
        posterior(values)
        yield POSTERIOR


def _cpu_marks(steps: Iterator[str]) -> Iterator[tuple[str, float]]:
    """Name and milliseconds of each step."""
    start = time.perf_counter()
    for name in steps:
        end = time.perf_counter()
        yield name, 1000 * (end - start)
        start = time.perf_counter()


def _gpu_marks(steps: Iterator[str]) -> Iterator[tuple[str, float]]:
    """Name and milliseconds of each step by the GPU's clock, when all are done."""
    marks = [_event()]
    names = []
    for name in steps:
        names.append(name)
        marks.append(_event())
    torch.cuda.synchronize()
    for index, name in enumerate(names):
        yield name, float(marks[index].elapsed_time(marks[index + 1]))


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # by torch
    event.record()
    return event
