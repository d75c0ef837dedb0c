"""Reaches files behind URLs through fsspec, with errors that name the address."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from vgg_deploy.errors import InputError
from vgg_deploy.regular_files import open_regular

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


class Unreachable(InputError):
    """A store that does not answer; unlike a damaged image it is never skipped."""


def is_url(root: Path | str) -> bool:
    """Whether a data set is named by a URL."""
    return "://" in str(root)


def read_range(files: "AbstractFileSystem", path: str, begin: int, end: int | None) -> bytes:
    """Read a part of a stored file; on this machine only of regular files.

    Args:
        files: The file system, of `reached`.
        path: Of the file there.
        begin: Offset of the first byte.
        end: Offset behind the last; None for the file's end.
    """
    if not _is_local(files):
        content: bytes = files.cat_file(path, start=begin, end=end)
        return content
    with open_regular(path) as file:
        size = file.seek(0, os.SEEK_END)  # Python reserves as much memory as it is asked to read
        file.seek(begin)
        return file.read(max(0, size - begin if end is None else min(end, size) - begin))


def open_stored(files: "AbstractFileSystem", path: str) -> BinaryIO:
    """Open a stored file to read it; on this machine only regular files.

    Args:
        files: The file system, of `reached`.
        path: Of the file there.
    """
    if _is_local(files):
        return open_regular(path)
    file: BinaryIO = files.open(path, "rb")
    return file


def _is_local(files: "AbstractFileSystem") -> bool:
    return "file" in (files.protocol if isinstance(files.protocol, tuple) else (files.protocol,))


@contextmanager
def reached(url: str) -> Iterator[tuple["AbstractFileSystem", str]]:
    """Find the file system of a URL, and turn its errors in the block into Unreachable.

    It is looked up again each time: fsspec keeps connections, and makes others in a forked process.

    Args:
        url: URL, or path of a local file.

    Yields:
        The file system, and the path of the file there.

    Raises:
        Unreachable: For anything that goes wrong in the store.
    """
    import fsspec  # here: folders do without

    try:
        yield fsspec.url_to_fs(url)
    except InputError:
        raise
    except Exception as error:  # every kind of store has errors of its own
        raise Unreachable(
            f"{url}: cannot be read ({type(error).__name__}: {error}); "
            "check the address and the connection"
        ) from error
