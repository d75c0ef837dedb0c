"""What every runtime is: a net ready to run. Who holds one can call it."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from vgg_deploy.errors import CheckFailed
from vgg_deploy.exported.metadata import Artifact
from vgg_deploy.net.archs import map_side
from vgg_deploy.net.spec import USUAL_MEAN, USUAL_STD, NetSpec


class Scores(NamedTuple):
    """What a net says of a batch."""

    posterior: np.ndarray  # (N, classes) float32; softmax of the spatial mean of the scores
    score_map: np.ndarray  # (N, classes, h, w) float32 logits


class WrongOutputs(CheckFailed):
    """A file gave something other than the scores that its description promises: a fault of the file."""


class Runtime(Protocol):
    """Takes pictures and gives scores; everything else describes it."""

    spec: NetSpec
    name: str  # one of PACKAGES: "torch", "onnxruntime", ...
    precision: str  # "fp32", ...
    device: str  # "cpu", "cuda"
    threads: int
    artifact: (
        Artifact | None
    )  # where an exported file comes from; None: these are the weights themselves
    settings: Mapping[str, str]  # options of the runtime's library that can change scores

    def __call__(self, images: np.ndarray) -> Scores:
        """(N, 3, H, W) uint8 RGB -> scores in host memory on return, so that a wall clock may time the call.

        Every runtime passes its results through `checked`. Raises: WrongOutputs.
        """
        ...


class DeviceRuntime(Runtime, Protocol):
    """A runtime on a GPU, which can also be fed with what lies there already."""

    def on_device(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) uint8 RGB on the device -> (posterior, score_map) on it, float32, queued on PyTorch's current stream."""
        ...


def feed(pixels: Tensor, form: str) -> Tensor:
    """(N, 3, H, W) uint8 RGB -> what a graph of this input form wants, on the same device."""
    if form == "uint8":
        return pixels
    if form == "float32":
        return pixels.float()
    mean, std = (
        torch.tensor(v, device=pixels.device).view(1, 3, 1, 1) for v in (USUAL_MEAN, USUAL_STD)
    )
    return (pixels.float() / 255 - mean) / std


def page_locked(shape: tuple[int, ...]) -> np.ndarray:
    """Room for uint8 pixels that a GPU fetches by itself, with no copy by the CPU between. PyTorch keeps it for the next batch when it is let go."""
    return torch.empty(shape, dtype=torch.uint8, pin_memory=True).numpy()


def empty_scores(spec: NetSpec, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Room for what a net says of `pixels`, beside them on the device: (posterior, score_map)."""
    count, _, height, width = pixels.shape
    classes = len(spec.classes)
    sides = (map_side(height, spec.crop), map_side(width, spec.crop))
    return torch.empty((count, classes), device=pixels.device), torch.empty(
        (count, classes, *sides), device=pixels.device
    )


def to_host(scores: tuple[Tensor, Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Waits for the device."""
    posterior, score_map = (tensor.contiguous().cpu().numpy() for tensor in scores)
    return posterior, score_map


def checked(outputs: tuple[Any, Any], images: np.ndarray, spec: NetSpec, where: str) -> Scores:
    """The outputs of a call as scores, if they have the shapes and types that every runtime promises.

    What the values are is not looked at.

    Args:
        outputs: posterior and score map, as the library gave them.
        images: (N, 3, H, W), what the net was called with.
        spec: of the net.
        where: the file, for the message.

    Raises:
        WrongOutputs: if one is no float32 array of its shape.
    """
    count, _, height, width = images.shape
    classes = len(spec.classes)
    map_shape = (count, classes, map_side(height, spec.crop), map_side(width, spec.crop))
    wanted = {"posterior": (count, classes), "score_map": map_shape}
    for (name, shape), found in zip(wanted.items(), outputs, strict=True):
        if isinstance(found, np.ndarray) and found.dtype == np.float32 and found.shape == shape:
            continue
        is_array = isinstance(found, np.ndarray)
        described = f"{found.dtype} {found.shape}" if is_array else f"a {type(found).__name__}"
        raise WrongOutputs(
            f"{where}: its {name} for {count} images of {height}x{width} is {described} and should be "
            f"float32 {shape}; export the file again"
        )
    return Scores(*outputs)
