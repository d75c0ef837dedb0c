"""Measures the ranges of a net on calibration images, and keeps them in a file for reuse."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.quantize.ranges import BINS, Range, measure_ranges
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.decode_pool import Scale
from vgg_deploy.data.size_batches import size_batches
from vgg_deploy.errors import InputError
from vgg_deploy.files import write_text
from vgg_deploy.net.model import VGG
from vgg_deploy.progress import progress

BATCH = 8
VERSION = 2  # of the file
# grey levels; an image whose channels all deviate less than this from their means shows nothing
BLANK = 1.0


@dataclass(frozen=True)
class Calibration:
    """Ranges of one net on one set of images.

    Attributes:
        model_sha256: Identity of the net and its input.
        data_sha256: Of the images' bytes.
        data: Folder of the images.
        images: Number of images given, including those skipped.
        side: Q in pixels.
        skipped: Names of unreadable images.
        distinct: Number of different images among those read.
        blank: Number of images of one colour.
        ranges: By convolution.
    """

    model_sha256: str
    data_sha256: str
    data: str
    images: int
    side: int
    skipped: tuple[str, ...]
    distinct: int
    blank: int
    ranges: dict[str, Range]

    @property
    def key(self) -> tuple[str, str, int, int]:
        """What decides the ranges: net, images, their number and Q."""
        return self.model_sha256, self.data_sha256, self.images, self.side


def calibrate(
    net: VGG,
    model_sha256: str,
    images: Dataset,
    path: Path,
    threads: int,
    log: Callable[[str], None],
    on_error: str = "stop",
) -> Calibration:
    """Ranges of a net on whole images at its test scale.

    They are read from the file if it is of the same net and images, else measured and written.

    Args:
        net: In evaluation mode.
        model_sha256: Identity of the net and its input.
        images: Calibration images.
        path: The file.
        threads: Processes that decode images.
        log: Called with a sentence for each step and warning.
        on_error: "stop" or "skip": what an unreadable image does.

    Raises:
        InputError: If an image is unreadable and `on_error` is "stop", if no image can be read, or
            if all images show one colour.
    """
    data_sha256 = images.content_sha256(threads)
    stored = read_calibration(path) if path.is_file() else None
    key = (model_sha256, data_sha256, len(images), net.spec.test_side)
    if stored is not None and stored.key == key and (on_error == "skip" or not stored.skipped):
        found = f"{stored.images} images of {stored.data} at Q {stored.side}"
        log(f"using the calibration in {path}: {found}")
        _warn(stored, log)
        return stored
    log(f"calibrating on {len(images)} images of {images.root} at Q {net.spec.test_side}")
    calibration = _measure(net, model_sha256, data_sha256, _Reader(net, images, threads, on_error))
    _refuse_if_nothing_seen(calibration)
    _warn(calibration, log)
    write_text(path, json.dumps(_document(calibration)) + "\n")
    return calibration


def _measure(net: VGG, model_sha256: str, data_sha256: str, reader: "_Reader") -> Calibration:
    images = reader.images
    with progress("calibration", len(images)) as bar:
        ranges = measure_ranges(net, reader.batches(bar.advance))
    return Calibration(
        model_sha256=model_sha256,
        data_sha256=data_sha256,
        data=str(images.root),
        images=len(images),
        side=net.spec.test_side,
        skipped=tuple(reader.skipped),
        distinct=len(reader.digests),
        blank=reader.blank,
        ranges=ranges,
    )


def read_images(
    net: VGG, images: Dataset, threads: int, on_error: str = "stop"
) -> tuple[list[np.ndarray], list[str]]:
    """All images at the net's test scale, in memory.

    Args:
        net: Its test scale and filter count.
        images: To read.
        threads: Processes that decode images.
        on_error: "stop" or "skip": what an unreadable image does.

    Returns:
        Batches (N, 3, H, W) uint8 RGB, and the names of the images that were skipped.

    Raises:
        InputError: If an image is unreadable and `on_error` is "stop".
    """
    reader = _Reader(net, images, threads, on_error)
    batches = list(reader.batches(lambda count: None))
    return batches, reader.skipped


class _Reader:
    """Decodes and rescales images, and counts what is odd about them.

    Attributes:
        skipped: Names of unreadable images.
        digests: Of the pixels of the images that were read.
        blank: Number of images of one colour.
    """

    def __init__(self, net: VGG, images: Dataset, threads: int, on_error: str):
        self.images, self.threads = images, threads
        self.scale = Scale(net.spec.test_side, net.spec.preprocessing.filter)
        self.on_bad = self._skip if on_error == "skip" else None
        self.skipped: list[str] = []
        self.digests: set[bytes] = set()
        self.blank = 0

    def batches(self, advance: Callable[[int], None]) -> Iterator[np.ndarray]:
        """Read all images.

        Args:
            advance: Called with the number of images of each batch after its use.

        Yields:
            (N, 3, H, W) uint8 RGB.
        """
        everything = {self.scale: np.ones(len(self.images), bool)}
        for batch in size_batches(self.images, everything, BATCH, self.threads, self.on_bad):
            for image in batch.images:
                self.digests.add(hashlib.sha256(image.tobytes()).digest())
                if image.std((1, 2)).max() < BLANK:
                    self.blank += 1
            yield batch.images
            advance(len(batch.images))

    def _skip(self, index: int, error: InputError) -> None:
        self.skipped.append(self.images.where(index))


def _refuse_if_nothing_seen(c: Calibration) -> None:
    """Raises InputError if no image, or no image with more than one colour, was read."""
    read = c.images - len(c.skipped)
    if read == 0:
        raise InputError(
            f"{c.data}: none of the {c.images} calibration images can be read, e.g. {c.skipped[0]}"
        )
    if c.blank == read:
        raise InputError(
            f"{c.data}: all {read} calibration images show a single colour, so activations have "
            "no range; give photos like those that the net will see"
        )


def _warn(c: Calibration, log: Callable[[str], None]) -> None:
    """Report what is wrong with some of the images."""
    read = c.images - len(c.skipped)
    if c.skipped:
        log(
            f"Warning: skipped {len(c.skipped)} of {c.images} calibration images, unreadable: "
            f"{', '.join(c.skipped)}"
        )
    if c.blank:
        log(
            f"Warning: {c.blank} of {read} calibration images show a single colour and add nothing "
            "to the ranges"
        )
    if c.distinct < read:
        log(f"Warning: only {c.distinct} of {read} calibration images are different")


def read_calibration(path: Path) -> Calibration | None:
    """What `calibrate` wrote; None if an earlier version wrote it.

    Raises:
        InputError: If the file is damaged.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        version = document.pop("version")
        if version in range(1, VERSION):
            return None
        if version != VERSION:
            raise ValueError("another version")
        ranges = {
            name: Range(r["input_max"], r["output_max"], r["top"], np.array(r["counts"], np.int64))
            for name, r in document.pop("ranges").items()
        }
        if any(r.counts.shape != (BINS,) for r in ranges.values()):
            raise ValueError("another number of bins")
        document["skipped"] = tuple(document["skipped"])
        return Calibration(**document, ranges=ranges)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path}: not a calibration of vgg-export ({error!r}); remove it"
        ) from None


def _document(calibration: Calibration) -> dict[str, object]:
    ranges = {
        name: {**vars(r), "counts": r.counts.tolist()} for name, r in calibration.ranges.items()
    }
    return {"version": VERSION, **vars(calibration), "ranges": ranges}
