"""Finds the files in a tar, and where they lie, in one pass over a stream.

Nothing is extracted, and the tar may be anybody's. Only headers are interpreted, by the standard
library's TarInfo. Names that are too long for a header come in blocks of their own (pax, GNU).
Unlike tarfile, this reads no more than a bounded part into memory and cannot be led in circles.
"""

import tarfile
import unicodedata
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple, cast

from vgg_deploy.errors import InputError

BLOCK = tarfile.BLOCKSIZE
MOST_BYTES = 2**28  # of one member, 256 MiB
MOST_NESTED_BYTES = 2**34  # of a tar in a tar, 16 GiB
MOST_NAME_BYTES = 2**20  # of a block with a long name
CHUNK = 2**20  # bytes
REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE)
LONG_NAMES = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME)
BREAKING = ("Cc", "Zl", "Zp")  # characters that would break a line
# About the member that follows, or about all of them
HEADERS = (*LONG_NAMES, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGLINK)
# Have no data, whatever size they state
WITHOUT_DATA = (
    tarfile.LNKTYPE,
    tarfile.SYMTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.DIRTYPE,
    tarfile.FIFOTYPE,
)


class Member(NamedTuple):
    """A regular file in a tar."""

    name: str
    begin: int  # offset of its bytes in the tar
    size: int  # bytes
    crc32: int
    start: bytes  # its first bytes, at most a block


@dataclass
class Body:
    """The bytes of one member, read forward from the tar that contains it.

    Attributes:
        file: The tar.
        left: Bytes that were not read yet.
    """

    file: BinaryIO
    left: int

    def read(self, size: int) -> bytes:
        """Read at most `size` bytes; fewer only at the member's end, or at that of a cut tar."""
        data = self.file.read(min(size, self.left))
        self.left -= len(data)
        return data


class OpenMember(NamedTuple):
    """A regular file in a tar whose bytes can be read until the next member is asked for."""

    name: str
    begin: int  # offset of its bytes in the tar
    body: Body


def members(file: BinaryIO, tar: str) -> Iterator[Member]:
    """Yield the regular files of an uncompressed tar in their order.

    Links, folders and devices are skipped.

    Args:
        file: The tar, read forward from its start.
        tar: Its name, for messages.

    Yields:
        One member per regular file.

    Raises:
        InputError: If the file is not a tar, is cut short, or has a member of more than MOST_BYTES.
    """
    for name, begin, body in open_members(file, tar, MOST_BYTES):
        size = body.left
        crc32, start = _checksum(body, size, tar, name)
        yield Member(name, begin, size, crc32, start)


def nested_members(file: BinaryIO, tar: str) -> Iterator[tuple[str, Member]]:
    """Yield the regular files of the tars in a tar, in their order. All are uncompressed.

    Args:
        file: The outer tar, read forward from its start.
        tar: Its name, for messages.

    Yields:
        The name of the inner tar, and one of its members; the offset is that in the outer tar.

    Raises:
        InputError: As `members`; also for a member of the outer tar that is no tar by its name.
    """
    for name, begin, body in open_members(file, tar, MOST_NESTED_BYTES):
        where = f"{tar}, {name}"
        if not name.endswith(".tar"):
            raise InputError(f"{where}: is no tar, expected one tar per class; remove it")
        for member in members(cast(BinaryIO, body), where):
            yield name, member._replace(begin=begin + member.begin)


def open_members(file: BinaryIO, tar: str, most_bytes: int) -> Iterator[OpenMember]:
    """Yield the regular files of an uncompressed tar, for the caller to read.

    What the caller leaves of a member is read over.

    Args:
        file: The tar, read forward from its start.
        tar: Its name, for messages.
        most_bytes: Of one member.

    Yields:
        One member per regular file.

    Raises:
        InputError: If the file is not a tar, is cut short, or has a larger member.
    """
    offset, last = 0, "its beginning"
    long_name: str | None = None
    while (block := _block(file)) != bytes(BLOCK):
        info = _header(block, tar, last)
        name = long_name or info.name
        if any(unicodedata.category(character) in BREAKING for character in name):
            raise InputError(
                f"{tar}: has a member named {name!r:.80}, with control characters; make it again"
            )
        size = 0 if info.type in WITHOUT_DATA else info.size
        most = MOST_NAME_BYTES if info.type in LONG_NAMES else most_bytes
        _check_size(size, most, f"{tar}, {name}")
        offset += BLOCK
        padded = -(-size // BLOCK) * BLOCK
        if info.type in LONG_NAMES:
            data = _read_exactly(file, padded, tar, name)[:size]
            long_name = _long_name(data, info.type, f"{tar}, {name}") or long_name
        elif info.type in REGULAR:
            body = Body(file, size)
            yield OpenMember(name, offset, body)
            _checksum(body, body.left, tar, name)
            _read_exactly(file, padded - size, tar, name)
        else:
            _checksum(file, padded, tar, name)
        if info.type not in HEADERS:
            last, long_name = name, None
        offset += padded


def _block(file: BinaryIO) -> bytes:
    """The next block; shorter only at the end."""
    block = file.read(BLOCK)
    while 0 < len(block) < BLOCK and (more := file.read(BLOCK - len(block))):
        block += more
    return block


def _header(block: bytes, tar: str, last: str) -> tarfile.TarInfo:
    """Interpret the block before a member; `last` names the member before it."""
    if len(block) < BLOCK:
        raise InputError(
            f"{tar}: is cut short after {last}, the end of the tar is missing; "
            "make or copy it again"
        )
    try:
        return tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError) as error:
        raise InputError(
            f"{tar}: not an uncompressed tar, or damaged after {last} ({error}); "
            "make or copy it again"
        ) from None


def _check_size(size: int, most: int, where: str) -> None:
    if not 0 <= size <= most:
        raise InputError(
            f"{where}: states a size of {size} bytes, expected at most {most}; "
            "remove it from the tar"
        )


def _long_name(data: bytes, kind: bytes, where: str) -> str | None:
    """The name in a block before its member; None if the block is about something else."""
    if kind == tarfile.GNUTYPE_LONGNAME:
        return data.rstrip(b"\0").decode("utf-8", "surrogateescape")
    name = None
    while data.rstrip(b"\0"):  # records "LENGTH KEY=VALUE\n"
        length = data.partition(b" ")[0]
        end = int(length) if length.isdigit() and len(length) < 8 else 0
        key, _, value = data[len(length) + 1 : max(end - 1, 0)].partition(b"=")
        if not key or end > len(data):
            raise InputError(f"{where}: a damaged pax header; make the tar again")
        if key == b"path":
            name = value.decode("utf-8", "surrogateescape")
        elif key == b"size" or key.startswith(b"GNU.sparse"):
            raise InputError(
                f"{where}: a sparse or huge file ({key.decode()}), expected images as they are; "
                "make the tar again"
            )
        data = data[end:]
    return name


def _checksum(file: BinaryIO | Body, size: int, tar: str, name: str) -> tuple[int, bytes]:
    """Read `size` bytes; return their CRC-32 and the first of them."""
    crc, start = 0, b""
    while size:
        data = _read_exactly(file, min(size, CHUNK), tar, name)
        crc = zlib.crc32(data, crc)
        start = start or data[:BLOCK]
        size -= len(data)
    return crc, start


def _read_exactly(file: BinaryIO | Body, size: int, tar: str, name: str) -> bytes:
    data = file.read(size)
    while len(data) < size:
        more = file.read(size - len(data))
        if not more:
            raise InputError(f"{tar}: is cut short within {name}; make or copy it again")
        data += more
    return data
