"""Lists what a folder contains, and recognises images by their names."""

import os
from collections.abc import Sequence
from pathlib import Path

from vgg_deploy.errors import InputError, UnreadableImage

# In upper or lower case; the decoder goes by the header
SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".gif", ".webp")
LITTER = ("thumbs.db", "desktop.ini")  # left by Windows; other systems' starts with a dot


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """List a folder without its hidden entries, sorted by name.

    Args:
        folder: Any folder.

    Raises:
        InputError: If it cannot be listed.
    """
    try:
        with os.scandir(folder) as scanned:
            visible = [entry for entry in scanned if not _is_hidden(entry.name)]
        for entry in visible:
            _refuse_circle(entry)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be listed ({error.strerror}), expected a folder of images; "
            "check the path and its permissions"
        ) from None
    return sorted(visible, key=lambda entry: entry.name)


def is_image(file: str) -> bool:
    """Whether a file is an image by its name."""
    return file.lower().endswith(SUFFIXES)


def files_below(folder: Path) -> list[Path]:
    """List the files of a folder and of all folders in it, see `names_below`.

    Args:
        folder: Any folder.

    Raises:
        InputError: If one of the folders cannot be listed.
    """
    return [folder / name for name in names_below(folder)]


def names_below(folder: Path) -> list[str]:
    """List the files of a folder and of all folders in it, sorted, in little more than their names.

    Hidden files and linked folders are left out.

    Args:
        folder: Any folder.

    Returns:
        Paths relative to the folder.

    Raises:
        InputError: If one of the folders cannot be listed.
    """
    found: list[str] = []
    waiting = [""]
    while waiting:
        inner = waiting.pop()
        for entry in entries(folder / inner):
            name = os.path.join(inner, entry.name)
            if entry.is_dir(follow_symlinks=False):
                waiting.append(name)
            elif not entry.is_dir():
                found.append(name)
    return sorted(found)


def stray_error(folder: Path, strays: Sequence[str]) -> InputError:
    """Describe files that do not belong into a data set, by the first of them.

    Args:
        folder: The folder of the data set.
        strays: Files that are not images by their names, or images without a class; relative to
            the folder.

    Returns:
        The error to raise.
    """
    more = f" (and {len(strays) - 1} more like it)" if len(strays) > 1 else ""
    first = folder / strays[0]
    if is_image(strays[0]):
        what = f"{first}: is next to the class folders and has no class{more}"
        return InputError(what, "move it", "stray")
    return UnreadableImage(f"{first}: is not an image, expected {', '.join(SUFFIXES)}{more}")


def _refuse_circle(entry: os.DirEntry[str]) -> None:
    """Refuse a link that leads to itself, of which nobody can ask whether it is a folder.

    Raises:
        InputError: If it does.
    """
    try:
        entry.is_dir()
    except OSError as error:
        raise InputError(
            f"{entry.path}: cannot be followed ({error.strerror}); remove it"
        ) from None


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in LITTER
