"""Chooses the images that a net is calibrated on, and those that are held out."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vgg_deploy.data.built_in import built_in
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.directory import entries, is_image
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.data.shards import are_shards
from vgg_deploy.errors import InputError
from vgg_deploy.net.model import VGG

FEW = 100  # images; ranges and cost are uncertain with fewer
HELD_OUT_SHARE = 8  # one of so many images is held out
LEAST_HELD_OUT, MOST_HELD_OUT = 8, 64
UNLABELLED = ("picture",)  # the one class of images without labels


class Images(NamedTuple):
    """The calibration images in two parts that share none."""

    for_ranges: Dataset
    held_out: Dataset  # for the cost


def split(images: Dataset) -> Images:
    """Hold some images out, spread evenly over the others.

    Every eighth is held out, but at least 8, at most 64, and never more than half.

    Raises:
        InputError: If there are fewer than two images.
    """
    total = len(images)
    count = min(MOST_HELD_OUT, max(LEAST_HELD_OUT, total // HELD_OUT_SHARE), total // 2)
    if count == 0:
        raise InputError(
            f"{images.root}: calibration has 1 image; give at least 2, one for the ranges and one "
            f"to measure the cost, better {FEW} and more"
        )
    held_out = (2 * np.arange(count) + 1) * total // (2 * count)
    others = np.setdiff1d(np.arange(total), held_out)
    return Images(images.take(others), images.take(held_out))


def open_calibration_images(folder: Path | str | None, count: int, net: VGG) -> Dataset:
    """Images spread evenly over a folder and the folders in it.

    Of a data set, also in tar shards, the training images are used.

    Args:
        folder: Folder or tar shards. None: the built-in training images, for a net that was
            trained on them.
        count: Number of images.
        net: To calibrate.

    Raises:
        InputError: If the folder has no images, or is missing for a net of other images.
    """
    if folder is None:
        images = built_in("train", count)
        if set(images.classes) != set(net.spec.classes):
            raise InputError(
                "--calibration DIR is missing: quantizing needs images like those that the net was "
                "trained on, some hundred of them"
            )
        return images
    if are_shards(folder):
        return open_dataset(folder, "train").subset(count)
    folder = Path(folder)
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise InputError(
            f"--calibration {folder}: {found}; "
            "give a folder of JPEG or PNG photos, or of tar shards"
        )
    start = folder / "train" if (folder / "train").is_dir() else folder
    files = tuple(str(path.relative_to(folder)) for path in _image_files(start))
    if not files:
        raise InputError(
            f"--calibration {folder}: has no images in it; give a folder of JPEG or PNG photos"
        )
    labels = np.zeros(len(files), np.int64)
    return Dataset(folder, files, labels, UNLABELLED, UNLABELLED).subset(count)


def warn_of_few(images: Dataset, log: Callable[[str], None]) -> None:
    """Warn of few images before the work starts.

    Args:
        images: For ranges and cost together.
        log: Called with the warning.
    """
    if len(images) < FEW:
        log(
            f"Warning: {len(images)} calibration images are few: activations may reach further on "
            f"others, and the cost is uncertain. Give {FEW} or more"
        )


def _image_files(folder: Path) -> list[Path]:
    """Image files below a folder, in a stable order."""
    files = []
    for entry in entries(folder):
        if entry.is_dir():
            files += _image_files(Path(entry.path))
        elif is_image(entry.name):
            files.append(Path(entry.path))
    return files
