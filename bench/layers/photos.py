"""Cuts the photos that layers are measured on: squares in the middle, at the test scale."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import InputError
from vgg_deploy.images.crops import centre
from vgg_deploy.images.decode import read_image, resized
from vgg_deploy.net.spec import NetSpec

TRIES = 4  # as many images as are needed are looked at, in case some are unreadable


def squares(dataset: Dataset, count: int, side: int, spec: NetSpec) -> list[np.ndarray]:
    """Photos spread evenly over a data set.

    Args:
        dataset: The images.
        count: How many, at most.
        side: Q, pixels.
        spec: Of the net, for its way to rescale.

    Returns:
        (1, 3, side, side) uint8 RGB each.

    Raises:
        InputError: If none can be read.
    """
    found: list[np.ndarray] = []
    chosen = dataset.subset(TRIES * count) if len(dataset) > TRIES * count else dataset
    for index in _spread(len(chosen), count):
        try:
            found.append(_square(whole(dataset=chosen, index=index, side=side, spec=spec), side))
        except InputError:
            continue
        if len(found) == count:
            break
    if not found:
        raise InputError(f"{dataset.root}: no image can be read to measure layers with")
    return found


def whole(dataset: Dataset, index: int, side: int, spec: NetSpec) -> np.ndarray:
    """A whole image at a test scale, (1, 3, h, w) uint8 RGB with min(h, w) == side.

    Args:
        dataset: The images.
        index: Of the image.
        side: Q, pixels.
        spec: Of the net, for its way to rescale.

    Raises:
        InputError: If it cannot be read.
    """
    image = resized(dataset.image(index), side, spec.preprocessing.filter)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)[None])


def whole_file(path: Path, upright: bool, side: int, spec: NetSpec) -> np.ndarray:
    """As `whole`, of a file.

    Args:
        path: The image.
        upright: Whether its EXIF rotation is applied.
        side: Q, pixels.
        spec: Of the net.

    Raises:
        InputError: If it cannot be read.
    """
    image = resized(read_image(path, None, upright), side, spec.preprocessing.filter)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)[None])


def _square(image: np.ndarray, side: int) -> np.ndarray:
    height, width = image.shape[2:]
    top, left, _ = centre(height, width, side)[0]
    return np.ascontiguousarray(image[:, :, top : top + side, left : left + side])


def _spread(images: int, count: int) -> Sequence[int]:
    """Indices of all images: first `count` that are spread evenly, then the others."""
    first = [i * images // min(count, images) for i in range(min(count, images))]
    return [*first, *sorted(set(range(images)) - set(first))]
