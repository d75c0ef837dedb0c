"""Temporary files that a process which was killed leaves behind, and their removal.

A temporary file is locked while its writer lives: the system ends the lock with the process. So a
file without a lock has no writer.
"""

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    HAS_LOCKS = False
else:
    HAS_LOCKS = True

# .NAME.RANDOM.partial, and files and folders that are written beside it under the same beginning
PARTIAL = re.compile(r"(\..+\.[a-z0-9_]{8}\.partial)(\..+)?")


@contextmanager
def partial_file(path: Path) -> Iterator[Path]:
    """Make a temporary file for the block, in the folder of its final name.

    Files that killed processes left in this folder are removed first.

    Args:
        path: The final name, in an existing folder.

    Yields:
        The temporary file, empty, which is removed at the end of the block if it is still there.

    Raises:
        OSError: If it cannot be made.
    """
    sweep(path.parent)
    handle, partial = _locked_file(path)
    try:
        yield partial
    finally:
        partial.unlink(missing_ok=True)
        if handle is not None:
            os.close(handle)


@contextmanager
def partial_folder(path: Path) -> Iterator[Path]:
    """Make a temporary folder for the block, beside a file that will be made from what is in it.

    Args:
        path: The final name of the file, in an existing folder.

    Yields:
        The folder, which is removed at the end of the block.

    Raises:
        OSError: If it cannot be made.
    """
    with partial_file(path) as partial:
        folder = Path(f"{partial}.parts")
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def older_files_aside(folder: Path) -> Iterator[Path]:
    """Make a folder inside `folder` for files that others replace, removed at the end.

    Other processes wait meanwhile, where the system has locks. What a killed process left is
    removed then.

    Args:
        folder: Of the files.

    Yields:
        The folder inside.

    Raises:
        OSError: If it cannot be made.
    """
    with _only_folder(folder, "", ".older") as aside:
        yield aside


@contextmanager
def folder_aside(target: Path) -> Iterator[Path]:
    """Make a hidden folder beside a folder that is being written, as `older_files_aside` does.

    Args:
        target: Final name of the folder.

    Yields:
        The hidden folder.

    Raises:
        OSError: If it cannot be made.
    """
    with _only_folder(target.parent, f".{target.name}", ".partial") as aside:
        yield aside


@contextmanager
def _only_folder(folder: Path, prefix: str, suffix: str) -> Iterator[Path]:
    """Make the only folder `<prefix>.<random><suffix>` inside another; older ones are removed."""
    name = re.compile(rf"{re.escape(prefix)}\.[a-z0-9_]{{8}}{re.escape(suffix)}")
    with _alone_in(folder) as alone:
        if alone:
            for path in folder.iterdir():
                if name.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=f"{prefix}.", suffix=suffix, dir=folder) as made:
            yield Path(made)


@contextmanager
def _alone_in(folder: Path) -> Iterator[bool]:
    """Keep other processes out of this block for the same folder; yields whether it could."""
    if sys.platform == "win32" or not HAS_LOCKS:
        yield False
        return
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def sweep(folder: Path) -> None:
    """Remove the temporary files of killed processes from a folder.

    Where the system has no locks nothing is removed: a file may have a writer.
    """
    found: dict[str, list[Path]] = {}
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = PARTIAL.fullmatch(entry.name)
            is_folder = match and match[2] and entry.is_dir(follow_symlinks=False)
            if match and (is_folder or entry.is_file(follow_symlinks=False)):
                found.setdefault(match[1], []).append(Path(entry.path))
    for name, files in found.items():
        with suppress(OSError):  # another user's, or another process has removed it
            _remove_unless_locked(folder / name, files)


def _remove_unless_locked(partial: Path, files: list[Path]) -> None:
    if sys.platform == "win32" or not HAS_LOCKS:
        return
    if partial not in files:  # it has its final name or is removed; what lies beside it is not
        return _remove(files)
    # not blocking: it may be replaced by a pipe meanwhile
    handle = os.open(partial, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _remove(files)
    finally:
        os.close(handle)


def _remove(files: list[Path]) -> None:
    for file in files:
        if file.is_dir():
            shutil.rmtree(file, ignore_errors=True)
        else:
            file.unlink(missing_ok=True)


def _locked_file(path: Path) -> tuple[int | None, Path]:
    """Make a temporary file and lock it; returns its descriptor, if it is locked, and its path."""
    while True:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
        partial = Path(name)
        if sys.platform == "win32" or not HAS_LOCKS:  # which renames no open file
            os.close(handle)
            return None, partial
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if partial.exists():  # else another process has swept it before it was locked
            return handle, partial
        os.close(handle)
