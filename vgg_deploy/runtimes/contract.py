"""Defines what every runtime is: a net ready to run, which whoever has it can call."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias, TypeGuard

import numpy as np

from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.exported.interface import WHOLE
from vgg_deploy.exported.metadata import Artifact
from vgg_deploy.net.outputs import SCORES, output_shape
from vgg_deploy.net.spec import USUAL_MEAN, USUAL_STD, NetSpec

if TYPE_CHECKING:
    from torch import Tensor

# float32, by name: of SCORES, BOXES, or of layers
Outputs: TypeAlias = dict[str, np.ndarray]


class Scores(NamedTuple):
    """A net's outputs for a batch."""

    posterior: np.ndarray  # (N, classes) float32; softmax of the spatial mean of the scores
    score_map: np.ndarray  # (N, classes, h, w) float32 logits


class WrongOutputs(CheckFailed):
    """A file gave something other than the outputs that its description promises.

    That is a fault of the file.
    """


class Runtime(Protocol):
    """Takes images and gives scores or features; everything else describes it.

    Attributes:
        spec: Of the net.
        outputs: Names of what `run` gives: of SCORES, BOXES, and of layers.
        name: Key of PACKAGES: "torch", "onnxruntime", ...
        precision: "fp32", ...
        device: "cpu" or "cuda".
        threads: On the CPU.
        where: The file, for messages.
    """

    spec: NetSpec
    outputs: tuple[str, ...]
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
            InputError: If the file gives no scores.
        """

    def run(self, images: np.ndarray, outputs: Sequence[str]) -> Outputs:
        """Run a batch up to the last of some outputs.

        Args:
            images: (N, 3, H, W) uint8 RGB; sides of at least `least_side`.
            outputs: Some of `self.outputs`.

        Returns:
            By name, in the order of `outputs`, in host memory.

        Raises:
            WrongOutputs: If an output has another shape or type.
            InputError: If the file does not give one of them.
        """


class DeviceRuntime(Runtime, Protocol):
    """A runtime on a GPU, which also takes images that are there already."""

    def on_device(self, pixels: "Tensor") -> "tuple[Tensor, Tensor]":
        """Score a batch without copies, queued on PyTorch's current stream.

        Args:
            pixels: (N, 3, H, W) uint8 RGB on the device.

        Returns:
            (N, classes) posterior and (N, classes, h, w) score map, float32 on the device.
        """


def is_device_runtime(runtime: Runtime) -> TypeGuard[DeviceRuntime]:
    """Whether a runtime is on a GPU."""
    return runtime.device == "cuda"


def feed(pixels: "Tensor", form: str) -> "Tensor":
    """Convert images to the input of a graph, on the same device.

    Args:
        pixels: (N, 3, H, W) uint8 RGB.
        form: One of INPUT_FORMS, or WHOLE.

    Returns:
        (N, 3, H, W) uint8 or float32; (N, H, W, 3) uint8 of whole images.
    """
    if form == WHOLE:
        return pixels.permute(0, 2, 3, 1)
    if form == "uint8":
        return pixels
    if form == "float32":
        return pixels.float()
    import torch  # here, so that stored posteriors can be read without it

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
    import torch

    return torch.empty(shape, dtype=torch.uint8, pin_memory=True).numpy()


def require_scores(runtime: Runtime) -> None:
    """Check that a file gives scores.

    Raises:
        InputError: If it does not.
    """
    is_whole_net = runtime.name.startswith("torch") or bool(runtime.spec.boxes)
    if is_whole_net and "posterior" not in runtime.outputs:
        from vgg_deploy.net.open_net import refuse_without_scores

        refuse_without_scores(runtime.spec, runtime.where)
    require(runtime.where, runtime.outputs, SCORES)


def give_scores(runtime: Runtime, images: np.ndarray) -> Scores:
    """Score a batch by `Runtime.run`."""
    require_scores(runtime)
    outputs = runtime.run(images, SCORES)
    return Scores(outputs["posterior"], outputs["score_map"])


def require(where: str, has: Sequence[str], asked: Sequence[str]) -> None:
    """Check that a file gives what it is asked for.

    Args:
        where: The file, for messages.
        has: Names of what it gives.
        asked: Names of what is wanted.

    Raises:
        InputError: If it does not give one of them.
    """
    for name in asked:
        if name in has:
            continue
        wanted = "scores" if name in SCORES else f"{name}"
        raise InputError(
            f"{where}: gives {', '.join(has)} and no {wanted}; open the weights in PyTorch, or "
            f"export a file that gives {'them' if name in SCORES else 'it'}"
        )


def empty_outputs(spec: NetSpec, outputs: Sequence[str], pixels: "Tensor") -> "dict[str, Tensor]":
    """Allocate a net's outputs for a batch, on the device of the batch.

    Args:
        spec: Of the net.
        outputs: Their names.
        pixels: (N, 3, H, W).

    Returns:
        By name, float32, not initialised.
    """
    import torch

    return {
        name: torch.empty(output_shape(spec, name, tuple(pixels.shape)), device=pixels.device)
        for name in outputs
    }


def to_host(outputs: "Mapping[str, Tensor]") -> Outputs:
    """Wait for the device and copy outputs to host memory, as float32 with planes of channels."""
    import torch

    return {
        name: tensor.to(torch.float32).contiguous().cpu().numpy()
        for name, tensor in outputs.items()
    }


def checked(
    outputs: Mapping[str, object], images: np.ndarray, spec: NetSpec, where: str
) -> Outputs:
    """Check that outputs have the shapes and types that every runtime promises.

    Their values are not looked at.

    Args:
        outputs: By name, as the library gave them.
        images: (N, 3, H, W), what the net was called with.
        spec: Of the net.
        where: The file, for messages.

    Raises:
        WrongOutputs: If one is not a float32 array of its shape.
    """
    return checked_by_shape(outputs, images.shape, spec, where)


def checked_by_shape(
    outputs: Mapping[str, object], images: tuple[int, ...], spec: NetSpec, where: str
) -> Outputs:
    """Check outputs as `checked`.

    Args:
        outputs: By name, as the library gave them.
        images: Shape of what the convolutions saw, (N, 3, H, W).
        spec: Of the net.
        where: The file, for messages.

    Raises:
        WrongOutputs: If one is not a float32 array of its shape.
    """
    count, _, height, width = images
    batch = f"{count} images of {height}x{width}"
    return {
        name: _checked_output(
            output, output_shape(spec, name, images), f"{where}: its {name} for {batch}"
        )
        for name, output in outputs.items()
    }


def _checked_output(output: object, shape: tuple[int, ...], what: str) -> np.ndarray:
    if not isinstance(output, np.ndarray):
        found = f"a {type(output).__name__}"
    elif output.dtype != np.float32 or output.shape != shape:
        found = f"{output.dtype} {output.shape}"
    else:
        return output
    raise WrongOutputs(f"{what} is {found} and should be float32 {shape}; export the file again")
