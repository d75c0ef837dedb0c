"""Leaves images out that a list names, as ILSVRC's blacklist of its localisation task.

ILSVRC2014_clsloc_validation_blacklist.txt has a number on each line: 7 stands for
ILSVRC2012_val_00000007. A list may have names of images instead.
"""

import re
from pathlib import Path

import numpy as np

from vgg_deploy.data.annotation_names import image_name, match_names
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import InputError
from vgg_deploy.printable import printable
from vgg_deploy.regular_files import read_regular_text

NUMBER = re.compile(r"[0-9]{1,8}")
NUMBERED = re.compile(r"ILSVRC2012_val_([0-9]{8})(?:_n[0-9]{8})?")  # Hugging Face adds wnids


def without_listed(dataset: Dataset, path: Path) -> Dataset:
    """The images that a list does not name.

    Entries of other images do not count, since a data set may be a part.

    Args:
        dataset: The images.
        path: The list, one entry per line; empty lines do not count.

    Raises:
        InputError: If the list cannot be read, has no entry, mixes numbers and names, numbers
            images that are not named as ILSVRC's, or names all images.
    """
    where = printable(str(path))
    entries = _entries(path, where)
    numbers = [entry for entry in entries if NUMBER.fullmatch(entry)]
    if len(numbers) == len(entries):
        listed = _numbered(dataset, {int(number) for number in numbers}, where)
    elif numbers:
        raise InputError(f"{where}: mixes numbers and names of images", "use one of them")
    else:
        names = list(dict.fromkeys(image_name(entry) for entry in entries))
        listed = match_names(dataset.files, names, where) >= 0
    if listed.all():
        raise InputError(f"{where}: lists all {len(dataset):,} images, so none is left")
    return dataset.take(np.flatnonzero(~listed))


def _entries(path: Path, where: str) -> list[str]:
    try:
        text = read_regular_text(path, "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{where}: cannot be read as a list in UTF-8 ({reason})") from None
    entries = [line.strip() for line in text.splitlines() if line.strip()]
    if not entries:
        raise InputError(f"{where}: lists no image", "leave it out")
    return entries


def _numbered(dataset: Dataset, numbers: set[int], where: str) -> np.ndarray:
    """(images,) bool: those whose number is listed."""
    listed = np.zeros(len(dataset), bool)
    for index, file in enumerate(dataset.files):
        match = NUMBERED.fullmatch(image_name(file).rpartition("/")[2])
        if not match:
            raise InputError(
                f"{where}: has numbers of ILSVRC's validation images, and {printable(file)} is not "
                "named as one",
                "list names of images",
            )
        listed[index] = int(match[1]) in numbers
    return listed
