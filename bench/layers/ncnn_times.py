"""Times the layers of a net in ncnn.

ncnn's package has no profiler. One extractor keeps what it has computed, so asking it for one value
after the other computes one layer each time. Values stay in ncnn's own packed order.
"""

import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch

from bench.layers.contract import PartTimes
from bench.layers.ncnn_steps import AFTER, BEFORE, ncnn_steps
from bench.layers.parts import INPUT, POSTERIOR, Part, parts_of
from vgg_deploy.errors import InputError
from vgg_deploy.net.outputs import layer_names
from vgg_deploy.runtimes.contract import feed
from vgg_deploy.runtimes.ncnn import NcnnRuntime

AS_IT_IS = 1  # of Extractor.extract: in ncnn's own order of memory
UNPACKED = 0


class NcnnTimer:
    """Asks for the values of a net one after the other."""

    def __init__(self, runtime: NcnnRuntime):
        """Take over a net.

        Args:
            runtime: The net.
        """
        self.runtime = runtime
        self.how = "values asked for one after the other, one layer each"
        steps = ncnn_steps(Path(runtime.where))
        layers = layer_names(runtime.spec)
        part_of = {part[0]: part for part in parts_of(layers, {step.name for step in steps})}
        part_of |= dict.fromkeys(BEFORE, (INPUT,)) | dict.fromkeys(AFTER, (POSTERIOR,))
        self.steps = [(part_of[step.name], step.gives) for step in steps]
        self._ms: dict[Part, list[float]] = defaultdict(list)

    def __call__(self, images: np.ndarray) -> None:
        """Score a batch image by image, as `LayerTimer`."""
        artifact = self.runtime.artifact
        inputs = feed(torch.from_numpy(images), artifact.input).float().contiguous().numpy()
        call: dict[Part, float] = defaultdict(float)
        for image in inputs:
            self._run_one(image, call)
        for part, ms in call.items():
            self._ms[part].append(ms)

    def forget(self) -> None:
        """As `LayerTimer`."""
        self._ms.clear()

    def finish(self) -> list[PartTimes]:
        """As `LayerTimer`."""
        return [PartTimes(part, np.array(ms)) for part, ms in self._ms.items()]

    def _run_one(self, image: np.ndarray, call: dict[Part, float]) -> None:
        """Add the times of one (3, H, W) float32 image."""
        extractor = self.runtime.net.create_extractor()
        extractor.input("image", self.runtime.ncnn.Mat(image).clone())
        for part, value in self.steps:
            kind = UNPACKED if value == "posterior" else AS_IT_IS
            start = time.perf_counter()
            status, _ = extractor.extract(value, kind)
            call[part] += 1000 * (time.perf_counter() - start)
            if status:
                raise InputError(
                    f"{self.runtime.where}: ncnn gives no {value} (status {status}); it may need "
                    "more memory"
                )
