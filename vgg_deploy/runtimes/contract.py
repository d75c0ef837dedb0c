"""Defines what every runtime is: a net ready to run, which whoever has it can call."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol, TypeGuard

import numpy as np
import torch
from torch import Tensor

from vgg_deploy.errors import CheckFailed
from vgg_deploy.exported.metadata import Artifact
from vgg_deploy.net.archs import map_side
from vgg_deploy.net.spec import USUAL_MEAN, USUAL_STD, NetSpec


class Scores(NamedTuple):
    """A net's outputs for a batch."""

    posterior: np.ndarray  # (N, classes) float32; softmax of the spatial mean of the scores
    score_map: np.ndarray  # (N, classes, h, w) float32 logits


class WrongOutputs(CheckFailed):
    """A file gave something other than the scores that its description promises.

    That is a fault of the file.
    """


class Runtime(Protocol):
    """Takes images and gives scores; everything else describes it.

    Attributes:
        spec: Of the net.
        name: Key of PACKAGES: "torch", "onnxruntime", ...
        precision: "fp32", ...
        device: "cpu" or "cuda".
        threads: On the CPU.
        where: The file, for messages.
    """

    spec: NetSpec
    name: str
    precision: str
    device: str
    threads: int
    where: str

    @property
    def artifact(self) -> Artifact | None:
        """Where an exported file comes from; None if these are the weights themselves."""

    @property
    def settings(self) -> Mapping[str, str]:
        """Options of the runtime's library that can change scores."""

    def __call__(self, images: np.ndarray) -> Scores:
        """Score a batch; the results are in host memory, so that a wall clock may time the call.

        Every runtime passes its results through `checked`.

        Args:
            images: (N, 3, H, W) uint8 RGB.

        Raises:
            WrongOutputs: If an output has another shape or type.
        """


class DeviceRuntime(Runtime, Protocol):
    """A runtime on a GPU, which also takes images that are there already."""

    def on_device(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Score a batch without copies, queued on PyTorch's current stream.

        Args:
            pixels: (N, 3, H, W) uint8 RGB on the device.

        Returns:
            (N, classes) posterior and (N, classes, h, w) score map, float32 on the device.
        """


def is_device_runtime(runtime: Runtime) -> TypeGuard[DeviceRuntime]:
    """Whether a runtime is on a GPU."""
    return runtime.device == "cuda"


def feed(pixels: Tensor, form: str) -> Tensor:
    """Convert images to the input of a graph, on the same device.

    Args:
        pixels: (N, 3, H, W) uint8 RGB.
        form: One of INPUT_FORMS.

    Returns:
        (N, 3, H, W) uint8 or float32.
    """
    if form == "uint8":
        return pixels
    if form == "float32":
        return pixels.float()
    mean = torch.tensor(USUAL_MEAN, device=pixels.device).view(1, 3, 1, 1)
    std = torch.tensor(USUAL_STD, device=pixels.device).view(1, 3, 1, 1)
    return (pixels.float() / 255 - mean) / std


def page_locked(shape: tuple[int, ...]) -> np.ndarray:
    """Allocate memory that a GPU copies from by itself, without the CPU.

    PyTorch keeps it for the next batch when it is no longer used.

    Args:
        shape: Of the result.

    Returns:
        uint8, not initialised.
    """
    return torch.empty(shape, dtype=torch.uint8, pin_memory=True).numpy()


def empty_scores(spec: NetSpec, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Allocate a net's outputs for a batch, on the device of the batch.

    Args:
        spec: Of the net.
        pixels: (N, 3, H, W).

    Returns:
        (N, classes) posterior and (N, classes, h, w) score map, float32, not initialised.
    """
    posterior_shape, map_shape = _output_shapes(spec, tuple(pixels.shape))
    posterior = torch.empty(posterior_shape, device=pixels.device)
    return posterior, torch.empty(map_shape, device=pixels.device)


def to_host(scores: tuple[Tensor, Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Wait for the device and copy a net's outputs to host memory."""
    posterior, score_map = (tensor.contiguous().cpu().numpy() for tensor in scores)
    return posterior, score_map


def checked(
    outputs: tuple[object, object], images: np.ndarray, spec: NetSpec, where: str
) -> Scores:
    """Check that outputs have the shapes and types that every runtime promises.

    Their values are not looked at.

    Args:
        outputs: Posterior and score map, as the library gave them.
        images: (N, 3, H, W), what the net was called with.
        spec: Of the net.
        where: The file, for messages.

    Raises:
        WrongOutputs: If one is not a float32 array of its shape.
    """
    posterior, score_map = outputs
    posterior_shape, map_shape = _output_shapes(spec, images.shape)
    count, _, height, width = images.shape
    batch = f"{count} images of {height}x{width}"
    return Scores(
        _checked_output(posterior, posterior_shape, f"{where}: its posterior for {batch}"),
        _checked_output(score_map, map_shape, f"{where}: its score_map for {batch}"),
    )


def _checked_output(output: object, shape: tuple[int, ...], what: str) -> np.ndarray:
    if not isinstance(output, np.ndarray):
        found = f"a {type(output).__name__}"
    elif output.dtype != np.float32 or output.shape != shape:
        found = f"{output.dtype} {output.shape}"
    else:
        return output
    raise WrongOutputs(f"{what} is {found} and should be float32 {shape}; export the file again")


def _output_shapes(
    spec: NetSpec, images: tuple[int, ...]
) -> tuple[tuple[int, int], tuple[int, int, int, int]]:
    """Shapes of posterior and score map for images of shape (N, 3, H, W)."""
    count, _, height, width = images
    classes = len(spec.classes)
    map_height, map_width = map_side(height, spec.crop), map_side(width, spec.crop)
    return (count, classes), (count, classes, map_height, map_width)
