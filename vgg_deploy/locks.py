"""Keeps two processes from working on the same files at the same time.

The locks belong to a process and end with it, even if it is killed. Worker processes do not
inherit them. They work on Linux, macOS and Windows, through the `filelock` package. The lock file
stays behind; its content means nothing.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from vgg_deploy.errors import InputError
from vgg_deploy.regular_files import is_regular

NO_WAITING = 0.0  # seconds
WITHOUT_END = -1.0
UNSUPPORTED = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)  # by a file system


@contextmanager
def exclusive_lock(path: Path, busy: str, about: str = "") -> Iterator[bool]:
    """Hold a lock during the block, or fail at once.

    Args:
        path: The lock file, in an existing folder; it is created if it is missing.
        busy: The message if another process holds the lock.
        about: The setting that chose the folder, see `VGGDeployError`.

    Yields:
        Whether the lock is held. False where the file system has no locks (some network file
        systems): nothing keeps other processes out then, so the caller should warn.

    Raises:
        InputError: If another process holds the lock, or if the lock file cannot be written.
    """
    _refuse_other_kinds(path)
    lock = FileLock(path, fallback_to_soft=False)
    try:
        held = _acquire(lock, NO_WAITING)
    except Timeout:
        raise InputError(busy, about=about) from None
    except OSError as error:
        raise _not_writable(path, error, about) from None
    try:
        yield held
    finally:
        lock.release()


@contextmanager
def waiting_lock(path: Path, about: str = "") -> Iterator[bool]:
    """Hold a lock during the block; wait until other processes have released it.

    Args:
        path: As in `exclusive_lock`.
        about: As in `exclusive_lock`.

    Yields:
        Whether the lock is held, as `exclusive_lock`.

    Raises:
        InputError: If the lock file cannot be written.
    """
    _refuse_other_kinds(path)
    lock = FileLock(path, fallback_to_soft=False)
    try:
        held = _acquire(lock, WITHOUT_END)
    except OSError as error:
        raise _not_writable(path, error, about) from None
    try:
        yield held
    finally:
        lock.release()


def _refuse_other_kinds(path: Path) -> None:
    """Refuse a lock that is a pipe, a device or a folder.

    Raises:
        InputError: If it exists and is not a regular file.
    """
    if os.path.lexists(path) and not is_regular(path):
        raise InputError(f"{path}: is not a regular file; remove it")


def _acquire(lock: FileLock, seconds: float) -> bool:
    """Take a lock; False where the file system has none.

    Raises:
        Timeout: If another process still holds it after so many seconds.
        OSError: If the file cannot be opened.
    """
    try:
        lock.acquire(timeout=seconds)
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        return False
    return True


def _not_writable(path: Path, error: OSError, about: str) -> InputError:
    what = f"{path}: cannot be written ({error.strerror})"
    return InputError(what, f"make {path.parent} writable, or choose another folder", about)
