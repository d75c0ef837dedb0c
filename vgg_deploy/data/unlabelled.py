"""Recognises and opens images without labels: any tree of folders, none of which is a class."""

import os
from pathlib import Path

import numpy as np

from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.devkit import is_devkit
from vgg_deploy.data.directory import SUFFIXES, entries, is_image, names_below, stray_error
from vgg_deploy.data.ilsvrc import SYNSETS_OF_IMAGES, has_ground_truth
from vgg_deploy.data.index_file import Names
from vgg_deploy.data.kaggle import image_root, list_root
from vgg_deploy.data.shards import are_shards
from vgg_deploy.errors import InputError
from vgg_deploy.regular_files import real_path


def lacks_labels(root: Path | str) -> bool:
    """Whether a validation folder can only be images without labels.

    That is so in two cases. Either images lie directly in it, without class folders beside them and
    without a ground truth or synset list there or in the folder above. Or no folder in it contains
    an image directly, although deeper ones do. One level of folders with images are classes.

    Args:
        root: The folder as the user names it; its `val` counts if it has one.

    Returns:
        False also for folders that cannot be listed, tar shards and URLs.
    """
    if are_shards(root) or not Path(root).is_dir():
        return False
    if image_root(Path(root)) != Path(root) or list_root(Path(root)) != Path(root):
        return False  # Kaggle's, which has its lists elsewhere
    folder = _image_folder(Path(root))
    inside = entries(folder)
    subfolders = [Path(entry.path) for entry in inside if entry.is_dir()]
    if not subfolders:
        above = Path(root) if folder != Path(root) else real_path(root).parent
        has_images = any(is_image(entry.name) for entry in inside)
        return has_images and not _has_lists(folder) and not _has_lists(above)
    if any(is_image(entry.name) for entry in inside if not entry.is_dir()):
        return False
    if any(_has_images(subfolder) for subfolder in subfolders):
        return False
    return any(_has_images_below(subfolder) for subfolder in subfolders)


def open_unlabelled(root: Path | str, on_error: str = "stop") -> Dataset:
    """Open all images of a folder and of the folders in it, by their paths, without labels.

    Args:
        root: A folder; only its `val` if it has one, as for labelled data.
        on_error: "stop" or "skip": whether a file without an image's suffix is an error or is
            listed in `skipped`. Hidden files and linked folders are ignored.

    Raises:
        InputError: For a folder that cannot be listed, contains no image, or contains other files.
    """
    root = Path(root)
    folder = _image_folder(root)
    if not folder.is_dir():
        entries(folder)  # raises, with the reason
    prefix = "" if folder == root else f"{folder.name}/"
    names = [name.replace(os.sep, "/") for name in names_below(folder)]
    images = Names.of((name for name in names if is_image(name)), prefix)
    strays = tuple(prefix + name for name in names if not is_image(name))
    if not len(images):
        raise InputError(f"{folder}: has no images, expected {', '.join(SUFFIXES)}")
    if strays and on_error == "stop":
        raise stray_error(root, strays)
    return Dataset(root, images, np.zeros(0, np.int64), (), (), strays)


def _image_folder(root: Path) -> Path:
    return root / "val" if (root / "val").is_dir() else root


def _has_lists(folder: Path) -> bool:
    """Whether labels were meant: `open_dataset` reports a list that is incomplete."""
    names = [entry.name for entry in entries(folder)]
    return has_ground_truth(names) or any(
        name in SYNSETS_OF_IMAGES or is_devkit(name) for name in names
    )


def _has_images(folder: Path) -> bool:
    return any(is_image(entry.name) for entry in entries(folder) if not entry.is_dir())


def _has_images_below(folder: Path) -> bool:
    return any(map(is_image, names_below(folder)))
