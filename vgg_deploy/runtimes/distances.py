"""Runs files that give the distance of two images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from vgg_deploy.exported.distance_metadata import (
    DISTANCE_KEY,
    INPUTS,
    OUTPUT,
    DistanceArtifact,
    not_a_distance,
)
from vgg_deploy.runtimes.contract import WrongOutputs, feed
from vgg_deploy.runtimes.declared_interface import check_distance_interface
from vgg_deploy.runtimes.onnx_session import bound, open_session, run_failure
from vgg_deploy.runtimes.openvino_model import compile_model, read_model


class DistanceRuntime(Protocol):
    """Takes pairs of images and gives their distances; everything else describes it.

    Attributes:
        artifact: Where the file comes from and what it computes.
        name: "onnxruntime", ...
        device: "cpu" or "cuda".
        threads: On the CPU.
        where: The file, for messages.
    """

    artifact: DistanceArtifact
    name: str
    device: str
    threads: int
    where: str

    @property
    def settings(self) -> Mapping[str, str]:
        """Options of the runtime's library that can change distances."""

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Give the distance of each pair, in host memory.

        Args:
            first: (N, 3, H, W) uint8 RGB, sides of at least the artifact's `least_side`.
            second: The same.

        Returns:
            (N,) float32.

        Raises:
            WrongOutputs: If the file gives something else.
            InputError: If the file cannot be run on them.
        """


class OnnxDistance:
    """A distance file in ONNX Runtime."""

    def __init__(
        self,
        path: Path,
        device: str = "cpu",
        threads: int = 1,
        runtime: str = "onnxruntime",
        optimisation: str = "ENABLE_ALL",
        arena: bool = True,
    ):
        """Open a file.

        Args:
            path: Written by vgg-export.
            device: "cpu" or "cuda".
            threads: On the CPU.
            runtime: As `open_session`.
            optimisation: As `open_session`.
            arena: Keep the memory of activations for the next call.

        Raises:
            InputError: As `open_session`, or if the file gives no distance.
        """
        opened = open_session(path, device, threads, runtime, optimisation, arena)
        if DISTANCE_KEY not in opened.metadata:
            raise not_a_distance(path)
        self.artifact = DistanceArtifact.from_json(opened.metadata[DISTANCE_KEY], str(path))
        self.name, self.device, self.threads, self.where = runtime, device, threads, str(path)
        self.settings, self.failures = opened.settings, opened.failures
        self.session = opened.session
        check_distance_interface(self.artifact, opened.inputs, opened.outputs, self.where)

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Give distances, as `DistanceRuntime`."""
        pixels = [torch.from_numpy(images).to(self.device) for images in (first, second)]
        images = [feed(batch, self.artifact.input).contiguous() for batch in pixels]
        try:
            found = self._on_cpu(images) if self.device == "cpu" else self._bound(images)
        except self.failures as error:
            raise run_failure(self.where, first.shape, "pairs", error) from None
        return checked_distances(found, len(first), self.where)

    def _on_cpu(self, images: list[Tensor]) -> object:
        feeds = {name: image.numpy() for name, image in zip(INPUTS, images, strict=True)}
        (found,) = self.session.run([OUTPUT], feeds)
        return found

    def _bound(self, images: list[Tensor]) -> object:
        """Run a batch on the device."""
        distances = torch.empty(len(images[0]), device=self.device)
        binding = self.session.io_binding()
        for name, image in zip(INPUTS, images, strict=True):
            binding.bind_input(name, *bound(image))
        binding.bind_output(OUTPUT, *bound(distances))
        torch.cuda.current_stream().synchronize()  # ONNX Runtime works on a stream of its own
        self.session.run_with_iobinding(binding)
        return distances.cpu().numpy()


class OpenVinoDistance:
    """A distance file in OpenVINO."""

    name = "openvino"

    def __init__(self, path: Path, device: str = "cpu", threads: int = 1):
        """Open a file.

        Args:
            path: An ONNX file written by vgg-export.
            device: "cpu".
            threads: On the CPU.

        Raises:
            InputError: As `read_model` and `compile_model`, or if the file gives no distance.
        """
        opened = read_model(path, device)
        if DISTANCE_KEY not in opened.metadata:
            raise not_a_distance(path)
        self.artifact = DistanceArtifact.from_json(opened.metadata[DISTANCE_KEY], str(path))
        self.device, self.threads, self.where = device, threads, str(path)
        check_distance_interface(self.artifact, opened.inputs, opened.outputs, self.where)
        self.net = compile_model(opened, self.artifact.precision, threads)

    @property
    def settings(self) -> Mapping[str, str]:
        """As `DistanceRuntime`."""
        return self.net.settings

    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Give distances, as `DistanceRuntime`."""
        images = [feed(torch.from_numpy(batch), self.artifact.input) for batch in (first, second)]
        feeds = {name: image.numpy() for name, image in zip(INPUTS, images, strict=True)}
        found = self.net(feeds, [OUTPUT], "pairs")[OUTPUT]
        return checked_distances(found, len(first), self.where)


def checked_distances(found: object, count: int, where: str) -> np.ndarray:
    """Check that a file gave one float32 number per pair; their values are not looked at.

    Args:
        found: What the library gave.
        count: Number of pairs.
        where: The file, for messages.

    Raises:
        WrongOutputs: If it gave something else.
    """
    sound = isinstance(found, np.ndarray) and found.dtype == np.float32
    if not isinstance(found, np.ndarray) or not sound or found.shape != (count,):
        shape = getattr(found, "shape", type(found).__name__)
        raise WrongOutputs(
            f"{where}: gave {shape} {getattr(found, 'dtype', '')} for {count} pairs, expected "
            f"({count},) float32; export it again"
        )
    return found
