"""Notices files that another process replaces or changes while this one reads them.

A file is read more than once: its checksums, its content, its SHA-256. Training replaces a
checkpoint, and a copy may still be under way. Then the SHA-256 would name other weights than those
that were read.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, TypeAlias

from vgg_deploy.errors import InputError


class _State(NamedTuple):
    """What changes with the content of a file, or with the file that a name leads to."""

    device: int
    inode: int
    bytes: int
    mtime_ns: int


PathLike: TypeAlias = str | os.PathLike[str]
States: TypeAlias = Mapping[PathLike, "_State | None"]


@contextmanager
def unchanged(*paths: PathLike) -> Iterator[None]:
    """Refuse files that do not stay as they are during the block.

    An error that leaves the block is replaced by this one if a file changed, for that is its cause.

    Args:
        paths: Of files; those that do not exist are left to whoever reads them.

    Raises:
        InputError: If one was replaced, changed or removed meanwhile; names it.
    """
    before = states_of(*paths)
    try:
        yield
    except InputError:
        refuse_changed(before)
        raise
    refuse_changed(before)


def states_of(*paths: PathLike) -> States:
    """Note the state of files, for `refuse_changed`.

    Args:
        paths: Of files; those that do not exist are left to whoever reads them.
    """
    return {path: _state(path) for path in paths}


def refuse_changed(before: States) -> None:
    """Refuse files that are not as they were.

    Args:
        before: Of `states_of`.

    Raises:
        InputError: If one was replaced, changed or removed since; names it.
    """
    for path, state in before.items():
        if state is not None and _state(path) != state:
            raise InputError(
                f"{os.fspath(path)}: another process changed it while it was read",
                "wait until the file is complete, and try again",
            )


def _state(path: PathLike) -> _State | None:
    """State of the file that a name leads to; None without one."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return _State(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
