"""Opens the nets that state boxes.

A box net is asked for one output by its name. Any runtime that gives named outputs can stand in for
PyTorch, which is the only one so far.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch

from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.machine import pick_device
from vgg_deploy.net.model import VGG, memory_format, subtract_mean
from vgg_deploy.net.named_weights import locate
from vgg_deploy.net.open_net import open_localiser
from vgg_deploy.net.spec import NetSpec

BOXES = "boxes"  # name of the output


class BoxRuntime(Protocol):
    """Takes images and gives the numbers of boxes.

    Attributes:
        spec: Of the net.
    """

    spec: NetSpec

    def run(self, images: np.ndarray, outputs: Sequence[str]) -> Mapping[str, np.ndarray]:
        """Run a batch.

        Args:
            images: (N, 3, H, W) uint8 RGB.
            outputs: Names; BOXES is (N, spec.outputs, h, w) float32.
        """


class BoxNet(NamedTuple):
    """An opened localiser.

    Attributes:
        path: The file.
        name: In the tables.
        runtime: Runs it.
    """

    path: Path
    name: str
    runtime: BoxRuntime

    @property
    def spec(self) -> NetSpec:
        """Of the net."""
        return self.runtime.spec

    def numbers(self, images: np.ndarray) -> np.ndarray:
        """(N, 3, H, W) uint8 RGB -> (N, spec.outputs, h, w) float32.

        Raises:
            CheckFailed: If a number is not finite.
        """
        numbers: np.ndarray = self.runtime.run(images, (BOXES,))[BOXES]
        if not np.isfinite(numbers).all():
            raise CheckFailed(f"{self.path}: states boxes that are not finite; train it again")
        return numbers


class TorchBoxes:
    """A localiser in PyTorch, in float32."""

    def __init__(self, net: VGG, device: str, threads: int):
        """Take over a net.

        Args:
            net: In evaluation mode.
            device: "cpu" or "cuda".
            threads: On the CPU.
        """
        torch.set_num_threads(threads)
        self.device, self.spec = pick_device(device), net.spec
        self.layout = memory_format(self.device, "fp32")
        self.net = net.to(self.device).to(memory_format=self.layout)

    @torch.inference_mode()
    def run(self, images: np.ndarray, outputs: Sequence[str]) -> Mapping[str, np.ndarray]:
        """Run a batch, as `BoxRuntime`."""
        pixels = torch.from_numpy(images).to(self.device)
        inputs = subtract_mean(pixels, self.spec.preprocessing)
        boxes = self.net(inputs.contiguous(memory_format=self.layout))
        return {name: boxes.cpu().numpy() for name in outputs}


def open_box_nets(
    paths: Sequence[Path | str], taken: Sequence[str], device: str, threads: int
) -> list[BoxNet]:
    """Open localisers; those of one file name are named with their folders.

    Args:
        paths: Checkpoints.
        taken: Names of the classifiers.
        device: "cpu" or "cuda".
        threads: On the CPU.

    Raises:
        InputError: For a file that is no localiser, or that is named twice.
    """
    found = [locate(path) for path in paths]
    if len({one.path for one in found}) < len(found):
        raise InputError("a localiser is named twice; name each once", "", "boxes_by")
    own = [*taken, *(one.name for one in found)]
    return [
        BoxNet(
            one.path,
            one.name if own.count(one.name) == 1 else one.given,
            TorchBoxes(open_localiser(one), device, threads),
        )
        for one in found
    ]
