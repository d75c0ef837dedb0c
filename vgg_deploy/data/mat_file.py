"""Reads a struct array of numbers and texts from a MATLAB file (level 5, as MATLAB 5 to 7 write).

That is all of the format that ILSVRC's devkit needs. The file may be anybody's: every length is
checked against what is there, and nothing is run. Source: "MAT-File Format", The MathWorks.
"""

import struct
import zlib
from collections.abc import Iterator
from math import prod
from typing import NamedTuple

import numpy as np

HEADER = 128  # bytes
MATRIX, COMPRESSED = 14, 15  # types of elements
STRUCT, CHAR = 2, 4  # classes of arrays
NUMERIC = range(6, 16)
TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
MOST_BYTES = 2**26  # of an array, after decompression

Row = dict[str, object]  # str, or an array of numbers, or None for anything else


class Damaged(ValueError):
    """A file that is no whole MATLAB file of level 5."""


class _Element(NamedTuple):
    kind: int
    body: bytes


def read_struct(data: bytes, name: str) -> list[Row]:
    """Read the rows of one struct array.

    Args:
        data: The whole file.
        name: Of the variable.

    Returns:
        One row per struct: a value per field. Cells and nested structs are None.

    Raises:
        Damaged: If the file is another, or has no such struct array.
    """
    mark = data[126:HEADER]
    if len(data) < HEADER or mark not in (b"IM", b"MI"):
        raise Damaged("it is no MATLAB file of level 5")
    order = "<" if mark == b"IM" else ">"
    for element in _elements(data[HEADER:], order):
        if element.kind == COMPRESSED:
            element = next(_elements(_inflated(element.body), order), element)
        if element.kind == MATRIX:
            rows = _struct(element.body, name, order)
            if rows is not None:
                return rows
    raise Damaged(f"it has no struct array {name!r}")


def _elements(data: bytes, order: str) -> Iterator[_Element]:
    """Split data into elements: a tag of type and length, and the bytes, padded to 8."""
    at = 0
    while at + 8 <= len(data):
        kind, length = struct.unpack_from(f"{order}II", data, at)
        if kind >> 16:  # a short element: up to 4 bytes within the tag
            kind, length, begin, step = kind & 0xFFFF, kind >> 16, at + 4, 8
            if length > 4:
                raise Damaged("a short element is too long")
        else:
            begin, padding = at + 8, 0 if kind == COMPRESSED else -length % 8
            step = 8 + length + padding
        if begin + length > len(data):
            raise Damaged("it is cut short")
        yield _Element(kind, data[begin : begin + length])
        at += step


def _inflated(body: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(body, MOST_BYTES)
    except zlib.error as error:
        raise Damaged(f"its compressed data are damaged ({error})") from None
    if inflater.unconsumed_tail or not inflater.eof:
        raise Damaged("its compressed data are too large or cut short")
    return data


def _struct(body: bytes, name: str, order: str) -> list[Row] | None:
    """Rows of a struct array; None for any other array."""
    parts = list(_elements(body, order))
    kind, count, own_name = _head(parts, order)
    if kind != STRUCT or own_name != name:
        return None
    if len(parts) < 5:
        raise Damaged("a struct array has no fields")
    width = int(_integers(parts[3], order)[:1].sum())
    joined = parts[4].body
    if width < 1 or len(joined) % width:
        raise Damaged("the names of fields are damaged")
    fields = [
        joined[i : i + width].split(b"\0")[0].decode("latin-1")
        for i in range(0, len(joined), width)
    ]
    cells = parts[5:]
    if len(cells) != count * len(fields):
        raise Damaged(f"it has {len(cells)} values for {count} x {len(fields)} fields")
    values = [_value(cell, order) for cell in cells]
    rows = range(0, len(values), max(1, len(fields)))
    return [dict(zip(fields, values[i : i + len(fields)], strict=True)) for i in rows]


def _head(parts: list[_Element], order: str) -> tuple[int, int, str]:
    """Class, number of elements and name of an array."""
    if len(parts) < 3:
        raise Damaged("an array has no header")
    flags, dimensions = (_integers(part, order) for part in parts[:2])
    if not len(flags) or not len(dimensions) or (dimensions < 0).any():
        raise Damaged("the header of an array is damaged")
    return int(flags[0]) & 0xFF, prod(dimensions.tolist()), parts[2].body.decode("latin-1")


def _value(cell: _Element, order: str) -> object:
    """A text or an array of numbers; None for an empty cell and for other kinds."""
    if cell.kind != MATRIX:
        raise Damaged("a field is no array")
    parts = list(_elements(cell.body, order))
    if not parts:
        return None
    kind, count, _ = _head(parts, order)
    if len(parts) < 4 or kind not in (CHAR, *NUMERIC):
        return None
    if kind == CHAR:
        return _text(parts[3], order)
    numbers = _numbers(parts[3], order)
    if len(numbers) != count:
        raise Damaged("an array has another number of values than it states")
    return numbers


def _numbers(part: _Element, order: str) -> np.ndarray:
    if part.kind not in TYPES:
        raise Damaged(f"a number has the unknown type {part.kind}")
    dtype = np.dtype(order + TYPES[part.kind])
    if len(part.body) % dtype.itemsize:
        raise Damaged("an array is cut short")
    return np.frombuffer(part.body, dtype)


def _integers(part: _Element, order: str) -> np.ndarray:
    numbers = _numbers(part, order)
    if numbers.dtype.kind == "f":
        raise Damaged("a header has numbers that are no integers")
    return numbers


def _text(part: _Element, order: str) -> str:
    if part.kind not in TEXTS:
        raise Damaged(f"a text has the unknown type {part.kind}")
    encoding = TEXTS[part.kind]
    if encoding in ("utf-16", "utf-32"):
        encoding += "-le" if order == "<" else "-be"
    try:
        return part.body.decode(encoding)
    except UnicodeDecodeError as error:
        raise Damaged(f"a text is damaged ({error.reason})") from None
