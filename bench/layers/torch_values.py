"""Shows the values of a net's layers in PyTorch."""

from collections.abc import Sequence

import numpy as np
import torch

from bench.layers.contract import NotSeparable, Rounding
from bench.layers.parts import Part
from vgg_deploy.net.outputs import layer_names
from vgg_deploy.runtimes.contract import to_host
from vgg_deploy.runtimes.pytorch import TorchRuntime


class TorchValues:
    """The net itself, eager."""

    note = ""

    def __init__(self, runtime: TorchRuntime):
        """Take over a net.

        Args:
            runtime: The net; eager.

        Raises:
            NotSeparable: If it is compiled.
        """
        if runtime.name != "torch":
            raise NotSeparable("torch.compile keeps no values of layers")
        self.runtime = runtime
        self.parts: Sequence[Part] = [(name,) for name in layer_names(runtime.spec)]

    @torch.inference_mode()
    def all_values(self, images: np.ndarray) -> list[np.ndarray]:
        """As `LayerValues`."""
        pixels = torch.from_numpy(images).to(self.runtime.device)
        return [
            to_host({name: values.clone()})[name]
            for name, values in self.runtime.layer_outputs(pixels)
        ]

    @torch.inference_mode()
    def alone(self, part: Part, values: np.ndarray) -> np.ndarray:
        """As `LayerValues`."""
        start = torch.from_numpy(values).to(self.runtime.device).clone()
        name, found = next(self.runtime.layers_from(start, part[0]))
        return to_host({name: found})[name]

    def rounding(self, part: Part) -> Rounding:
        """As `LayerValues`."""
        is_float32 = part[0] == "fc8" or part[0].startswith("norm")
        return Rounding(kind="fp32" if is_float32 else self.runtime.precision)
