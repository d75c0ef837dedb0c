"""Locates the cache, whose files can all be made again: one that cannot be written costs a line.

Read a cached file below `cache_folder`. To write one that can be done without, use `or_uncached`;
for one that the run itself needs, `writable_folder`.
"""

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from vgg_deploy.errors import InputError
from vgg_deploy.printable import printable
from vgg_deploy.progress import console

VARIABLE = "VGG_DEPLOY_CACHE"


def cache_folder() -> Path:
    """The cache's folder, which may not exist yet, or not be writable.

    Returns:
        $VGG_DEPLOY_CACHE if it is set, else `vgg-deploy` in the user's cache folder. For a user
        without a home folder it is a temporary one, for this process.

    Raises:
        InputError: If there is neither a home folder nor one for temporary files.
    """
    own = os.environ.get(VARIABLE)
    if own:
        return Path(own)
    users = os.environ.get("XDG_CACHE_HOME")
    if users:
        return Path(users) / "vgg-deploy"
    try:
        return Path.home() / ".cache" / "vgg-deploy"
    except RuntimeError:  # a container's user, without HOME and without an entry in passwd
        _report("The cache: this user has no home folder; a temporary one is used")
        return _temporary_folder()


def writable_folder(folder: Path) -> Path:
    """Make a folder of the cache, or in its place a temporary one for this process.

    Args:
        folder: Below `cache_folder()`.

    Returns:
        `folder`, or a temporary folder of the same name. The latter is reported in one line.

    Raises:
        InputError: If neither can be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        why = f"the cache cannot be written ({error.strerror})"
        _report(f"{folder}: {why}; a temporary one is used")
    spare = _temporary_folder() / folder.name
    spare.mkdir(exist_ok=True)
    return spare


@contextmanager
def or_uncached(path: Path) -> Iterator[None]:
    """Go on, after one line, if the block cannot write a file of the cache.

    Args:
        path: The file, for the line.
    """
    try:
        yield
    except InputError as error:
        _report(f"{path}: is not cached, so it is computed again next time ({error.what})")


def _report(reason: str) -> None:
    if reason not in _reported():
        _reported().add(reason)
        console.print(printable(f"{reason}. {VARIABLE} names another folder"))


@cache
def _reported() -> set[str]:
    """What this process has said already."""
    return set()


@cache
def _temporary_folder() -> Path:
    """A folder that this process removes when it ends."""
    try:
        folder = Path(tempfile.mkdtemp(prefix="vgg-deploy-"))
    except OSError as error:
        raise InputError(
            f"no cache and no temporary folder can be written ({error.strerror})",
            f"set {VARIABLE} to a folder that can",
        ) from None
    owner = os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # and not a fork of it
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(remove)
    return folder
