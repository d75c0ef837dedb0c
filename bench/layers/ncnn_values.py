"""Shows the values of a net's layers in ncnn."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from bench.layers.contract import Rounding
from bench.layers.ncnn_steps import AFTER, BEFORE, ncnn_steps
from bench.layers.parts import Part, parts_of
from vgg_deploy.errors import InputError
from vgg_deploy.net.outputs import layer_names
from vgg_deploy.runtimes.contract import feed
from vgg_deploy.runtimes.ncnn import NcnnRuntime


class NcnnValues:
    """Asks for every value between two layers; ncnn gives them without changing its layers."""

    note = ""

    def __init__(self, runtime: NcnnRuntime):
        """Take over a net.

        Args:
            runtime: The net.
        """
        self.runtime = runtime
        steps = [s for s in ncnn_steps(Path(runtime.where)) if s.name not in (*BEFORE, *AFTER)]
        self.parts: Sequence[Part] = parts_of(layer_names(runtime.spec), {s.name for s in steps})
        self._steps = dict(zip(self.parts, steps, strict=True))

    def all_values(self, images: np.ndarray) -> list[np.ndarray]:
        """As `LayerValues`."""
        artifact = self.runtime.artifact
        inputs = feed(torch.from_numpy(images), artifact.input).float().contiguous().numpy()
        found = [
            self._run("image", image, [self._steps[p].gives for p in self.parts])
            for image in inputs
        ]
        return [np.stack(values) for values in zip(*found, strict=True)]

    def alone(self, part: Part, values: np.ndarray) -> np.ndarray:
        """As `LayerValues`."""
        step = self._steps[part]
        given = np.ascontiguousarray(values, np.float32)
        return np.stack([self._run(step.reads, one, [step.gives])[0] for one in given])

    def rounding(self, part: Part) -> Rounding:
        """As `LayerValues`."""
        return Rounding(kind=self.runtime.precision)

    def _run(self, start: str, values: np.ndarray, wanted: Sequence[str]) -> list[np.ndarray]:
        """Some values (C, h, w), computed from one that is given."""
        extractor = self.runtime.net.create_extractor()
        extractor.input(start, self.runtime.ncnn.Mat(values).clone())
        found = []
        for name in wanted:
            status, value = extractor.extract(name)
            if status:
                raise InputError(
                    f"{self.runtime.where}: ncnn gives no {name} (status {status}); it may need "
                    "more memory"
                )
            found.append(np.array(value))
        return found
