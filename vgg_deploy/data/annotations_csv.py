"""Annotations as a table: one row per object, image,class,xmin,ymin,xmax,ymax."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vgg_deploy.data.annotation_names import image_name
from vgg_deploy.data.annotation_records import Annotation, Marked
from vgg_deploy.data.voc_xml import MOST_NAME, NUMBER
from vgg_deploy.errors import InputError
from vgg_deploy.printable import printable
from vgg_deploy.regular_files import read_regular_text

COLUMNS = ("image", "class", "xmin", "ymin", "xmax", "ymax")
MOST_PATH = 4096  # characters of an image's name
HINT = "correct the row or remove it"


@dataclass(frozen=True)
class BoxTable:
    """The rows of a table, by image."""

    where: str
    names: Sequence[str]
    objects: Sequence[Sequence[Marked]]

    def read(self, index: int) -> Annotation:
        """The objects of one image."""
        return Annotation(self.where, None, self.objects[index])


def read_table(path: Path) -> BoxTable:
    """Read a table.

    Other columns than those named above do not count. An image may have several rows.

    Args:
        path: UTF-8, with or without a byte order mark; separated by commas.

    Raises:
        InputError: If the file cannot be read, lacks a column, has no row, or a value in it cannot
            be; names the line.
    """
    where = printable(str(path))
    try:
        text = read_regular_text(path, "utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{where}: cannot be read as a table in UTF-8 ({reason})") from None
    reader = csv.reader(io.StringIO(text), strict=True)
    objects: dict[str, list[Marked]] = {}
    try:
        places = _places(next(reader, []), where)
        for row in reader:
            if row:
                name, marked = _marked(row, places, f"{where}, line {reader.line_num}")
                objects.setdefault(name, []).append(marked)
    except csv.Error as error:
        raise InputError(f"{where}, line {reader.line_num}: is no CSV ({error})", HINT) from None
    if not objects:
        raise InputError(f"{where}: has no row below its head", "give each object a row")
    return BoxTable(where, list(objects), list(objects.values()))


def _places(head: list[str], where: str) -> list[int]:
    """Where the columns stand."""
    names = [name.strip().lower() for name in head]
    missing = [column for column in COLUMNS if names.count(column) != 1]
    if missing:
        raise InputError(
            f"{where}: its first line does not name the column {missing[0]} once; expected "
            f"{','.join(COLUMNS)}"
        )
    return [names.index(column) for column in COLUMNS]


def _marked(row: list[str], places: list[int], where: str) -> tuple[str, Marked]:
    if len(row) <= max(places):
        raise InputError(f"{where}: has {len(row)} values, fewer than columns", HINT)
    image, name, *corners = (row[place].strip() for place in places)
    for column, text, most in (("image", image, MOST_PATH), ("class", name, MOST_NAME)):
        if not 0 < len(text) <= most:
            raise InputError(f"{where}: its {column} has {len(text):,} characters", HINT)
    for column, text in zip(COLUMNS[2:], corners, strict=True):
        if not NUMBER.fullmatch(text):
            raise InputError(
                f"{where}: its {column} is {printable(text)!r:.40}, expected a number", HINT
            )
    xmin, ymin, xmax, ymax = map(float, corners)
    marked = Marked(name, (xmin, ymin, xmax, ymax), f"{where} ({printable(name)})")
    return image_name(image.replace("\\", "/").removeprefix("./")), marked
