"""Notices files that another process replaces or changes while this one reads them.

A file is read more than once: its checksums, its content, its SHA-256. Training replaces a
checkpoint, and a copy may still be under way. Then the SHA-256 would name other weights than those
that were read.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from vgg_deploy.errors import InputError


class _State(NamedTuple):
    """What changes with the content of a file, or with the file that a name leads to."""

    device: int
    inode: int
    bytes: int
    mtime_ns: int


@contextmanager
def unchanged(*paths: str | os.PathLike[str]) -> Iterator[None]:
    """Refuse files that do not stay as they are during the block.

    An error that leaves the block is replaced by this one if a file changed, for that is its cause.

    Args:
        paths: Of files; those that do not exist are left to whoever reads them.

    Raises:
        InputError: If one was replaced, changed or removed meanwhile; names it.
    """
    before = {path: _state(path) for path in paths}
    try:
        yield
    except InputError:
        _refuse_changed(before)
        raise
    _refuse_changed(before)


def _refuse_changed(before: dict[str | os.PathLike[str], _State | None]) -> None:
    for path, state in before.items():
        if state is not None and _state(path) != state:
            raise InputError(
                f"{os.fspath(path)}: another process changed it while it was read",
                "wait until the file is complete, and try again",
            )


def _state(path: str | os.PathLike[str]) -> _State | None:
    """State of the file that a name leads to; None without one."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return _State(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
