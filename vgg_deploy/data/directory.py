"""What lies in a folder, and which of it is an image."""

import os
from pathlib import Path

from vgg_deploy.errors import InputError

SUFFIXES = (
    ".jpeg",
    ".jpg",
    ".png",
    ".bmp",
    ".gif",
    ".webp",
)  # in any case; the decoder goes by the header
LITTER = ("thumbs.db", "desktop.ini")  # left by Windows; other systems' begins with a dot


def entries(folder: Path) -> list[os.DirEntry]:
    """What lies in a folder, hidden things apart, sorted by name."""
    try:
        with os.scandir(folder) as found:
            shown = [
                entry
                for entry in found
                if not entry.name.startswith(".") and entry.name.lower() not in LITTER
            ]
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be listed ({error.strerror}), expected a folder of images; check the path and its permissions"
        ) from None
    return sorted(shown, key=lambda entry: entry.name)


def is_image(file: str) -> bool:
    return file.lower().endswith(SUFFIXES)
