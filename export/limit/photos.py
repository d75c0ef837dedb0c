"""Divides photos into those that calibrate, those that choose layers, and those that judge.

No image has two of these parts. A file that was chosen on the images that judge it would look
better than it is.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from export.limit.criterion import UNREADABLE, Criterion, Standard
from export.quantize.calibration_images import open_calibration_images
from export.settings.export_options import ExportOptions
from vgg_deploy.data.class_labels import labels_for, matched_classes, right_for
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.decode_pool import Scale
from vgg_deploy.data.open_data import open_data
from vgg_deploy.data.shards import are_shards
from vgg_deploy.data.size_batches import Batch, size_batches
from vgg_deploy.errors import InputError, Undecided
from vgg_deploy.net.model import VGG

CALIBRATING_SHARE = 8  # without other calibration images, one of so many calibrates
CHOOSING_SHARE = 4  # of the others, one of so many chooses
MOST_CHOOSING = 500  # images; every trial runs all of them
LEAST_CHOOSING = 8
BATCH = 8
FIRST_LEVEL = 0.04  # of the first file that is judged, see `attempts`


@dataclass(frozen=True, eq=False)
class Photos:
    """Images in three parts.

    Attributes:
        calibrate: Measure the ranges and, held out, the cost.
        choose: Choose the layers.
        judge: Decide whether a file keeps the limit.
        classes: Of the net by the ids of the data, in the order of the scores.
        stated: Where they come from, in words, for people and the manifest.
    """

    calibrate: Dataset
    choose: Dataset
    judge: Dataset
    classes: tuple[str, ...]
    stated: str


def open_photos(
    place: Path | str, options: ExportOptions, net: VGG, where: str, stated: bool
) -> Photos:
    """Open and divide the photos.

    Images calibrate that are given for it, else those of the data set's train half, else every
    eighth image. Of the others every fourth chooses, at most 500 spread evenly; the rest judges.

    Args:
        place: The photos: a data set of which the validation half is used, or images alone.
        options: Of the export.
        net: To export.
        where: The net's file, for errors.
        stated: Whether the user gave the net's classes.

    Raises:
        InputError: If the photos cannot be used, or are too few to choose.
    """
    photos = replace(open_data(place, "val", options.on_error), upright=options.exif == "apply")
    classes = matched_classes(photos, net.spec, where, stated) if photos.labelled else ()
    if options.calibration is not None or _has_training_half(place):
        source = options.calibration if options.calibration is not None else place
        calibrate = open_calibration_images(source, options.calibration_images, net)
        rest = _without(photos, calibrate)
        left_out = len(photos) - len(rest)
        origin = f"{len(calibrate):,} images of {calibrate.root} calibrate"
        if left_out:
            origin += f" ({left_out:,} of them are among the photos and do nothing else)"
    else:
        count = min(options.calibration_images, len(photos) // CALIBRATING_SHARE)
        if count < 2:
            raise InputError(
                f"{place}: has {len(photos)} photos, too few to calibrate, choose and judge; give "
                f"{2 * CALIBRATING_SHARE} or more, and far more for a small limit"
            )
        calibrate, rest = _split(photos, count)
        origin = f"{count:,} of the photos calibrate"
    choosing = min(MOST_CHOOSING, len(rest) // CHOOSING_SHARE)
    if choosing < LEAST_CHOOSING:
        raise InputError(
            f"{place}: {len(rest)} photos are too few to choose layers and to judge; give "
            f"{LEAST_CHOOSING * CHOOSING_SHARE} or more, and far more for a small limit"
        )
    choose, judge = _split(rest, choosing)
    calibrate = replace(calibrate, upright=options.exif == "apply")
    text = f"{origin}, {len(choose):,} choose the layers, {len(judge):,} others judge"
    return Photos(calibrate, choose, judge, classes, text)


def refuse_too_few(photos: Photos, criterion: Criterion, place: Path | str) -> None:
    """End early if the photos cannot show the limit, whatever the file does.

    Raises:
        Undecided: With the number of photos that it takes.
    """
    judging, least = len(photos.judge), criterion.least_images(FIRST_LEVEL)
    if judging >= least:
        return
    smallest = 100 * (1 - FIRST_LEVEL ** (1 / judging))
    raise Undecided(
        f"{place}: not enough images: {judging:,} judge, and even if none speaks against a file it "
        f"takes {least:,} to show a loss of at most {criterion.points:g} points; "
        f"{photos.stated}",
        f"give more photos, or a limit of {_rounded_up(smallest)} points or more",
    )


def standard(photos: Dataset, classes: tuple[str, ...], best: np.ndarray) -> Standard:
    """The float32 net's answers on a part of the photos, and the true ones.

    Args:
        photos: The part.
        classes: As `Photos.classes`.
        best: (N,) int64, the float32 net's best class.
    """
    if not photos.labelled:
        return Standard(best, None)
    accepted = right_for(photos, classes)
    if accepted is None:
        accepted = labels_for(photos, classes)[:, None]
    return Standard(best, accepted)


def batches_of(
    photos: Dataset, net_scale: Scale, threads: int, skip: Callable[[int, InputError], None] | None
) -> Iterator[Batch]:
    """All images at a scale, in batches of one size.

    Args:
        photos: The images.
        net_scale: Of the net.
        threads: Processes that decode images.
        skip: Called for an unreadable image; None: it is an error.

    Raises:
        InputError: For an unreadable image, without `skip`.
    """
    wanted = {net_scale: np.ones(len(photos), bool)}
    return size_batches(photos, wanted, BATCH, threads, skip)


def ordered(count: int, indices: list[np.ndarray], best: list[np.ndarray]) -> np.ndarray:
    """(count,) int64, best classes in the order of the images; UNREADABLE where there is none."""
    found = np.full(count, UNREADABLE, np.int64)
    found[np.concatenate(indices)] = np.concatenate(best)
    return found


def _split(photos: Dataset, count: int) -> tuple[Dataset, Dataset]:
    """Take images out, spread evenly: those, and the others."""
    taken = (2 * np.arange(count) + 1) * len(photos) // (2 * count)
    return photos.take(taken), photos.take(np.setdiff1d(np.arange(len(photos)), taken))


def _without(photos: Dataset, calibrate: Dataset) -> Dataset:
    """The photos that do not calibrate. Images in shards are taken to be others."""
    if photos.packed or calibrate.packed:
        return photos
    used = {os.path.realpath(calibrate.path(i)) for i in range(len(calibrate))}
    kept = [i for i in range(len(photos)) if os.path.realpath(photos.path(i)) not in used]
    return photos if len(kept) == len(photos) else photos.take(np.array(kept, np.int64))


def _has_training_half(place: Path | str) -> bool:
    return are_shards(place) or (Path(place) / "train").is_dir()


def _rounded_up(points: float) -> str:
    """With two digits behind the point, rounded up."""
    return f"{np.ceil(100 * points) / 100:.2f}"
