"""Writes files that appear under their final name only when they are complete."""

import errno
import hashlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from vgg_deploy.errors import InputError
from vgg_deploy.partial_files import older_files_aside, partial_file
from vgg_deploy.regular_files import is_regular, open_regular

# what file systems without hard links say
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
SETTLED_S = 2.0  # the coarsest step of times is that of FAT
_DIGESTS: dict[tuple[int, ...], str] = {}  # of files by device, inode, size and times


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Write a file under a temporary name, flush it to disk, then rename it to `path`.

    If the block fails, an existing file at `path` stays as it was.

    Args:
        path: The final name. Missing folders are created.

    Yields:
        The temporary name, in the same folder.

    Raises:
        InputError: If the folder cannot be written or the disk is full, or if there is something
            at `path` that is no regular file, such as a device, which must not be replaced.
    """
    path = Path(path)
    with _partial_files([path]) as (partial,):
        try:
            yield partial
            _finish(partial)
            os.replace(partial, path)
        except OSError as error:
            raise InputError(
                f"{path}: writing failed ({error.strerror or error}); "
                "the previous file is unchanged"
            ) from error


@contextmanager
def whole_files(paths: Sequence[Path], obsolete: Sequence[Path] = ()) -> Iterator[list[Path]]:
    """Write files that belong together: all of them get their final names, or none does.

    If the block or a renaming fails, existing files stay as they were. If the process is killed
    among the renamings, files are missing, but no old file lies beside a new one.

    Args:
        paths: The final names, in one folder, in the order in which they appear there.
        obsolete: Files in this folder that do not belong to the new ones, and are removed.

    Yields:
        The temporary names.

    Raises:
        InputError: If the folder cannot be written or the disk is full.
    """
    with _partial_files(paths) as partials:
        try:
            yield partials
            for partial in partials:
                _finish(partial)
            with older_files_aside(paths[0].parent) as older:
                exchange(dict(zip(partials, paths, strict=True)), obsolete, older)
        except OSError as error:
            raise InputError(
                f"{paths[0]}: writing failed ({error.strerror or error}); "
                "the previous files are unchanged"
            ) from error


def linked(partial: Path, path: Path) -> bool:
    """Give a file of `whole_file` a second final name within the block, as a hard link.

    An older file of that name is replaced, never written into.

    Args:
        partial: The temporary name; the file is flushed to disk first.
        path: In the same folder.

    Returns:
        False if the file system has no hard links; nothing has changed then.

    Raises:
        InputError: If there is something at `path` that is no regular file.
        OSError: If the folder cannot be written.
    """
    if os.path.exists(path) and not is_regular(path):
        raise InputError(f"{path}: is not a regular file", "choose another name")
    _finish(partial)
    with partial_file(path) as name:
        name.unlink()
        try:
            os.link(partial, name)
        except OSError as error:
            if error.errno in NO_LINKS:
                return False
            raise
        os.replace(name, path)
    return True


@contextmanager
def _partial_files(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Temporary names of files, which are removed at the end of the block."""
    with ExitStack() as stack:
        partials = []
        for path in paths:
            if os.path.exists(path) and not is_regular(path) and not path.is_dir():
                raise InputError(f"{path}: is not a regular file", "choose another name")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                partials.append(stack.enter_context(partial_file(path)))
            except OSError as error:
                raise InputError(
                    f"{path}: cannot be written ({error.strerror})", "choose another folder"
                ) from None
        yield partials


def _finish(partial: Path) -> None:
    """Flush a file to disk, and give it the permissions of a new file."""
    with open(partial, "rb+") as file:
        os.fsync(file.fileno())
    partial.chmod(0o666 & ~_umask())


def write_text(path: Path, text: str) -> None:
    """Write a complete text file in UTF-8; broken Unicode as backslash escapes, as JSON has them.

    Raises:
        InputError: As `whole_file`.
    """
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def append(path: Path, data: bytes) -> None:
    """Append to a file, which need not exist. A pipe must have a reader: nobody is waited for.

    Raises:
        OSError: If it cannot be opened or written.
    """
    if not hasattr(os, "O_NONBLOCK"):  # Windows, which has no such pipes
        with open(path, "ab") as file:
            file.write(data)
        return
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    handle = os.open(path, flags, 0o666)
    os.set_blocking(handle, True)
    with open(handle, "ab") as file:
        file.write(data)


def exchange(renamed: Mapping[Path, Path], obsolete: Sequence[Path], aside: Path) -> None:
    """Give files their final names. The files that were there are put back if that fails.

    Args:
        renamed: Final names by the present ones.
        obsolete: Files that are to go.
        aside: An empty folder for what was there.

    Raises:
        OSError: If a renaming fails.
    """
    older = {aside / path.name: path for path in (*renamed.values(), *obsolete)}
    older = {moved: path for moved, path in older.items() if os.path.lexists(path)}
    done: list[Path] = []
    try:
        for moved, path in older.items():
            os.replace(path, moved)
        for partial, path in renamed.items():
            os.replace(partial, path)
            done.append(path)
    except BaseException:  # Ctrl-C too
        for path in done:
            path.unlink()
        for moved, path in older.items():
            if os.path.lexists(moved):
                os.replace(moved, path)
        raise


def sha256(path: Path) -> str:
    """The hex digest of a file's bytes.

    A file that is as this process saw it before is not read again: the same file of the same size,
    last changed at the same time, and then at least SETTLED_S before its bytes were read. Times of
    files move in steps, so two changes close together may show only one.

    Raises:
        InputError: If it cannot be read, or is no regular file.
    """
    try:
        with open_regular(path) as file:
            status = os.fstat(file.fileno())
            times = (status.st_mtime_ns, status.st_ctime_ns)
            seen = (status.st_dev, status.st_ino, status.st_size, *times)
            if seen in _DIGESTS:
                return _DIGESTS[seen]
            started = time.time_ns()
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            if started - max(times) > SETTLED_S * 1e9:
                _DIGESTS[seen] = digest
            return digest
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); check the file and its permissions"
        ) from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
