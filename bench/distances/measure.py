"""Measures the distances of photos from their distortions."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from bench.distances.models import DistanceModel
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import InputError
from vgg_deploy.images.decode import resized
from vgg_deploy.images.distortions import DISTORTIONS, distorted_batch

MOST_PAIRS = 5  # per call


class Measured(NamedTuple):
    """One model at one scale.

    Attributes:
        model: The model.
        side: Q, shorter side of the photos, pixels.
        distances: (photos * 15,) float32, photo by photo in the order of DISTORTIONS.
        ms: Milliseconds of each call, per pair.
    """

    model: DistanceModel
    side: int
    distances: np.ndarray
    ms: np.ndarray


class Photos(NamedTuple):
    """The photos that were measured.

    Attributes:
        names: Of the photos.
        left_out: One message per unreadable photo.
    """

    names: list[str]
    left_out: list[str]


def measure_distances(
    models: Sequence[DistanceModel],
    dataset: Dataset,
    sides: Sequence[int],
    batch: int,
    skip: bool,
    advance: Callable[[], None],
) -> tuple[list[Measured], Photos]:
    """Measure every model on the same pairs, photo by photo.

    Args:
        models: All models.
        dataset: The photos.
        sides: Q, pixels; each is a row of the table.
        batch: Most pairs per call; never more than MOST_PAIRS.
        skip: Whether an unreadable photo is left out.
        advance: Called after each photo.

    Returns:
        By model and side, and the photos.

    Raises:
        InputError: For an unreadable photo if none may be left out, if no photo can be read, or a
            photo is too small for the distance.
    """
    found: dict[tuple[int, int], list[np.ndarray]] = {}
    times: dict[tuple[int, int], list[float]] = {}
    photos, most = Photos([], []), min(batch, MOST_PAIRS)
    for index in range(len(dataset)):
        try:
            image = dataset.image(index)
        except InputError as error:
            if not skip:
                raise
            photos.left_out.append(error.message)
            continue
        photos.names.append(dataset.where(index))
        for side in sides:
            pixels = np.asarray(resized(image, side, "bilinear"))
            distorted = distorted_batch(pixels, index)
            first = np.repeat(pixels.transpose(2, 0, 1)[None], most, axis=0)
            for number, model in enumerate(models):
                _refuse_small(model, pixels, photos.names[-1])
                for start in range(0, len(distorted), most):
                    second = distorted[start : start + most]
                    began = time.perf_counter()
                    distances = model.runtime(first[: len(second)], second)
                    seconds = time.perf_counter() - began
                    found.setdefault((number, side), []).append(distances)
                    times.setdefault((number, side), []).append(1000 * seconds / len(second))
        advance()
    if not photos.names:
        raise InputError(f"{dataset.root}: none of the {len(dataset)} photos can be read")
    measured = [
        Measured(model, side, np.concatenate(found[number, side]), np.array(times[number, side]))
        for number, model in enumerate(models)
        for side in sides
    ]
    return measured, photos


def photo_of_pairs(photos: int) -> np.ndarray:
    """(photos * 15,) int, which photo each pair is of."""
    return np.repeat(np.arange(photos), len(DISTORTIONS))


def _refuse_small(model: DistanceModel, pixels: np.ndarray, name: str) -> None:
    least = model.runtime.artifact.least_side
    height, width = pixels.shape[:2]
    if min(height, width) < least:
        raise InputError(
            f"{name}: is {height} x {width} at this Q, and {model.name} needs sides of {least} or "
            "more; raise --scales"
        )
