"""What lies in a tar file and where, read once in a stream. Nothing is extracted; a tar may be anybody's.

Only headers are interpreted, by the standard library's TarInfo; names longer than a header has room for come in blocks of
their own (pax, GNU). Other than tarfile this reads no more than a bounded part into memory and cannot be led in circles.
"""

import tarfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from vgg_deploy.errors import InputError

BLOCK = tarfile.BLOCKSIZE
MOST_BYTES = 2**28  # of one member, 256 MiB
MOST_NAME_BYTES = 2**20  # of a block that holds a long name
CHUNK = 2**20
REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE)
LONG_NAMES = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME)
HEADERS = (
    *LONG_NAMES,
    tarfile.XGLTYPE,
    tarfile.GNUTYPE_LONGLINK,
)  # about the member that follows, or all of them
WITHOUT_DATA = (
    tarfile.LNKTYPE,
    tarfile.SYMTYPE,
    tarfile.CHRTYPE,
    tarfile.BLKTYPE,
    tarfile.DIRTYPE,
    tarfile.FIFOTYPE,
)  # whatever size they say


class Member(NamedTuple):
    """A regular file in a tar."""

    name: str
    begin: int  # of its bytes in the tar
    size: int  # bytes
    crc32: int
    start: bytes  # its first bytes, at most a block


def members(file: BinaryIO, tar: str) -> Iterator[Member]:
    """The regular files of an uncompressed tar in their order; links, folders and devices are passed over.

    Args: file, read from its beginning forward; tar, its name for messages.
    Raises: InputError for a file that is no tar, is cut short, or has a member of more than MOST_BYTES.
    """
    place, long_name, last = 0, None, "its beginning"
    while (block := file.read(BLOCK)) != bytes(BLOCK):
        if len(block) < BLOCK:
            raise InputError(
                f"{tar}: is cut short after {last}, a tar's end is missing; make or copy it again"
            )
        try:
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        except (tarfile.TarError, ValueError) as error:
            raise InputError(
                f"{tar}: no uncompressed tar, or damaged after {last} ({error}); make or copy it again"
            ) from None
        name, size = long_name or info.name, 0 if info.type in WITHOUT_DATA else info.size
        most = MOST_NAME_BYTES if info.type in LONG_NAMES else MOST_BYTES
        if not 0 <= size <= most:
            raise InputError(
                f"{tar}, {name}: says that it has {size} bytes, expected at most {most}; remove it from the tar"
            )
        place += BLOCK
        padded = -(-size // BLOCK) * BLOCK
        if info.type in LONG_NAMES:
            long_name = (
                _long_name(_exactly(file, padded, tar, name)[:size], info.type, f"{tar}, {name}")
                or long_name
            )
        elif info.type in REGULAR:
            crc32, start = _checked(file, size, tar, name)
            _exactly(file, padded - size, tar, name)
            yield Member(name, place, size, crc32, start)
        else:
            _checked(file, padded, tar, name)
        if info.type not in HEADERS:
            last, long_name = name, None
        place += padded


def _long_name(data: bytes, kind: bytes, where: str) -> str | None:
    """The name in a block before its member; None if it tells other things."""
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
                f"{where}: a sparse or huge file ({key.decode()}), expected photos as they are; make the tar again"
            )
        data = data[end:]
    return name


def _checked(file: BinaryIO, size: int, tar: str, name: str) -> tuple[int, bytes]:
    """CRC-32 and beginning of the next bytes."""
    crc, start = 0, b""
    while size:
        data = _exactly(file, min(size, CHUNK), tar, name)
        crc, start, size = zlib.crc32(data, crc), start or data[:BLOCK], size - len(data)
    return crc, start


def _exactly(file: BinaryIO, size: int, tar: str, name: str) -> bytes:
    """Raises: InputError if there is less."""
    data = file.read(size)
    while len(data) < size:
        more = file.read(size - len(data))
        if not more:
            raise InputError(f"{tar}: is cut short within {name}; make or copy it again")
        data += more
    return data
