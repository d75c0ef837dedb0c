"""Reads an ONNX file field by field, without onnx and without its weights in memory.

A protobuf message is its fields one after another, each a tag and a value. Field numbers are those
of onnx.proto.
"""

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from vgg_deploy.errors import InputError
from vgg_deploy.regular_files import is_regular, open_regular, real_path

# Wire types; groups, which ONNX does not use, are refused
VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5
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
MOST_NAME_BYTES = 255  # of a file, on all systems
ENTRY_KEY, ENTRY_VALUE = 1, 2


class Field(NamedTuple):
    """One field of a message, as offsets in the file."""

    number: int
    start: int  # of its tag
    value: int  # of its value, behind the length of a length-delimited one
    end: int
    wire_type: int


@contextmanager
def mapped(path: Path) -> Iterator[memoryview]:
    """Map a file's bytes; only those that are looked at are read.

    Args:
        path: Of the file.

    Yields:
        Its bytes.

    Raises:
        InputError: If there are none.
    """
    try:
        with (
            open_regular(path) as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
            memoryview(content) as view,
        ):
            yield view
    except (OSError, ValueError) as error:  # the latter from an empty file
        raise _damaged(path, str(error)) from None


def fields(view: memoryview, start: int, end: int) -> Iterator[Field]:
    """Yield the fields of a message.

    Args:
        view: The file.
        start: Offset of the message.
        end: Offset behind it.

    Yields:
        Its fields in their order.

    Raises:
        ValueError: If the bytes are not a message.
    """
    offset = start
    while offset < end:
        tag, value = _varint(view, offset, end, 5)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == VARINT:
            _, stop = _varint(view, value, end, 10)
        elif wire_type == FIXED64:
            stop = value + 8
        elif wire_type == LENGTH_DELIMITED:
            size, value = _varint(view, value, end, 5)
            stop = value + size
        elif wire_type == FIXED32:
            stop = value + 4
        else:
            raise ValueError(f"wire type {wire_type} at byte {offset}")
        if number == 0 or number >= 2**29 or stop > end:
            raise ValueError(f"field {number} at byte {offset} does not fit into its message")
        yield Field(number, offset, value, stop, wire_type)
        offset = stop


def data_locations(path: Path) -> set[str]:
    """List the names by which a model refers to files with its weights, wherever a tensor can be.

    Args:
        path: The ONNX file.

    Returns:
        Empty if the weights are inside.

    Raises:
        InputError: If the file is damaged.
    """
    with mapped(path) as view:
        try:
            return set(_locations(view, 0, len(view), "model", 0))
        except ValueError as error:
            raise _damaged(path, str(error)) from None


def data_files(path: Path) -> list[Path]:
    """List the files beside a model that contain its weights.

    The model may be anybody's, and a library that opens it would follow it anywhere: into other
    folders, through links, to devices.

    Args:
        path: The ONNX file.

    Returns:
        Empty if the weights are inside.

    Raises:
        InputError: For anything but an existing plain file in the model's own folder.
    """
    files = []
    for location in sorted(data_locations(path)):
        file = path.parent / location
        if not _is_file_name(location):
            raise InputError(
                f"{path}: refers to weights in {location!r:.80}, which is no file name; "
                "only files beside it are read. Do not use it"
            )
        if not os.path.lexists(file):
            raise InputError(
                f"{path}: its weights are in {location}, which is missing; "
                "keep both files in one folder"
            )
        if not is_regular(file) or real_path(file).parent != real_path(path).parent:
            raise InputError(
                f"{path}: its weights {location} are no plain file in its folder; "
                "only such files are read. Copy the file there"
            )
        files.append(file)
    return files


def _is_file_name(name: str) -> bool:
    if not 0 < len(name.encode("utf-8", "surrogateescape")) <= MOST_NAME_BYTES:
        return False
    return name not in (".", "..") and not any(character in name for character in "/\\\0:")


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
    """The value of a pair of strings, if its key is "location".

    The last of repeated fields counts.
    """
    values = {
        field.number: bytes(view[field.value : field.end]) for field in fields(view, start, end)
    }
    if values.get(ENTRY_KEY) == b"location":
        yield values.get(ENTRY_VALUE, b"").decode("utf-8")  # UnicodeDecodeError is a ValueError


def _varint(view: memoryview, start: int, end: int, most: int) -> tuple[int, int]:
    """Read a number of at most so many bytes; also returns the offset behind it."""
    value = 0
    for i in range(most):
        if start + i >= end:
            raise ValueError(f"the message is cut short at byte {end}")
        byte = view[start + i]
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            return value, start + i + 1
    raise ValueError(f"a number of more than {most} bytes at byte {start}")


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(f"{path}: not a model that ONNX Runtime can load ({reason}); export it again")
