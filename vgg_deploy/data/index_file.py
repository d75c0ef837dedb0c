"""Stores the names and numbers of a million images in files that are mapped instead of read.

Layout: MAGIC; the length of the header, int64; the header (JSON, padded to 8 bytes); int64 columns
with one value per name; int64 bounds of the names, one more than there are names; the names' bytes;
the CRC-32 of everything before it, int64.
"""

import json
import os
import zlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, overload

import numpy as np

from vgg_deploy.errors import InputError
from vgg_deploy.files import whole_file
from vgg_deploy.json_files import as_object, entry, parse_json
from vgg_deploy.regular_files import open_regular

MAGIC = b"vggindx1"
TYPE = np.dtype("<i8")
MOST_BYTES = 2**32  # of an index; that of fourteen million images has a third of it
CHUNK = 2**20  # bytes read at a time for the checksum


class Names(Sequence[str]):
    """Strings stored as bytes in one block, which may lie in a mapped file.

    A string is made when it is asked for.

    Attributes:
        block: (bytes,) uint8.
        begins: (names,) int64, offset of each name in the block.
        ends: (names,) int64, offset behind each name.
        prefix: Put before every name.

    Example:
        >>> names = Names.of(["cat", "dog"], prefix="val/")
        >>> names[1], len(names), names == ("val/cat", "val/dog")
        ('val/dog', 2, True)
    """

    def __init__(self, block: np.ndarray, begins: np.ndarray, ends: np.ndarray, prefix: str = ""):
        self.block, self.begins, self.ends, self.prefix = block, begins, ends, prefix

    @classmethod
    def of(cls, names: Iterable[str], prefix: str = "") -> "Names":
        """Store some strings, which the prefix precedes."""
        builder = NamesBuilder()
        for name in names:
            builder.add(name)
        return builder.names(prefix)

    def __len__(self) -> int:
        return len(self.begins)

    @overload
    def __getitem__(self, at: int) -> str: ...

    @overload
    def __getitem__(self, at: slice) -> "Names": ...

    def __getitem__(self, at: int | slice) -> "str | Names":
        if isinstance(at, slice):
            return self.take(at)
        return self.prefix + os.fsdecode(self.block[self.begins[at] : self.ends[at]].tobytes())

    def __eq__(self, other: object) -> bool:  # and so, with its content, it has no hash
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(mine == its for mine, its in zip(self, other, strict=True))

    def __repr__(self) -> str:
        more = ", ..." if len(self) > 3 else ""
        return f"Names({len(self)}: {', '.join(self[:3])}{more})"

    def take(self, kept: np.ndarray | slice) -> "Names":
        """Select some of the names, in the order given."""
        return Names(self.block, self.begins[kept], self.ends[kept], self.prefix)

    def prefixed(self, prefix: str) -> "Names":
        """Replace the prefix of all names."""
        return Names(self.block, self.begins, self.ends, prefix)


class NamesBuilder:
    """Collects names in little more than their own bytes."""

    def __init__(self) -> None:
        self.block, self.bounds = bytearray(), array("q", [0])

    def add(self, name: str) -> None:
        """Append a name."""
        self.block += os.fsencode(name)
        self.bounds.append(len(self.block))

    def names(self, prefix: str = "") -> Names:
        """All names so far, which the prefix precedes."""
        bounds = np.array(self.bounds, TYPE)
        return Names(np.frombuffer(self.block, np.uint8), bounds[:-1], bounds[1:], prefix)


class Index(NamedTuple):
    """The content of an index file."""

    head: dict[str, Any]  # small things, as JSON returns them
    columns: dict[str, np.ndarray]  # (names,) int64 each
    names: Names


class DamagedIndex(ValueError):
    """A file that is not a whole index."""


class _Header(NamedTuple):
    head: dict[str, Any]
    columns: list[str]
    names: int
    end: int  # offset behind it, bytes


class _ChecksumWriter:
    """Writes a file and computes the CRC-32 of what it wrote."""

    def __init__(self, file: BinaryIO):
        self.file, self.crc = file, 0

    def write(self, data: bytes | memoryview) -> None:
        self.crc = zlib.crc32(data, self.crc)
        self.file.write(data)

    def write_checksum(self) -> None:
        self.file.write(np.array(self.crc, TYPE).tobytes())


def write_index(path: Path, index: Index) -> None:
    """Write an index file.

    Args:
        path: Where; an old file is replaced once the new one is whole.
        index: Its content.

    Raises:
        InputError: If the file cannot be written.
    """
    columns = {name: np.ascontiguousarray(column, TYPE) for name, column in index.columns.items()}
    lengths = index.names.ends - index.names.begins
    bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(TYPE)
    fields = {"head": index.head, "columns": list(columns), "names": len(index.names)}
    header = json.dumps(fields).encode()
    header += b" " * (-len(header) % TYPE.itemsize)
    with whole_file(path) as partial, open(partial, "wb") as file:
        writer = _ChecksumWriter(file)
        writer.write(MAGIC)
        writer.write(np.array(len(header), TYPE).tobytes())
        writer.write(header)
        for column in (*columns.values(), bounds):
            writer.write(column.data)
        for run in _runs(index.names):
            writer.write(run)
        writer.write_checksum()


def read_index(path: Path) -> Index:
    """Map an index file.

    Args:
        path: As `write_index` wrote it.

    Raises:
        DamagedIndex: If it is any other file.
        OSError: If there is none.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size < 4 * TYPE.itemsize:
            raise DamagedIndex("too short")
        if size > MOST_BYTES:  # such as a hole, which would be read for hours
            raise DamagedIndex(f"more than {MOST_BYTES // 2**30} GiB")
        names_end = size - TYPE.itemsize
        _check_sum(file, names_end)
        data = np.asarray(np.memmap(file, np.uint8, "r", shape=(size,)))
    header = _read_header(data)
    row = header.names * TYPE.itemsize
    bounds_begin = header.end + len(header.columns) * row
    block = bounds_begin + row + TYPE.itemsize
    if header.names < 0 or block > names_end:
        raise DamagedIndex("shorter than its header says")
    columns = {}
    for i, name in enumerate(header.columns):
        begin = header.end + i * row
        columns[name] = data[begin : begin + row].view(TYPE)
    bounds = data[bounds_begin:block].view(TYPE)
    if bounds[0] or bounds[-1] != names_end - block or (bounds[1:] < bounds[:-1]).any():
        raise DamagedIndex("its names do not fill their part of the file")
    return Index(header.head, columns, Names(data[block:names_end], bounds[:-1], bounds[1:]))


def _read_header(data: np.ndarray) -> _Header:
    """Read what stands before the columns."""
    length = int(data[8:16].view(TYPE)[0])
    if data[:8].tobytes() != MAGIC or not 0 < length <= len(data) or length % TYPE.itemsize:
        raise DamagedIndex("another format")
    try:
        text = data[16 : 16 + length].tobytes().decode("utf-8")
        fields = as_object(parse_json(text, "header"), "header")
        columns = entry(fields, "columns", list, "header")
        if not all(isinstance(name, str) for name in columns) or len(set(columns)) < len(columns):
            raise DamagedIndex("the columns of its header are not different names")
        head: dict[str, Any] = entry(fields, "head", dict, "header")
        return _Header(head, columns, entry(fields, "names", int, "header"), 16 + length)
    except (UnicodeDecodeError, InputError) as error:
        raise DamagedIndex(f"its header is not one of an index ({error})") from None


def _check_sum(file: BinaryIO, length: int) -> None:
    """Read through the file once, without keeping what is read."""
    if file.read(len(MAGIC)) != MAGIC:
        raise DamagedIndex("another format")
    crc = zlib.crc32(MAGIC)
    length -= len(MAGIC)
    while length:
        data = file.read(min(CHUNK, length))
        if not data:
            raise DamagedIndex("cut short")
        crc = zlib.crc32(data, crc)
        length -= len(data)
    if file.read(TYPE.itemsize + 1) != np.array(crc, TYPE).tobytes():
        raise DamagedIndex("its checksum differs")


def _runs(names: Names) -> Iterator[memoryview]:
    """The names' bytes in order; those that follow one another in the block come at once."""
    if not len(names):
        return
    breaks = np.flatnonzero(names.begins[1:] != names.ends[:-1]) + 1
    for first, end in zip([0, *breaks], [*breaks, len(names)], strict=True):
        yield names.block[names.begins[first] : names.ends[end - 1]].data
