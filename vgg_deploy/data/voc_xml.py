"""Reads one annotation file of Pascal VOC's form, which ILSVRC uses too.

Such a file says which objects an image shows and where:

    <annotation>
      <filename>000001.jpg</filename>
      <size><width>353</width><height>500</height><depth>3</depth></size>
      <object>
        <name>dog</name> <difficult>0</difficult>
        <bndbox><xmin>48</xmin><ymin>240</ymin><xmax>195</xmax><ymax>371</ymax></bndbox>
      </object>
    </annotation>

Files come from others. A document type, and so every entity of its own, is refused, and size and
depth are bounded. Coordinates are given as they stand in the file.
"""

import os
import re
from typing import NamedTuple
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from vgg_deploy.errors import InputError
from vgg_deploy.printable import printable
from vgg_deploy.regular_files import read_regular

MOST_BYTES = 4 * 2**20  # of a file; the largest of VOC and ILSVRC have some dozen kB
MOST_DEPTH = 16  # VOC nests five elements
MOST_NAME = 200  # characters of a class or a file name
NUMBER = re.compile(r"[+-]?(?:[0-9]{1,15}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?")
CORNERS = ("xmin", "ymin", "xmax", "ymax")
FLAGS = {"0": False, "1": True, "": False}
HINT = "correct the file or remove it"


class VocObject(NamedTuple):
    """An object of an image.

    Attributes:
        name: Its class.
        corners: xmin, ymin, xmax, ymax as they stand in the file, pixels; None without a box.
        difficult: Whether the file marks it as difficult; VOC's rules leave such objects out.
        truncated: Whether the file says that the box does not hold the whole object.
    """

    name: str
    corners: tuple[float, float, float, float] | None
    difficult: bool = False
    truncated: bool = False


class VocAnnotation(NamedTuple):
    """What a file says.

    Attributes:
        filename: Of the image, as the file has it: without suffix or even wrong in ILSVRC's files.
            Empty if it is not given.
        size: Width and height of the image, pixels; None if they are not given, or are 0.
        objects: In the order of the file. Parts of objects are left out.
    """

    filename: str
    size: tuple[int, int] | None
    objects: tuple[VocObject, ...]


def read_voc(path: str | os.PathLike[str]) -> VocAnnotation:
    """Read an annotation file.

    Args:
        path: Of the file.

    Raises:
        InputError: If it cannot be read, is not such a file, or has a value that cannot be; names
            the file, and the object by its number from 1.
    """
    where = printable(os.fspath(path))
    try:
        data = read_regular(path, MOST_BYTES)
    except OSError as error:
        raise InputError(f"{where}: cannot be read ({error.strerror or error})") from None
    return parse_voc(data, where)


def parse_voc(data: bytes, where: str) -> VocAnnotation:
    """Read the bytes of an annotation file.

    Args:
        data: Of the file.
        where: Names it in errors.

    Raises:
        InputError: As `read_voc`.
    """
    root = _parse(data, where)
    if root.tag != "annotation":
        raise InputError(
            f"{where}: begins with <{printable(root.tag):.40}>, expected <annotation> as in Pascal "
            "VOC's files",
            HINT,
        )
    objects = tuple(
        _object(element, f"{where}, object {number}")
        for number, element in enumerate(root.findall("object"), start=1)
    )
    return VocAnnotation(_short_text(root, "filename", where), _size(root, where), objects)


def _parse(data: bytes, where: str) -> Element:
    """Build the tree of elements.

    Expat's own handlers are used, as the parser of ElementTree knows no way to refuse a document
    type.
    """
    builder, depth = TreeBuilder(), 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MOST_DEPTH:
            raise InputError(f"{where}: nests more than {MOST_DEPTH} elements", HINT)
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    def refuse(*_: object) -> None:
        raise InputError(
            f"{where}: declares a document type, which an annotation does not need and which may "
            "hide other files; remove the declaration"
        )

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, LookupError, ValueError) as error:
        # the last two: encodings that Python does not know, or not as single bytes
        raise InputError(f"{where}: is not XML ({error})", HINT) from None
    return builder.close()


def _object(element: Element, where: str) -> VocObject:
    name = _short_text(element, "name", where)
    if not name:
        raise InputError(f"{where}: has no <name>", HINT)
    where = f"{where} ({printable(name)})"
    box = element.find("bndbox")
    corners = None if box is None else _corners(box, where)
    flags = (_flag(element, flag, where) for flag in ("difficult", "truncated"))
    return VocObject(name, corners, *flags)


def _corners(box: Element, where: str) -> tuple[float, float, float, float]:
    xmin, ymin, xmax, ymax = (_number(box, corner, where) for corner in CORNERS)
    return xmin, ymin, xmax, ymax


def _number(element: Element, tag: str, where: str) -> float:
    text = _text(element, tag)
    if not NUMBER.fullmatch(text):
        found = f"{printable(text)!r:.40}" if text else "missing"
        raise InputError(f"{where}: <{tag}> is {found}, expected a number", HINT)
    return float(text)


def _size(root: Element, where: str) -> tuple[int, int] | None:
    """Width and height; files made by hand often have zeros or none."""
    size = root.find("size")
    if size is None:
        return None
    width, height = (_number(size, side, f"{where}: <size>") for side in ("width", "height"))
    if width == height == 0:
        return None
    if not (width.is_integer() and height.is_integer() and width > 0 and height > 0):
        raise InputError(f"{where}: <size> {width:g} x {height:g} is no size of an image", HINT)
    return int(width), int(height)


def _flag(element: Element, tag: str, where: str) -> bool:
    text = _text(element, tag)
    if text not in FLAGS:
        raise InputError(f"{where}: <{tag}> is {printable(text)!r:.40}, expected 0 or 1", HINT)
    return FLAGS[text]


def _short_text(element: Element, tag: str, where: str) -> str:
    text = _text(element, tag)
    if len(text) > MOST_NAME:
        raise InputError(f"{where}: <{tag}> has {len(text):,} characters", HINT)
    return text


def _text(element: Element, tag: str) -> str:
    """The text of the first child of a name; empty without one."""
    return (element.findtext(tag) or "").strip()
