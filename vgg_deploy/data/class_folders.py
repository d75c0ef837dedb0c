"""Images in class folders: listed once, kept in the cache folder for as long as no folder changes."""

import hashlib
import os
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vgg_deploy.cache import cache_folder
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
from vgg_deploy.progress import console, progress

WORTH_KEEPING = 10_000  # images; fewer are listed in no time
YOUNG_NS = (
    2 * 10**9
)  # a file system's clock may tick so slowly that a later change leaves a folder's time as it is


class Listing(NamedTuple):
    """The images of FOLDER/CLASS/*, by class, then by name."""

    classes: tuple[str, ...]
    files: Names  # relative to FOLDER, with "/"
    labels: np.ndarray  # (files,) int64
    strays: list[str]  # relative to FOLDER: no images by their names, or images without a class


def list_classes(folder: Path, classes: list[str]) -> Listing:
    """What lies in the class folders of a folder; from the cache if every one of them is as it was.

    A folder's times change when a file in it is added, removed or renamed; what a file holds is not looked at.
    Raises: InputError for a class folder without images.
    """
    # lists and readmes may lie beside class folders, but an image there has no class
    beside = [
        entry.name for entry in entries(folder) if is_image(entry.name) and not entry.is_dir()
    ]
    kept = (
        cache_folder()
        / "listings"
        / f"{hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]}.index"
    )
    begun, stamps = time.time_ns(), [_stamp(folder / name) for name in classes]
    index = _recalled(kept, stamps)
    if index is None:
        index = _listed(folder, classes, stamps)
        old = max(changed for *_, changed in stamps) < begun - YOUNG_NS
        if old and len(index.names) >= WORTH_KEEPING:
            _keep(kept, index, folder)
    return Listing(
        tuple(classes), index.names, index.columns["labels"], beside + index.head["strays"]
    )


def _listed(folder: Path, classes: list[str], stamps: list) -> Index:
    names, counts, strays = NamesBuilder(), [], []
    with progress(f"listing {folder}", len(classes)) as bar:
        for name in classes:
            inside = [f"{name}/{entry.name}" for entry in entries(folder / name)]
            images = [file for file in inside if is_image(file)]
            strays += [file for file in inside if not is_image(file)]
            if not images:
                nested = (
                    f"; it holds {inside[0]}, but expected are image files right in the class folders"
                    if inside
                    else ""
                )
                raise InputError(
                    f"{folder / name}: this class folder has no images{nested}; add images or remove the folder"
                )
            for file in images:
                names.add(file)
            counts.append(len(images))
            bar.advance()
    return Index(
        {"folders": stamps, "strays": strays},
        {"labels": np.repeat(np.arange(len(classes)), counts)},
        names.names(),
    )


def _stamp(folder: Path) -> list:
    """What changes with a folder's files: its name, number, and times in nanoseconds; ctime cannot be set back by a copying tool."""
    try:
        found = os.stat(folder)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be listed ({error.strerror}), expected a folder of images",
            "check its name and its permissions",
            "data",
        ) from None
    return [folder.name, found.st_ino, found.st_mtime_ns, found.st_ctime_ns]


def _recalled(kept: Path, stamps: list) -> Index | None:
    """The kept listing of these very folders; one that is damaged is made again."""
    try:
        index = read_index(kept)
    except (OSError, DamagedIndex):
        return None
    return index if index.head.get("folders") == stamps else None


def _keep(kept: Path, index: Index, folder: Path) -> None:
    try:
        write_index(kept, index)
    except InputError as error:
        console.print(
            f"The listing of {folder} is not kept, the next start takes as long again: {error.message}"
        )
