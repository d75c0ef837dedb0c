"""Photos without labels: any tree of folders, in which no folder stands for a class."""

import os
from pathlib import Path

import numpy as np

from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.directory import SUFFIXES, entries, is_image
from vgg_deploy.data.ilsvrc import has_ground_truth
from vgg_deploy.data.shards import are_shards
from vgg_deploy.errors import InputError
from vgg_deploy.net.class_lists import SYNSET_LISTS


def lacks_labels(root: Path | str) -> bool:
    """Whether a validation folder can only be photos without labels.

    That is so if images lie directly in it, with neither class folders beside them nor a ground
    truth or synset list there or in the folder above; or if no folder in it holds an image
    directly, although deeper ones do. One level of folders with images are classes.

    Args:
        root: The folder as the user names it; its `val` counts where it has one.

    Returns:
        False also for folders that cannot be listed, tar shards and URLs.
    """
    if are_shards(root) or not Path(root).is_dir():
        return False
    folder = _photo_folder(Path(root))
    inside = entries(folder)
    subfolders = [entry for entry in inside if entry.is_dir()]
    if not subfolders:
        lists = (folder, Path(root) if folder != Path(root) else Path(root).resolve().parent)
        return any(is_image(entry.name) for entry in inside) and not any(map(_has_lists, lists))
    if any(is_image(entry.name) for entry in inside if not entry.is_dir()):
        return False
    directly = any(_holds_images(Path(entry.path)) for entry in subfolders)
    return not directly and any(_images_below(Path(entry.path)) for entry in subfolders)


def open_unlabelled(root: Path | str, on_error: str = "stop") -> Dataset:
    """All images of a folder and of the folders in it, by their paths, without labels.

    Args:
        root: A folder; its `val` alone where it has one, as for labelled data.
        on_error: "stop" or "skip": whether a file without the suffix of an image is an error or is
            listed in `skipped`. Hidden files and linked folders are passed over.

    Raises:
        InputError: For a folder that cannot be listed, holds no image, or holds other files.
    """
    root = Path(root)
    folder = _photo_folder(root)
    if not folder.is_dir():
        entries(folder)  # raises, and says why
    files, strays = [], []
    for path in _files_below(folder):
        (files if is_image(path.name) else strays).append(path.relative_to(root).as_posix())
    if not files:
        raise InputError(f"{folder}: has no images, expected {', '.join(SUFFIXES)}")
    if strays and on_error == "stop":
        more = f" (and {len(strays) - 1} more like it)" if len(strays) > 1 else ""
        raise InputError(
            f"{root / strays[0]}: is not an image, expected {', '.join(SUFFIXES)}{more}; "
            "remove it, or have such files skipped"
        )
    return Dataset(root, tuple(files), np.zeros(0, np.int64), (), (), tuple(strays))


def _photo_folder(root: Path) -> Path:
    return root / "val" if (root / "val").is_dir() else root


def _has_lists(folder: Path) -> bool:
    """Whether labels were meant: a list that is incomplete is for `open_dataset` to report."""
    names = [entry.name for entry in entries(folder)]
    return has_ground_truth(names) or any(name in SYNSET_LISTS for name in names)


def _holds_images(folder: Path) -> bool:
    return any(is_image(entry.name) for entry in entries(folder) if not entry.is_dir())


def _images_below(folder: Path) -> bool:
    return any(is_image(path.name) for path in _files_below(folder))


def _files_below(folder: Path) -> list[Path]:
    """Files of a folder and of all folders in it, sorted; links to folders are not followed."""
    found = []
    for entry in entries(folder):
        if entry.is_dir(follow_symlinks=False):
            found += _files_below(Path(entry.path))
        elif not entry.is_dir():
            found.append(Path(entry.path))
    return sorted(found, key=os.fspath)
