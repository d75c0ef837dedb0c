"""Mean colour and colour axes of a training set."""

import json
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vgg_deploy.cache import cache_folder
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.remote import Unreachable
from vgg_deploy.errors import InputError
from vgg_deploy.files import write_text
from vgg_deploy.progress import progress

MOST_IMAGES = 20_000  # spread evenly; the mean of so many is known to about 0.3 grey levels


class Colours(NamedTuple):
    """Of RGB pixels, 0-255."""

    mean: np.ndarray  # (3,)
    covariance: np.ndarray  # (3, 3)
    images: int  # how many were looked at and could be read
    unreadable: tuple[str, ...] = ()  # what is wrong with each of the others

    def as_json(self) -> dict:
        """Numbers that JSON or a checkpoint can hold, bit for bit."""
        covariance = self.covariance.tolist()
        return {"mean": self.mean.tolist(), "covariance": covariance, "images": self.images}

    @classmethod
    def from_json(cls, held: dict) -> "Colours":
        """What `as_json` gave."""
        return cls(np.array(held["mean"]), np.array(held["covariance"]), held["images"])

    def components(self) -> np.ndarray:
        """(3, 3): column k is principal axis k times the standard deviation along it, in grey levels.

        AlexNet's text says eigenvalue, its code uses the square root; with eigenvalues the shifts would be
        hundreds of grey levels.
        """
        values, axes = np.linalg.eigh(self.covariance)
        return axes * np.sqrt(np.maximum(values, 0))


def measure_colours(dataset: Dataset, threads: int) -> Colours:
    """Mean and covariance over the training images; every image counts alike, whatever its size.

    The result is cached for these exact images if all of them could be read.
    Raises: InputError if none can be read.
    """
    sample = dataset.subset(MOST_IMAGES)
    cached = cache_folder() / "colours" / f"{sample.fingerprint()[:32]}.json"
    held = _cached(cached)
    if held and held.images == len(sample):
        return held
    mean, second, unreadable = np.zeros(3), np.zeros((3, 3)), []
    with (
        progress(f"mean colour of {len(sample)} images", len(sample)) as bar,
        ThreadPoolExecutor(threads) as pool,
    ):
        for moments in pool.map(partial(_moments, sample), range(len(sample))):
            bar.advance()
            if isinstance(moments, InputError):
                unreadable.append(moments.what)
            else:
                mean, second = mean + moments[0], second + moments[1]
    images = len(sample) - len(unreadable)
    if not images:
        raise InputError(f"{dataset.root}: none of its training images can be read")
    mean, second = mean / images, second / images
    colours = Colours(mean, second - np.outer(mean, mean), images, tuple(unreadable))
    if not unreadable:
        _keep(cached, colours)
    return colours


def _keep(path: Path, colours: Colours) -> None:
    """Write measured colours with their checksum."""
    held = colours.as_json()
    write_text(path, json.dumps({**held, "crc32": zlib.crc32(json.dumps(held).encode())}) + "\n")


def _cached(path: Path) -> Colours | None:
    """What `_keep` wrote; None if there is nothing, or if it is not as it was written."""
    if not path.is_file():
        return None
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        written = held.pop("crc32")
        if zlib.crc32(json.dumps(held).encode()) != written:
            return None
        return Colours.from_json(held)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _moments(dataset: Dataset, index: int) -> tuple[np.ndarray, np.ndarray] | InputError:
    try:
        pixels = dataset.decode(index).flatten(1).numpy().astype(np.float32)
    except Unreachable:
        raise
    except InputError as error:
        return error
    return pixels.mean(1, dtype=np.float64), (pixels @ pixels.T / pixels.shape[1]).astype(
        np.float64
    )
