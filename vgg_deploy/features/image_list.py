"""The images of a shard as a CSV file: image, class."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from vgg_deploy.data.index_file import Names
from vgg_deploy.errors import InputError
from vgg_deploy.features.settings import AGAIN
from vgg_deploy.printable import csv_text
from vgg_deploy.regular_files import MOST_TEXT_BYTES, read_regular

HEADER = ["image", "class"]


def write_list(path: Path, images: Iterable[str], classes: Iterable[str]) -> None:
    """Write the list of a shard.

    Args:
        path: A temporary name.
        images: Names relative to the data set.
        classes: Ids of their classes; empty texts without labels.

    Raises:
        OSError: If it cannot be written.
    """
    with open(path, "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(HEADER)
        for image, label in zip(images, classes, strict=True):
            rows.writerow([csv_text(image), csv_text(label)])


def read_list(path: Path) -> Iterator[tuple[str, str]]:
    """Read the list of a shard.

    Args:
        path: As `write_list` wrote it.

    Yields:
        Image and class.

    Raises:
        InputError: If it is no such list.
    """
    try:
        text = read_regular(path, MOST_TEXT_BYTES).decode("utf-8")
        rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        if next(rows, None) != HEADER:
            raise InputError(f"{path}: does not begin with image,class", AGAIN)
        for row in rows:
            if len(row) != len(HEADER) or not row[0]:
                raise InputError(f"{path}, line {rows.line_num}: is not image,class", AGAIN)
            image, label = (_name(cell, path) for cell in row)
            yield image, label
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read as a list ({reason})", AGAIN) from None


def _name(cell: str, path: Path) -> str:
    """A name from what `csv_text` made of it."""
    if not cell.startswith('"'):
        return cell
    try:
        name = json.loads(cell)
        if not isinstance(name, str):
            raise ValueError
        name.encode("utf-8", "surrogateescape")
    except (ValueError, RecursionError):
        raise InputError(f"{path}: {cell!r:.60} is not a name", AGAIN) from None
    return name


def repeated(names: Names) -> str | None:
    """A name that a list has twice, if there is one.

    The names are compared by their hashes first, which take 8 bytes each.

    Args:
        names: Of all images.
    """
    hashes = np.fromiter((hash(name) for name in names), np.int64, len(names))
    order = np.argsort(hashes, kind="stable")
    equal = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
    seen: set[str] = set()
    for at in equal:
        for index in order[at : at + 2]:
            name = names[int(index)]
            if index == order[at + 1] and name in seen:
                return name
            seen.add(name)
    return None
