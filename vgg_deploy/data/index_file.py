"""Index files: the names and numbers of a million images, mapped into memory instead of read.

Layout: MAGIC, int64 length of the header, the header (JSON, padded to 8 bytes), int64 columns of one value a name, int64
bounds of the names (one more than there are names), the names' bytes, and last the CRC-32 of everything before it.
"""

import json
import os
import zlib
from array import array
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vgg_deploy.files import whole_file

MAGIC = b"vggindx1"
TYPE = np.dtype("<i8")
CHUNK = 2**20  # bytes read at a time for the checksum


class Names(Sequence):
    """Strings held as bytes in one block, which may lie in a mapped file: a string is made when it is asked for."""

    def __init__(self, block: np.ndarray, begins: np.ndarray, ends: np.ndarray, prefix: str = ""):
        """Args: block, uint8; begins and ends, (names,) int64 places in it; prefix, put before every name."""
        self.block, self.begins, self.ends, self.prefix = block, begins, ends, prefix

    @classmethod
    def of(cls, names: Iterable[str], prefix: str = "") -> "Names":
        builder = NamesBuilder()
        for name in names:
            builder.add(name)
        return builder.names(prefix)

    def __len__(self) -> int:
        return len(self.begins)

    def __getitem__(self, at):
        if isinstance(at, slice):
            return self.take(at)
        return self.prefix + os.fsdecode(self.block[self.begins[at] : self.ends[at]].tobytes())

    def __eq__(self, other) -> bool:
        return (
            isinstance(other, Sequence)
            and len(self) == len(other)
            and all(a == b for a, b in zip(self, other))
        )

    __hash__ = None

    def __repr__(self) -> str:
        return f"Names({len(self)}: {', '.join(self[:3])}{', ...' if len(self) > 3 else ''})"

    def take(self, kept: np.ndarray | slice) -> "Names":
        """Some of them, in the order given."""
        return Names(self.block, self.begins[kept], self.ends[kept], self.prefix)

    def prefixed(self, prefix: str) -> "Names":
        return Names(self.block, self.begins, self.ends, prefix)


class NamesBuilder:
    """Collects names in little more than their own bytes."""

    def __init__(self):
        self.block, self.bounds = bytearray(), array("q", [0])

    def add(self, name: str) -> None:
        self.block += os.fsencode(name)
        self.bounds.append(len(self.block))

    def names(self, prefix: str = "") -> Names:
        bounds = np.array(self.bounds, TYPE)
        return Names(np.frombuffer(self.block, np.uint8), bounds[:-1], bounds[1:], prefix)


class Index(NamedTuple):
    """What an index file holds."""

    head: dict  # the small things, as JSON gives them back
    columns: dict[str, np.ndarray]  # (names,) int64 each
    names: Names


class DamagedIndex(ValueError):
    """A file that is no whole index."""


def write_index(path: Path, index: Index) -> None:
    """Raises: InputError if the place cannot be written."""
    columns = {name: np.ascontiguousarray(column, TYPE) for name, column in index.columns.items()}
    bounds = np.concatenate([[0], np.cumsum(index.names.ends - index.names.begins)]).astype(TYPE)
    header = json.dumps(
        {"head": index.head, "columns": list(columns), "names": len(index.names)}
    ).encode()
    header += b" " * (-len(header) % TYPE.itemsize)
    with whole_file(path) as partial, open(partial, "wb") as file:
        crc = 0

        def write(data) -> None:
            nonlocal crc
            crc = zlib.crc32(data, crc)
            file.write(data)

        write(MAGIC)
        write(np.array(len(header), TYPE).tobytes())
        write(header)
        for column in (*columns.values(), bounds):
            write(column.data)
        _each_run(index.names, write)
        file.write(np.array(crc, TYPE).tobytes())


def read_index(path: Path) -> Index:
    """Map an index file. Raises: DamagedIndex for any other file, OSError if there is none."""
    size = os.stat(path).st_size
    if size < 4 * TYPE.itemsize:
        raise DamagedIndex("too short")
    _check_sum(path, size - TYPE.itemsize)
    held = np.asarray(np.memmap(path, np.uint8, "r"))
    length = int(held[8:16].view(TYPE)[0])
    if held[:8].tobytes() != MAGIC or not 0 < length <= size or length % TYPE.itemsize:
        raise DamagedIndex("another format")
    try:
        header = json.loads(held[16 : 16 + length].tobytes())
        head, names, columns = (
            dict(header["head"]),
            int(header["names"]),
            [str(name) for name in header["columns"]],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedIndex(f"its header is no header ({error!r})") from None
    begin, row = 16 + length, names * TYPE.itemsize
    block = begin + (len(columns) + 1) * row + TYPE.itemsize
    if names < 0 or block + TYPE.itemsize > size:
        raise DamagedIndex("shorter than its header says")
    found = {
        name: held[begin + i * row : begin + (i + 1) * row].view(TYPE)
        for i, name in enumerate(columns)
    }
    bounds = held[begin + len(columns) * row : block].view(TYPE)
    if bounds[0] or bounds[-1] != size - TYPE.itemsize - block or (bounds[1:] < bounds[:-1]).any():
        raise DamagedIndex("its names do not fill their place")
    return Index(head, found, Names(held[block : size - TYPE.itemsize], bounds[:-1], bounds[1:]))


def _check_sum(path: Path, length: int) -> None:
    """Read through the file once; what is read is not kept."""
    crc = 0
    with open(path, "rb") as file:
        while length:
            data = file.read(min(CHUNK, length))
            if not data:
                raise DamagedIndex("cut short")
            crc, length = zlib.crc32(data, crc), length - len(data)
        if file.read() != np.array(crc, TYPE).tobytes():
            raise DamagedIndex("its checksum is another")


def _each_run(names: Names, write: Callable) -> None:
    """The names' bytes in order; those that lie one after another at once."""
    if not len(names):
        return
    breaks = np.flatnonzero(names.begins[1:] != names.ends[:-1]) + 1
    for first, last in zip([0, *breaks], [*breaks, len(names)]):
        write(names.block[names.begins[first] : names.ends[last - 1]].data)
