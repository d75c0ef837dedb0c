"""Lists images in class folders, and caches the list for as long as no folder changes."""

import hashlib
import os
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vgg_deploy.cache import cache_folder, or_uncached
from vgg_deploy.data.directory import entries, is_image
from vgg_deploy.data.index_file import (
    DamagedIndex,
    Index,
    Names,
    NamesBuilder,
    read_index,
    write_index,
)
from vgg_deploy.errors import InputError
from vgg_deploy.progress import progress
from vgg_deploy.regular_files import real_path

WORTH_CACHING = 10_000  # images; fewer are listed in no time
# A file system's clock may tick so slowly that a later change leaves a folder's time as it is
YOUNG_NS = 2 * 10**9


class _Stamp(NamedTuple):
    """What changes with the files of a folder."""

    name: str
    inode: int
    mtime_ns: int
    ctime_ns: int  # a copying tool cannot set it back


class Listing(NamedTuple):
    """The images of FOLDER/CLASS/*, by class, then by name."""

    classes: tuple[str, ...]
    files: Names  # relative to FOLDER, with "/"
    labels: np.ndarray  # (files,) int64
    strays: list[str]  # relative to FOLDER: not images by their names, or images without a class


def list_classes(folder: Path, classes: list[str]) -> Listing:
    """List the images in class folders, from the cache if none of these folders has changed.

    A folder's times change when a file in it is added, removed or renamed. The content of files is
    not looked at.

    Args:
        folder: The folder that contains the class folders.
        classes: Names of the class folders, sorted.

    Raises:
        InputError: For a class folder without images, or one that cannot be listed.
    """
    # Lists and readmes may be next to class folders, but an image there has no class
    beside = [
        entry.name for entry in entries(folder) if is_image(entry.name) and not entry.is_dir()
    ]
    cached = _cached_path(folder)
    start = time.time_ns()
    stamps = [_stamp(folder / name) for name in classes]
    index = _read_cached(cached, stamps)
    if index is None:
        index = _list_folders(folder, classes, stamps)
        changed_ns = max(stamp.ctime_ns for stamp in stamps)
        if changed_ns < start - YOUNG_NS and len(index.names) >= WORTH_CACHING:
            with or_uncached(cached):
                write_index(cached, index)
    strays = beside + index.head["strays"]
    return Listing(tuple(classes), index.names, index.columns["labels"], strays)


def _cached_path(folder: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(real_path(folder))).hexdigest()
    return cache_folder() / "listings" / f"{digest[:32]}.index"


def _list_folders(folder: Path, classes: list[str], stamps: list[_Stamp]) -> Index:
    """List every class folder."""
    names = NamesBuilder()
    counts: list[int] = []
    strays: list[str] = []
    with progress(f"listing {folder}", len(classes)) as bar:
        for name in classes:
            inside = [f"{name}/{entry.name}" for entry in entries(folder / name)]
            images = [file for file in inside if is_image(file)]
            strays += [file for file in inside if not is_image(file)]
            if not images:
                raise _no_images(folder / name, inside)
            for file in images:
                names.add(file)
            counts.append(len(images))
            bar.advance()
    labels = np.repeat(np.arange(len(classes)), counts)
    return Index({"folders": stamps, "strays": strays}, {"labels": labels}, names.names())


def _no_images(folder: Path, inside: list[str]) -> InputError:
    nested = ""
    if inside:
        nested = f"; it contains {inside[0]}, but images must be directly in the class folders"
    return InputError(
        f"{folder}: this class folder has no images{nested}; add images or remove the folder"
    )


def _stamp(folder: Path) -> _Stamp:
    try:
        status = os.stat(folder)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be listed ({error.strerror}), expected a folder of images",
            "check its name and its permissions",
            "data",
        ) from None
    return _Stamp(folder.name, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)


def _read_cached(path: Path, stamps: list[_Stamp]) -> Index | None:
    """Read the cached list of these very folders; None for a missing, damaged or old one."""
    try:
        index = read_index(path)
    except (OSError, DamagedIndex):
        return None
    unchanged = index.head.get("folders") == [list(stamp) for stamp in stamps]
    return index if unchanged and _is_listing(index, len(stamps)) else None


def _is_listing(index: Index, classes: int) -> bool:
    """Whether an index is one that `list_classes` writes."""
    strays, labels = index.head.get("strays"), index.columns.get("labels")
    if not isinstance(strays, list) or not all(isinstance(file, str) for file in strays):
        return False
    return labels is not None and bool(((labels >= 0) & (labels < classes)).all())
