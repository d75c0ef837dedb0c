"""Files of cells: names, reading and making the array file, setting damaged files aside.

A cell is one .npy file with one row per image, mapped into memory. Until all rows are scored its
name ends with .partial.npy.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from click import echo
from numpy.lib import format as npy

from vgg_deploy.errors import InputError
from vgg_deploy.regular_files import is_regular, open_regular

DAMAGED_SUFFIX = ".damaged"
BLOCK_BYTES = 2**20  # read and written at a time


class Damaged(Exception):
    """Why a file is not a cell, or not a manifest."""


def manifest_path(path: Path) -> Path:
    """Path of the manifest of a cell."""
    return path.with_suffix(".json")


def partial_path(path: Path) -> Path:
    """Path of a cell until all of its rows are scored."""
    return path.with_suffix(".partial.npy")


def existing_path(path: Path) -> Path:
    """The final path if the cell has it already, else the partial one."""
    return path if path.exists() else partial_path(path)


def open_or_create(path: Path, dtype: np.dtype[np.void], images: int) -> tuple[Path, np.memmap]:
    """Map an existing cell, else create one. Damaged files are set aside.

    Args:
        path: Final path of the cell.
        dtype: Of a row.
        images: Number of rows.

    Returns:
        The path of the file, and its rows.

    Raises:
        InputError: If the file cannot be opened or made.
    """
    for file in (path, partial_path(path)):
        if os.path.lexists(file):
            try:
                return file, map_rows(file, dtype, images)
            except Damaged as reason:
                set_aside(file, str(reason))
    partial = partial_path(path)
    _create(partial, dtype, images)
    return partial, map_rows(partial, dtype, images)


def map_rows(path: Path, dtype: np.dtype[np.void], images: int) -> np.memmap:
    """Map the rows of a cell into memory.

    Args:
        path: Of the array file.
        dtype: Of a row.
        images: Number of rows.

    Returns:
        (images,) of `dtype`, writable.

    Raises:
        Damaged: If the file is not a cell of this shape.
        InputError: If the file cannot be opened.
    """
    if not is_regular(path):
        raise Damaged("is not a regular file")
    try:
        with open_regular(path) as file:
            shape, column_order, found = _read_header(file)
            offset, size = file.tell(), os.fstat(file.fileno()).st_size
        if (found, shape, column_order) != (dtype, (images,), False):
            raise Damaged(f"does not hold {images} rows of this cell")
        expected = offset + images * dtype.itemsize
        if size != expected:
            raise Damaged(f"has {size} bytes, a cell of {images} images has {expected}")
        return np.memmap(path, dtype, "r+", offset, (images,))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be opened ({error.strerror}); check its permissions, or choose "
            "another folder with --cells"
        ) from None


def set_aside(path: Path, reason: str, result: str = "computed again") -> None:
    """Rename a damaged file, or remove it, and print one line on stderr.

    Args:
        path: Of the file.
        reason: What is wrong with it.
        result: What follows from it, for the message.

    Raises:
        InputError: If it can be neither renamed nor removed.
    """
    renamed = path.with_name(path.name + DAMAGED_SUFFIX)
    try:
        os.replace(path, renamed)
        action = f"renamed to {renamed.name}"
    except OSError:
        try:
            path.unlink()
            action = "removed"
        except OSError as error:
            raise InputError(
                f"{path}: {reason}, and it cannot be renamed or removed ({error.strerror}); "
                "remove it"
            ) from None
    echo(f"{path}: {reason}; {action}, {result}", err=True)


def _read_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read the header of a .npy file.

    Returns:
        Shape, whether columns are contiguous, and type of the array.

    Raises:
        Damaged: If the file does not start as a .npy file does.
    """
    readers: dict[tuple[int, int], Callable[..., tuple[tuple[int, ...], bool, np.dtype[Any]]]] = {
        (1, 0): npy.read_array_header_1_0,
        (2, 0): npy.read_array_header_2_0,
    }
    try:
        return readers[npy.read_magic(file)](file)
    except OSError:
        raise
    except Exception:  # a damaged header is parsed as Python, which raises almost anything
        raise Damaged("is not a .npy file") from None


def _create(path: Path, dtype: np.dtype[np.void], images: int) -> None:
    """Create a file of zeros and reserve its space on the disk.

    Without its space a file is a hole, and writing to it would kill the process once the disk is
    full.
    """
    try:
        npy.open_memmap(path, "w+", dtype, (images,))
        with open(path, "rb+") as file:
            _reserve(file, path.stat().st_size)
    except OSError as error:
        path.unlink(missing_ok=True)
        size = images * dtype.itemsize / 1e6
        raise InputError(
            f"{path}: cannot be made ({error.strerror}); a cell of {images} images takes "
            f"{size:.3g} MB"
        ) from None


def _reserve(file: BinaryIO, size: int) -> None:
    """Reserve the disk space of a file of `size` bytes, without changing what it contains."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    for start in range(0, size, BLOCK_BYTES):  # where the system has no call for it
        file.seek(start)
        block = file.read(BLOCK_BYTES)
        file.seek(start)
        file.write(block)
