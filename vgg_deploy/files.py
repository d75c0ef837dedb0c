"""Writes files that appear under their final name only when they are complete."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import cast

from vgg_deploy.errors import InputError
from vgg_deploy.regular_files import is_regular, open_regular


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
    if os.path.exists(path) and not is_regular(path) and not path.is_dir():
        raise InputError(f"{path}: is not a regular file", "choose another name")
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
    """Write a complete text file in UTF-8.

    Raises:
        InputError: As `whole_file`.
    """
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def sha256(path: Path) -> str:
    """The hex digest of a file's bytes.

    Raises:
        InputError: If it cannot be read, or is no regular file.
    """
    try:
        with open_regular(path) as file:
            digest = hashlib.file_digest(cast(BufferedReader, file), "sha256")
            return digest.hexdigest()
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); check the file and its permissions"
        ) from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
