"""Measures the mean colour and the colour axes of a training set."""

import json
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vgg_deploy.cache import cache_folder, or_uncached
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.remote import Unreachable
from vgg_deploy.errors import InputError
from vgg_deploy.files import write_text
from vgg_deploy.json_files import read_json_object
from vgg_deploy.progress import progress

MOST_IMAGES = 20_000  # spread evenly; the mean of so many is known to about 0.3 grey levels


class Colours(NamedTuple):
    """Colour statistics of RGB pixels, 0-255.

    Attributes:
        mean: (3,).
        covariance: (3, 3).
        images: How many were measured.
        unreadable: What is wrong with each image that could not be read.
    """

    mean: np.ndarray
    covariance: np.ndarray
    images: int
    unreadable: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The numbers as JSON or a checkpoint can hold them, bit for bit."""
        covariance = self.covariance.tolist()
        return {"mean": self.mean.tolist(), "covariance": covariance, "images": self.images}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Colours":
        """Read what `as_json` returned.

        Args:
            record: With mean, covariance and images.

        Returns:
            The statistics, without unreadable images.

        Raises:
            ValueError: For anything else than statistics of three colours.
        """
        mean = np.array(record["mean"], np.float64)
        covariance = np.array(record["covariance"], np.float64)
        if mean.shape != (3,) or covariance.shape != (3, 3) or not np.isfinite(covariance).all():
            raise ValueError("not the statistics of three colours")
        return cls(mean, covariance, record["images"])

    def components(self) -> np.ndarray:
        """The colour axes of AlexNet's colour shift.

        AlexNet's text says eigenvalue, its code uses the square root. With eigenvalues the shifts
        would be hundreds of grey levels.

        Returns:
            (3, 3) float64: column k is principal axis k times the standard deviation along it, in
            grey levels.
        """
        values, axes = np.linalg.eigh(self.covariance)
        components: np.ndarray = axes * np.sqrt(np.maximum(values, 0))
        return components


class Moments(NamedTuple):
    """Of the pixels of one image: mean, (3,), and mean product of channels, (3, 3)."""

    mean: np.ndarray
    second: np.ndarray


def measure_colours(dataset: Dataset, threads: int) -> Colours:
    """Measure mean and covariance; every image counts the same, whatever its size.

    The result is cached for these exact images if all of them could be read.

    Args:
        dataset: Training images.
        threads: That decode.

    Returns:
        The statistics.

    Raises:
        InputError: No image can be read.
    """
    sample = dataset.subset(MOST_IMAGES)
    path = cache_folder() / "colours" / f"{sample.fingerprint()[:32]}.json"
    cached = _cached(path)
    if cached and cached.images == len(sample):
        return cached
    mean, second = np.zeros(3), np.zeros((3, 3))
    unreadable: list[str] = []
    with (
        progress(f"mean colour of {len(sample)} images", len(sample)) as bar,
        ThreadPoolExecutor(threads) as pool,
    ):
        for moments in pool.map(partial(_moments, sample), range(len(sample))):
            bar.advance()
            if isinstance(moments, InputError):
                unreadable.append(moments.what)
            else:
                mean, second = mean + moments.mean, second + moments.second
    images = len(sample) - len(unreadable)
    if not images:
        raise InputError(f"{dataset.root}: none of its training images can be read")
    mean, second = mean / images, second / images
    colours = Colours(mean, second - np.outer(mean, mean), images, tuple(unreadable))
    if not unreadable:
        with or_uncached(path):
            _keep(path, colours)
    return colours


def _keep(path: Path, colours: Colours) -> None:
    """Write statistics with their checksum."""
    record = colours.as_json()
    write_text(path, json.dumps({**record, "crc32": _checksum(record)}) + "\n")


def _cached(path: Path) -> Colours | None:
    """Read what `_keep` wrote; None if it does not exist or is damaged."""
    if not path.is_file():
        return None
    try:
        record: dict[str, Any] = read_json_object(path)
        written = record.pop("crc32")
        return Colours.from_json(record) if _checksum(record) == written else None
    except (InputError, ValueError, KeyError, TypeError):
        return None


def _checksum(record: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(record).encode())


def _moments(dataset: Dataset, index: int) -> Moments | InputError:
    """Read one image.

    Raises:
        Unreachable: The store does not answer, which is no fault of the image.
    """
    try:
        pixels = dataset.decode(index).flatten(1).numpy().astype(np.float32)
    except Unreachable:
        raise
    except InputError as error:
        return error
    second = pixels @ pixels.T / pixels.shape[1]
    return Moments(pixels.mean(1, dtype=np.float64), second.astype(np.float64))
