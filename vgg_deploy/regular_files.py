"""Opens regular files only: what a name leads to may be a pipe, a device, a socket or endless.

Opening a pipe waits for a writer, and a device may have no end. So a file is opened without
waiting, and then the opened file itself is looked at; nothing can be exchanged in between. What is
wrong is an OSError, as for any other file that cannot be opened.
"""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path

MOST_TEXT_BYTES = 256 * 2**20  # of a list or a table
CHUNK = 2**20  # bytes that are read at once
KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def open_regular(path: str | os.PathLike[str], most: int | None = None) -> BufferedReader:
    """Open a regular file to read its bytes.

    Args:
        path: Of the file; links are followed.
        most: Bytes that it may have; None for any number.

    Raises:
        OSError: If it cannot be opened, is something else than a regular file, or is larger.
    """
    name = os.fspath(path)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(name, flags | getattr(os, "O_CLOEXEC", 0))
    except ValueError as error:  # a null character
        raise OSError(errno.EINVAL, str(error), name) from None
    except OSError as error:
        if error.errno == errno.ENXIO:  # what the system says of a socket means nothing to people
            raise OSError(
                error.errno, "is a socket or a device, not a regular file", name
            ) from None
        raise
    try:
        _check(os.fstat(handle), name, most)
        return open(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_regular(path: str | os.PathLike[str], most: int) -> bytes:
    """Read a regular file.

    Args:
        path: Of the file; links are followed.
        most: Bytes that it may have.

    Returns:
        All of its bytes.

    Raises:
        OSError: As `open_regular`; also if it grows beyond `most` while it is read.
    """
    data = bytearray()
    with open_regular(path, most) as file:
        # not `most` at once: Python would reserve as much memory for the smallest file
        while len(data) <= most and (part := file.read(CHUNK)):
            data += part
    if len(data) > most:
        raise _too_large(os.fspath(path), len(data), most)
    return bytes(data)


def read_regular_text(path: str | os.PathLike[str], encoding: str = "utf-8") -> str:
    """Read a regular text file of at most MOST_TEXT_BYTES.

    Args:
        path: Of the file; links are followed.
        encoding: Of the text.

    Returns:
        The text; lines end with a line feed, as with Python's `open`.

    Raises:
        OSError: As `read_regular`.
        UnicodeDecodeError: If it is not in this encoding.
    """
    text = read_regular(path, MOST_TEXT_BYTES).decode(encoding)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def is_regular(path: str | os.PathLike[str]) -> bool:
    """Whether there is a regular file, or a link to one.

    Unlike `Path.is_file`, a name that no file can have is no error.
    """
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):
        return False


def real_path(path: str | os.PathLike[str]) -> Path:
    """Where a name leads to, absolute and without links.

    Unlike `Path.resolve`, a link that leads to itself is no error; it stays as it is.
    """
    return Path(os.path.realpath(path))


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Whether there is a folder, or a link to one; as `is_regular`."""
    return os.path.isdir(path)


def _check(status: os.stat_result, name: str, most: int | None) -> None:
    """Refuse what is not a regular file, or too large."""
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), name)
    if kind != stat.S_IFREG:
        what = KINDS.get(kind, "something else")
        raise OSError(errno.EINVAL, f"is {what}, not a regular file", name)
    if most is not None and status.st_size > most:
        raise _too_large(name, status.st_size, most)


def _too_large(name: str, size: int, most: int) -> OSError:
    return OSError(
        errno.EFBIG,
        f"has {size / 2**20:,.0f} MiB, more than the {most / 2**20:,.0f} MiB that are read",
        name,
    )
