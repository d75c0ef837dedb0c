"""Measures the distances of images in the forms that callers have, pair by pair."""

from collections.abc import Iterator
from itertools import zip_longest

import numpy as np
from torch import Tensor

from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.predict.inputs import ImageInput, NamedImage, checked_batch, named_images
from vgg_deploy.runtimes.distances import DistanceRuntime


def pair_distances(runtime: DistanceRuntime, first: ImageInput, second: ImageInput) -> np.ndarray:
    """Measure the distance of each pair.

    Args:
        runtime: With the file.
        first: One image or several, as `named_images` takes them.
        second: As many, each of the size of its partner.

    Returns:
        (N,) float32.

    Raises:
        InputError: For an image that cannot be used, or pairs of unequal number or size.
        CheckFailed: For a distance that is not finite.
    """
    least = runtime.artifact.least_side
    if _is_batch(first) and _is_batch(second):
        one, other = (checked_batch(images, least) for images in (first, second))
        if one.shape != other.shape:
            raise InputError(
                f"the images have the shapes {one.shape} and {other.shape}; "
                "give pairs of equal size"
            )
        return finite(runtime(one, other), runtime.where)
    found = [_of_pair(runtime, one, other) for one, other in _pairs(first, second)]
    if not found:
        raise InputError("no images to compare; give at least one pair")
    return np.concatenate(found)


def finite(distances: np.ndarray, what: str) -> np.ndarray:
    """The distances, if they are finite.

    Args:
        distances: (N,) float32.
        what: The file, and the images, for messages.

    Raises:
        CheckFailed: If one is not.
    """
    if not np.isfinite(distances).all():
        raise CheckFailed(f"{what}: gives a distance that is not finite; use another precision")
    return distances


def _of_pair(runtime: DistanceRuntime, first: NamedImage, second: NamedImage) -> np.ndarray:
    if first.image.size != second.image.size:
        sizes = [f"{image.height} x {image.width}" for _, image in (first, second)]
        raise InputError(
            f"{first.name} is {sizes[0]} and {second.name} is {sizes[1]}; give pairs of equal size"
        )
    one, other = (
        checked_batch(np.asarray(image).transpose(2, 0, 1)[None], runtime.artifact.least_side)
        for _, image in (first, second)
    )
    return finite(runtime(one, other), f"{runtime.where}: {first.name} and {second.name}")


def _is_batch(images: ImageInput) -> bool:
    return isinstance(images, np.ndarray | Tensor) and images.ndim == 4 and images.shape[1] == 3


def _pairs(first: ImageInput, second: ImageInput) -> Iterator[tuple[NamedImage, NamedImage]]:
    """Decode images pair by pair.

    Raises:
        InputError: If there are more on one side.
    """
    for one, other in zip_longest(named_images(first), named_images(second)):
        if one is None or other is None:
            lone = one or other
            raise InputError(f"{lone.name}: has no partner; give as many images on both sides")
        yield one, other
