"""Calibration: the images, what a net showed on them, and the file that keeps it for the next export."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from export.quantize.ranges import BINS, Range, measure_ranges
from vgg_deploy.data.built_in import built_in
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.decode_pool import Scale
from vgg_deploy.data.directory import entries, is_image
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.data.shards import are_shards
from vgg_deploy.data.size_batches import size_batches
from vgg_deploy.errors import InputError
from vgg_deploy.files import write_text
from vgg_deploy.net.model import VGG
from vgg_deploy.progress import progress

BATCH = 8
VERSION = 2
FEW = 100  # images; ranges and cost of fewer are uncertain
HELD_OUT_SHARE = 8  # one image of so many is held out
LEAST_HELD_OUT, MOST_HELD_OUT = 8, 64
BLANK = 1.0  # grey levels; an image whose channels deviate less than this from their means shows nothing


@dataclass(frozen=True)
class Calibration:
    """Ranges of one net on one set of images."""

    model_sha256: str
    data_sha256: str  # of the images' bytes
    data: str  # their folder
    images: int  # given; those skipped are among them
    side: int  # Q, pixels
    skipped: tuple[str, ...]  # names of unreadable images
    distinct: int  # different images among those read
    blank: int  # images of one colour
    ranges: dict[str, Range]


class Images(NamedTuple):
    """The calibration images in two parts that share none."""

    for_ranges: Dataset
    held_out: Dataset  # for the cost


def split(images: Dataset) -> Images:
    """Hold some images out, spread evenly over the others.

    Every eighth, but at least 8 and at most 64, and never more than half.
    Raises: InputError for fewer than two images.
    """
    total = len(images)
    count = min(MOST_HELD_OUT, max(LEAST_HELD_OUT, total // HELD_OUT_SHARE), total // 2)
    if count == 0:
        raise InputError(
            f"{images.root}: calibration has 1 image; give at least 2, one for the ranges and one to measure the cost, "
            f"better {FEW} and more"
        )
    held_out = (2 * np.arange(count) + 1) * total // (2 * count)
    others = np.setdiff1d(np.arange(total), held_out)
    return Images(images.take(others), images.take(held_out))


def open_calibration_images(folder: Path | str | None, count: int, net: VGG) -> Dataset:
    """`count` images spread evenly over a folder and those in it; of a data set, also in tar shards, the training half.

    Without a folder the built-in training images, for a net that was trained on them.
    Raises: InputError for a folder without images, or none for a net of other images.
    """
    if folder is None:
        pictures = built_in("train", count)
        if set(pictures.classes) != set(net.spec.classes):
            raise InputError(
                "--calibration DIR is missing: quantizing needs images like those that the net was trained on, some hundred of them"
            )
        return pictures
    if are_shards(folder):
        return open_dataset(folder, "train").subset(count)
    folder = Path(folder)
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise InputError(
            f"--calibration {folder}: {found}; give a folder of JPEG or PNG photos, or of tar shards"
        )
    start = folder / "train" if (folder / "train").is_dir() else folder
    files = [str(path.relative_to(folder)) for path in _images(start)]
    if not files:
        raise InputError(
            f"--calibration {folder}: has no images in it; give a folder of JPEG or PNG photos"
        )
    return Dataset(
        folder, tuple(files), np.zeros(len(files), np.int64), ("picture",), ("picture",)
    ).subset(count)


def warn_of_few(images: Dataset, on_step: Callable[[str], None]) -> None:
    """Before the work starts. Args: images, for ranges and cost together."""
    if len(images) < FEW:
        on_step(
            f"Warning: {len(images)} calibration images are few: activations may reach further on others, and the cost is "
            f"uncertain. Give {FEW} or more"
        )


def calibrate(
    net: VGG,
    model_sha256: str,
    images: Dataset,
    kept: Path,
    threads: int,
    on_step: Callable[[str], None],
    on_error: str = "stop",
) -> Calibration:
    """Ranges of `net` on whole images at its test scale.

    They are read from the file `kept` if it is of the same net and images, else measured and written there.
    Args:
        model_sha256: of the file that the net comes from.
        on_step: called with a sentence for each step and warning.
        on_error: "stop" or "skip": what an unreadable image does.
    Raises: InputError for an unreadable image, and for images that all show one colour.
    """
    side, data_sha256 = net.spec.test_side, images.content_sha256(threads)
    wanted = (model_sha256, data_sha256, len(images), side)
    held = read_calibration(kept) if kept.is_file() else None
    same = (
        held is not None and (held.model_sha256, held.data_sha256, held.images, held.side) == wanted
    )
    if same and (on_error == "skip" or not held.skipped):
        on_step(f"using the calibration in {kept}: {held.images} images of {held.data} at Q {side}")
        _warn(held, on_step)
        return held
    on_step(f"calibrating on {len(images)} images of {images.root} at Q {side}")
    reading = _Reading(net, images, threads, on_error)
    with progress("calibration", len(images)) as bar:
        ranges = measure_ranges(net, reading.batches(bar.advance))
    calibration = Calibration(
        model_sha256, data_sha256, str(images.root), len(images), side, tuple(reading.skipped),
        len(reading.seen), reading.blank, ranges
    )  # fmt: skip
    _refuse_nothing(calibration)
    _warn(calibration, on_step)
    write_text(kept, json.dumps(_document(calibration)) + "\n")
    return calibration


def read_images(
    net: VGG, images: Dataset, threads: int, on_error: str = "stop"
) -> tuple[list[np.ndarray], list[str]]:
    """All images at the net's test scale in memory.

    Returns: batches (N, 3, H, W) uint8 RGB, and the names of those that were skipped.
    Raises: InputError for an unreadable image, unless `on_error` is "skip".
    """
    reading = _Reading(net, images, threads, on_error)
    batches = list(reading.batches(lambda count: None))
    return batches, reading.skipped


class _Reading:
    """Images being decoded and rescaled, and what was noticed on the way."""

    def __init__(self, net: VGG, images: Dataset, threads: int, on_error: str):
        self.images, self.threads = images, threads
        self.scale = Scale(net.spec.test_side, net.spec.preprocessing.filter)
        self.on_bad = self._skip if on_error == "skip" else None
        self.skipped: list[str] = []  # names
        self.seen: set[bytes] = set()  # digests of the images' pixels
        self.blank = 0

    def batches(self, advance: Callable[[int], None]) -> Iterator[np.ndarray]:
        """(N, 3, H, W) uint8 RGB. Args: advance, called with the number of images of each batch after its use."""
        everything = {self.scale: np.ones(len(self.images), bool)}
        for batch in size_batches(self.images, everything, BATCH, self.threads, self.on_bad):
            for image in batch.images:
                self.seen.add(hashlib.sha256(image.tobytes()).digest())
                if image.std((1, 2)).max() < BLANK:
                    self.blank += 1
            yield batch.images
            advance(len(batch.images))

    def _skip(self, index: int, error: InputError) -> None:
        self.skipped.append(self.images.where(index))


def _refuse_nothing(c: Calibration) -> None:
    """Raises: InputError if no image, or no image with more than one colour, was read."""
    read = c.images - len(c.skipped)
    if read == 0:
        raise InputError(
            f"{c.data}: none of the {c.images} calibration images can be read, e.g. {c.skipped[0]}"
        )
    if c.blank == read:
        raise InputError(
            f"{c.data}: all {read} calibration images show a single colour, so activations have no range; "
            "give photos like those that the net will see"
        )


def _warn(c: Calibration, on_step: Callable[[str], None]) -> None:
    """Say what is wrong with some of the images."""
    read = c.images - len(c.skipped)
    if c.skipped:
        on_step(
            f"Warning: skipped {len(c.skipped)} of {c.images} calibration images, unreadable: {', '.join(c.skipped)}"
        )
    if c.blank:
        on_step(
            f"Warning: {c.blank} of {read} calibration images show a single colour and add nothing to the ranges"
        )
    if c.distinct < read:
        on_step(f"Warning: only {c.distinct} of {read} calibration images are different")


def read_calibration(path: Path) -> Calibration | None:
    """What `calibrate` wrote; None if an earlier version wrote it. Raises: InputError for a damaged file."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        version = held.pop("version")
        if version in range(1, VERSION):
            return None
        if version != VERSION:
            raise ValueError("another version")
        ranges = {
            name: Range(r["input_max"], r["output_max"], r["top"], np.array(r["counts"], np.int64))
            for name, r in held.pop("ranges").items()
        }
        if any(r.counts.shape != (BINS,) for r in ranges.values()):
            raise ValueError("another number of bins")
        held["skipped"] = tuple(held["skipped"])
        return Calibration(**held, ranges=ranges)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: not a calibration of vgg-export ({error!r}); remove it"
        ) from None


def _document(calibration: Calibration) -> dict:
    ranges = {
        name: {**vars(r), "counts": r.counts.tolist()} for name, r in calibration.ranges.items()
    }
    return {"version": VERSION, **vars(calibration), "ranges": ranges}


def _images(folder: Path) -> list[Path]:
    """Image files below a folder, in a stable order."""
    found = []
    for entry in entries(folder):
        if entry.is_dir():
            found += _images(Path(entry.path))
        elif is_image(entry.name):
            found.append(Path(entry.path))
    return found
