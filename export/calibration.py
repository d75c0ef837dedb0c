"""Calibration: the pictures, what a net showed on them, and the file that keeps it for the next export."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from export.ranges import BINS, Range, measure_ranges
from vgg_deploy.batches import size_batches
from vgg_deploy.data import Dataset, open_dataset
from vgg_deploy.decoding import Scale
from vgg_deploy.errors import InputError
from vgg_deploy.files import write_text
from vgg_deploy.listing import entries, is_image
from vgg_deploy.model import VGG
from vgg_deploy.progress import progress
from vgg_deploy.scenes import built_in
from vgg_deploy.shards import are_shards

BATCH = 8
VERSION = 1


@dataclass(frozen=True)
class Calibration:
    """Ranges of one net on one set of pictures."""

    model_sha256: str
    data_sha256: str  # of the pictures' bytes
    data: str  # their folder
    images: int
    side: int  # Q, pixels
    ranges: dict[str, Range]


def calibration_pictures(folder: Path | str | None, count: int, net: VGG) -> Dataset:
    """`count` pictures spread evenly over a folder and those in it; of a data set, also in tar shards, the training half.

    Without a folder the built-in training pictures, for a net that was trained on them.
    Raises: InputError for a folder without images, or none for a net of other pictures.
    """
    if folder is None:
        pictures = built_in("train", count)
        if set(pictures.classes) != set(net.spec.classes):
            raise InputError("--calibration DIR is missing: quantizing needs pictures like those that the net was trained on, some hundred of them")
        return pictures
    if are_shards(folder):
        return open_dataset(folder, "train").subset(count)
    folder = Path(folder)
    start = folder / "train" if (folder / "train").is_dir() else folder
    files = [str(path.relative_to(folder)) for path in _images(start)]
    if not files:
        raise InputError(f"--calibration {folder}: has no images in it; give a folder of JPEG or PNG photos")
    return Dataset(folder, tuple(files), np.zeros(len(files), np.int64), ("picture",), ("picture",)).subset(count)


def calibrate(net: VGG, model_sha256: str, pictures: Dataset, kept: Path, threads: int, on_step: Callable[[str], None]) -> Calibration:
    """Ranges of `net` on whole pictures at its test scale; read from the file `kept` if it is of the same net and pictures.

    Raises: InputError for an unreadable picture.
    """
    side, data_sha256 = net.spec.test_side, pictures.content_sha256(threads)
    wanted = (model_sha256, data_sha256, len(pictures), side)
    held = read_calibration(kept) if kept.is_file() else None
    if held and (held.model_sha256, held.data_sha256, held.images, held.side) == wanted:
        on_step(f"calibration of before, {kept}: {held.images} pictures of {held.data} at Q {side}")
        return held
    on_step(f"calibrating on {len(pictures)} pictures of {pictures.root} at Q {side}")
    scale = Scale(side, net.spec.preprocessing.filter)
    batches = size_batches(pictures, {scale: np.ones(len(pictures), bool)}, BATCH, threads)
    with progress("calibration", len(pictures)) as bar:

        def counted():
            for batch in batches:
                yield batch.images
                bar.advance(len(batch.images))

        ranges = measure_ranges(net, counted())
    calibration = Calibration(model_sha256, data_sha256, str(pictures.root), len(pictures), side, ranges)
    write_text(kept, json.dumps(_document(calibration)) + "\n")
    return calibration


def read_calibration(path: Path) -> Calibration:
    """Raises: InputError for a damaged file."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        if held.pop("version") != VERSION:
            raise ValueError("another version")
        ranges = {name: Range(r["input_max"], r["output_max"], r["top"], np.array(r["counts"], np.int64)) for name, r in held.pop("ranges").items()}
        if any(r.counts.shape != (BINS,) for r in ranges.values()):
            raise ValueError("another number of bins")
        return Calibration(**held, ranges=ranges)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: not a calibration of vgg-export ({error!r}); remove it") from None


def _document(calibration: Calibration) -> dict:
    ranges = {name: {**vars(r), "counts": r.counts.tolist()} for name, r in calibration.ranges.items()}
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
