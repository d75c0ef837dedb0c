"""Measures the ranges of a net on calibration images, and keeps them in a file for reuse."""

import hashlib
import json
import os
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
from vgg_deploy.json_files import JsonObject, as_object, entry, read_json_object
from vgg_deploy.net.model import VGG
from vgg_deploy.progress import progress
from vgg_deploy.sealed_json import check_seal, sealed

BATCH = 8
MOST_IMAGES = 10**9
MOST_COUNT = 2**52  # values in a bin; their sum stays an int64
LARGEST_FLOAT = float(np.finfo(np.float32).max)
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
    stored = read_calibration(path) if os.path.lexists(path) else None
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


def each_batch(
    net: VGG, images: Dataset, threads: int, on_error: str = "stop"
) -> Iterator[np.ndarray]:
    """All images at the net's test scale, one batch after the other; arguments of `read_images`.

    Yields:
        (N, 3, H, W) uint8 RGB.

    Raises:
        InputError: As `read_images`.
    """
    yield from _Reader(net, images, threads, on_error).batches(lambda count: None)


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
    where, hint = f"{path}: not a calibration of vgg-export", "remove it"
    document = read_json_object(path, hint)
    version = entry(document, "version", int, where, hint)
    if version in range(1, VERSION):
        return None
    if version != VERSION:
        raise InputError(f"{where}: version {version!r:.40}, expected {VERSION}", hint)
    check_seal(document, str(path), hint)
    model, images_sha256, data = (
        entry(document, key, str, where, hint) for key in ("model_sha256", "data_sha256", "data")
    )
    images, side, distinct, blank = (
        entry(document, key, int, where, hint) for key in ("images", "side", "distinct", "blank")
    )
    skipped = entry(document, "skipped", list, where, hint)
    if not all(isinstance(name, str) for name in skipped):
        raise InputError(f"{where}: skipped is not a list of names", hint)
    read = images - len(skipped)
    if not (0 <= distinct <= read <= MOST_IMAGES and 0 <= blank <= read and side > 0):
        raise InputError(f"{where}: its numbers of images contradict each other", hint)
    ranges = {
        name: _range(as_object(r, f"{where}: {name}", hint), f"{where}: {name}", hint)
        for name, r in entry(document, "ranges", dict, where, hint).items()
    }
    return Calibration(
        model, images_sha256, data, images, side, tuple(skipped), distinct, blank, ranges
    )


def _range(fields: JsonObject, where: str, hint: str) -> Range:
    """Check the range of one convolution.

    Raises:
        InputError: For values that no image can give.
    """
    input_max, output_max, top = (
        entry(fields, key, float, where, hint) for key in ("input_max", "output_max", "top")
    )
    counts = entry(fields, "counts", list, where, hint)
    if len(counts) != BINS or not all(type(n) is int and 0 <= n < MOST_COUNT for n in counts):
        raise InputError(f"{where}: counts are not {BINS} numbers of values", hint)
    if not (0 <= input_max <= top <= LARGEST_FLOAT and 0 <= output_max <= LARGEST_FLOAT):
        raise InputError(
            f"{where}: {input_max}, {output_max}, {top} are not the ends of a range", hint
        )
    if input_max > 0 and not any(counts):
        raise InputError(f"{where}: counts nothing", hint)
    return Range(input_max, output_max, top, np.array(counts, np.int64))


def _document(calibration: Calibration) -> dict[str, object]:
    ranges = {
        name: {**vars(r), "counts": r.counts.tolist()} for name, r in calibration.ranges.items()
    }
    return sealed({"version": VERSION, **vars(calibration), "ranges": ranges})
