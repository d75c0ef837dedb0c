"""Reads images that are byte ranges of tar shards, at random or in a stream."""

import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from vgg_deploy.data.remote import open_stored, reached, read_range
from vgg_deploy.errors import InputError

CHUNK = 2**20  # bytes


@dataclass(frozen=True, eq=False)
class Packed:
    """Where images lie in shards; ascending by shard, then by offset.

    Attributes:
        shards: Paths or URLs.
        shard: (images,) int64, index into shards.
        begin: (images,) int64, offset of the first byte in the shard.
        size: (images,) int64, bytes.
        crc32: (images,) int64, checksum.
    """

    shards: tuple[str, ...]
    shard: np.ndarray
    begin: np.ndarray
    size: np.ndarray
    crc32: np.ndarray

    def take(self, kept: np.ndarray) -> "Packed":
        """Select images.

        Args:
            kept: Their indices, ascending.
        """
        return Packed(
            self.shards, self.shard[kept], self.begin[kept], self.size[kept], self.crc32[kept]
        )

    def mark(self, index: int) -> tuple[int, int]:
        """Size and checksum, which another image at the same offset would change."""
        return int(self.size[index]), int(self.crc32[index])

    def read(self, index: int, name: str) -> bytes:
        """Read one image as it is stored.

        Args:
            index: Of the image.
            name: Of the image, for messages.

        Raises:
            InputError: If it is damaged; names the image.
            Unreachable: If its shard cannot be read; names the shard.
        """
        begin = int(self.begin[index])
        with reached(self.shards[self.shard[index]]) as (files, path):
            data = read_range(files, path, begin, begin + int(self.size[index]))
        return self._checked(index, data, name)

    def stream(
        self, indices: np.ndarray, where: Callable[[int], str]
    ) -> Iterator[tuple[int, bytes | InputError]]:
        """Read images in a given order; each shard is opened once and read forward only.

        Args:
            indices: Of the images; ascending within a shard, one shard after another.
            where: Maps an index to the image's name, for messages.

        Yields:
            The image's index, and its bytes as they are stored, or an InputError if it is damaged.

        Raises:
            Unreachable: For a shard that cannot be opened or read to its end.
        """
        with closing(_ForwardReader(self.shards)) as reader:
            for index in map(int, indices):
                shard, begin, size = self.shard[index], self.begin[index], self.size[index]
                data = reader.read(int(shard), int(begin), int(size))
                image: bytes | InputError
                try:
                    image = self._checked(index, data, where(index))
                except InputError as error:
                    image = error
                yield index, image

    def _checked(self, index: int, data: bytes, name: str) -> bytes:
        """The bytes of an image, if they are those that were indexed."""
        if len(data) != self.size[index]:
            raise InputError(
                f"{name}: its shard is cut short, {len(data)} of {self.size[index]} bytes are "
                "left; copy the shard again"
            )
        if zlib.crc32(data) != self.crc32[index]:
            raise InputError(
                f"{name}: its bytes differ from those that were indexed; copy the shard again, or "
                "make the index again with python -m train.pack"
            )
        return data


class _ForwardReader:
    """Reads byte ranges of shards in ascending order, with one shard open at a time."""

    def __init__(self, shards: tuple[str, ...]):
        self.shards = shards
        self.opened = -1  # index of the open shard
        self.offset = 0  # in it, bytes
        self.file: BinaryIO | None = None

    def read(self, shard: int, begin: int, size: int) -> bytes:
        """Read a byte range; fewer bytes only at the shard's end."""
        with reached(self.shards[shard]) as (files, path):
            if self.file is None or shard != self.opened:
                self.close()
                self.file = open_stored(files, path)
                self.opened, self.offset = shard, 0
            _skip(self.file, begin - self.offset, begin)
            data = _read_up_to(self.file, size)
        self.offset = begin + size
        return data

    def close(self) -> None:
        """Close the open shard."""
        if self.file is not None:
            self.file.close()
            self.file = None


def _skip(file: BinaryIO, gap: int, to: int) -> None:
    """Move forward to an offset; by reading if the store cannot seek.

    Stores read ahead, so a short gap is not a new request.
    """
    try:
        file.seek(to)
        return
    except (OSError, ValueError, NotImplementedError):
        pass
    while gap > 0:
        data = file.read(min(gap, CHUNK))
        if not data:
            return
        gap -= len(data)


def _read_up_to(file: BinaryIO, size: int) -> bytes:
    """Read so many bytes; fewer only at the file's end."""
    data = file.read(size)
    while len(data) < size:
        more = file.read(size - len(data))
        if not more:
            break
        data += more
    return data
