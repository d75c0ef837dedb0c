"""Calls a graph by its interface: whole images, one fixed shape, logits in place of posteriors."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from vgg_deploy.errors import InputError
from vgg_deploy.exported.interface import LOGITS, Interface
from vgg_deploy.runtimes.contract import Outputs, Runtime

T = TypeVar("T")


def interface_of(runtime: Runtime) -> Interface:
    """What is unusual about a runtime's images; nothing is for the weights themselves."""
    return runtime.artifact.interface if runtime.artifact else Interface()


def refuse_other_shape(where: str, interface: Interface, images: tuple[int, ...]) -> None:
    """Check the size of images for a graph that takes one only.

    Args:
        where: The file.
        interface: Of its graph.
        images: Shape of the images, (N, 3, H, W).

    Raises:
        InputError: If their size is another.
    """
    if interface.shape is None or interface.shape[1:] == tuple(images[2:]):
        return
    height, width = interface.shape[1:]
    raise InputError(
        f"{where}: takes images of {height}x{width} only, these have {images[2]}x{images[3]}",
        "score crops of its size, or export a file without a fixed shape",
        "shape",
    )


def fixed_batches(images: np.ndarray, count: int | None) -> Iterator[np.ndarray]:
    """Cut images into batches of one size; the last is filled up with its last image.

    Args:
        images: (N, 3, H, W).
        count: Images per batch; None: all of them are one batch.
    """
    if count is None or count == len(images):
        yield images
        return
    for start in range(0, len(images), count):
        part = images[start : start + count]
        yield np.concatenate([part, part[-1:].repeat(count - len(part), axis=0)])


def joined_batches(parts: Sequence[Outputs], count: int) -> Outputs:
    """The outputs of batches as those of one, without what filled up the last.

    Args:
        parts: Of each batch, by name; at least one.
        count: Number of images.
    """
    if len(parts) == 1:
        return {name: output[:count] for name, output in parts[0].items()}
    return {name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]}


def softmax_of_logits(outputs: Mapping[str, T]) -> dict[str, T]:
    """Outputs with the posterior in place of logits, if they have these.

    Args:
        outputs: By name, arrays or tensors.
    """
    found = dict(outputs)
    logits: Any = found.pop(LOGITS, None)
    if logits is not None:
        import torch

        posterior: Any = torch.softmax(torch.as_tensor(logits), 1)
        found["posterior"] = posterior.numpy() if isinstance(logits, np.ndarray) else posterior
    return found
