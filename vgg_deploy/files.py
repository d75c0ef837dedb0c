"""Writes files that appear under their final name only when they are complete."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vgg_deploy.errors import InputError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Write a file under a temporary name, flush it to disk, then rename it to `path`.

    If the block fails, an existing file at `path` stays as it was.

    Args:
        path: The final name. Missing folders are created.

    Yields:
        The temporary name, in the same folder.

    Raises:
        InputError: If the folder cannot be written or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror})", "choose another folder"
        ) from None
    partial = Path(name)
    try:
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        partial.chmod(0o666 & ~_umask())
        os.replace(partial, path)
    except OSError as error:
        raise InputError(
            f"{path}: writing failed ({error.strerror or error}); the previous file is unchanged"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a complete text file in UTF-8; broken Unicode as backslash escapes, as JSON has them.

    Raises:
        InputError: As `whole_file`.
    """
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def sha256(path: Path) -> str:
    """The hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
