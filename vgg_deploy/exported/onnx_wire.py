"""Reading an ONNX file field by field, without onnx and without its weights in memory.

A protobuf message is its fields one after another, each a tag and a value. Field numbers are those of onnx.proto.
"""

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from vgg_deploy.errors import InputError

VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = (
    0,
    1,
    2,
    5,
)  # wire types; groups, which ONNX has none of, are refused
MOST_DEPTH = 64  # messages inside each other; subgraphs nest
# Where tensors can be: message -> number of a field -> the message in it
TENSORS_IN = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
ENTRY_KEY, ENTRY_VALUE = 1, 2


class Field(NamedTuple):
    """One field of a message, as places in the file."""

    number: int
    start: int  # of its tag
    value: int  # of its value, behind the length of a length-delimited one
    end: int
    wire_type: int


@contextmanager
def mapped(path: Path) -> Iterator[memoryview]:
    """A file's bytes, read only where they are looked at. Raises: InputError if there are none."""
    try:
        with (
            open(path, "rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as held,
            memoryview(held) as view,
        ):
            yield view
    except (OSError, ValueError) as error:  # the latter from an empty file
        raise _damaged(path, str(error)) from None


def fields(view: memoryview, start: int, end: int) -> Iterator[Field]:
    """The fields of the message that lies between two places. Raises: ValueError where it is none."""
    at = start
    while at < end:
        tag, value = _varint(view, at, end, 5)
        number, wire_type = tag >> 3, tag & 7
        match wire_type:
            case 0:
                stop = _varint(view, value, end, 10)[1]
            case 1:
                stop = value + 8
            case 2:
                size, value = _varint(view, value, end, 5)
                stop = value + size
            case 5:
                stop = value + 4
            case _:
                raise ValueError(f"wire type {wire_type} at byte {at}")
        if number == 0 or number >= 2**29 or stop > end:
            raise ValueError(f"field {number} at byte {at} does not fit into its message")
        yield Field(number, at, value, stop, wire_type)
        at = stop


def data_locations(path: Path) -> set[str]:
    """What a model calls the files its weights lie in, wherever a tensor can be; empty if they are inside.

    Raises: InputError if the file is damaged.
    """
    with mapped(path) as view:
        try:
            return set(_locations(view, 0, len(view), "model", 0))
        except ValueError as error:
            raise _damaged(path, str(error)) from None


def data_files(path: Path) -> list[Path]:
    """The files beside a model that hold its weights; none if they are inside.

    The model may be anybody's, and what opens it would follow it anywhere: into other folders, through links, to devices.
    Raises: InputError for a place that is not a plain file in the model's own folder, or one that is missing.
    """
    found = []
    for location in sorted(data_locations(path)):
        file = path.parent / location
        if not location or location in (".", "..") or any(c in location for c in "/\\\0:"):
            raise InputError(
                f"{path}: wants its weights from {location!r}, which is no file name; only files beside it are read. Do not use it"
            )
        if not file.exists():
            raise InputError(
                f"{path}: its weights are in {location}, which is missing; keep both files in one folder"
            )
        if not file.is_file() or file.resolve().parent != path.resolve().parent:
            raise InputError(
                f"{path}: its weights {location} are no plain file in its folder; only such are read. Copy the file there"
            )
        found.append(file)
    return found


def _locations(view: memoryview, start: int, end: int, message: str, depth: int) -> Iterator[str]:
    if depth > MOST_DEPTH:
        raise ValueError(f"messages nest deeper than {MOST_DEPTH}")
    if message == "entry":
        yield from _location(view, start, end)
        return
    inside = TENSORS_IN[message]
    for field in fields(view, start, end):
        if field.number in inside and field.wire_type == LENGTH_DELIMITED:
            yield from _locations(view, field.value, field.end, inside[field.number], depth + 1)


def _location(view: memoryview, start: int, end: int) -> Iterator[str]:
    """The value of a pair of strings, if its key is "location"; of repeated fields the last counts."""
    held = {
        field.number: bytes(view[field.value : field.end]) for field in fields(view, start, end)
    }
    if held.get(ENTRY_KEY) == b"location":
        yield held.get(ENTRY_VALUE, b"").decode("utf-8")  # UnicodeDecodeError is a ValueError


def _varint(view: memoryview, at: int, end: int, most: int) -> tuple[int, int]:
    """(value, place behind it) of a number of at most so many bytes."""
    value = 0
    for i in range(most):
        if at + i >= end:
            raise ValueError(f"the message is cut short at byte {end}")
        byte = view[at + i]
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value, at + i + 1
    raise ValueError(f"a number of more than {most} bytes at byte {at}")


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(f"{path}: not a model that ONNX Runtime can load ({reason}); export it again")
