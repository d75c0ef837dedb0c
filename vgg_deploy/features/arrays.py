"""The descriptors of one layer and one shard as a file: .npy or Parquet."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy

from vgg_deploy.errors import InputError
from vgg_deploy.features.settings import AGAIN
from vgg_deploy.regular_files import open_regular

FLOAT32 = np.dtype("<f4")
COLUMN = "feature"
PARQUET_OVERHEAD = 2**20  # bytes beside the numbers themselves


def write_npy(path: Path, rows: np.ndarray) -> None:
    """Write descriptors as a .npy file.

    Args:
        path: A temporary name.
        rows: (n, d) float32.

    Raises:
        OSError: If it cannot be written.
    """
    with open(path, "wb") as file:
        npy.write_array(file, np.ascontiguousarray(rows, FLOAT32), (1, 0), allow_pickle=False)


def map_npy(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Map the descriptors of a .npy file.

    Args:
        path: As `write_npy` wrote it.
        shape: (n, d) that it must have.

    Returns:
        (n, d) float32, read-only, in the file.

    Raises:
        InputError: If it is another file.
    """
    try:
        with open_regular(path) as file:
            found, column_order, dtype = _header(file, path)
            size, expected = os.fstat(file.fileno()).st_size, file.tell() + 4 * shape[0] * shape[1]
            if (found, column_order, dtype) != (shape, False, FLOAT32) or size != expected:
                raise InputError(
                    f"{path}: is not an array of {shape[0]} x {shape[1]} float32", AGAIN
                )
            if not shape[0]:
                return np.zeros(shape, FLOAT32)
            mapped = np.memmap(file, FLOAT32, "r", file.tell(), shape)
            return np.asarray(mapped)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})", AGAIN) from None


def _header(file: BinaryIO, path: Path) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns are contiguous, and type of a .npy file."""
    readers: dict[tuple[int, int], Callable[..., tuple[tuple[int, ...], bool, np.dtype[Any]]]] = {
        (1, 0): npy.read_array_header_1_0,
        (2, 0): npy.read_array_header_2_0,
    }
    try:
        return readers[npy.read_magic(file)](file)
    except OSError:
        raise
    except Exception:  # a damaged header is parsed as Python, which raises almost anything
        raise InputError(f"{path}: is not a .npy file", AGAIN) from None


def write_parquet(path: Path, rows: np.ndarray) -> None:
    """Write descriptors as a Parquet file with one column, `feature`, of fixed-size lists.

    Args:
        path: A temporary name.
        rows: (n, d) float32.

    Raises:
        InputError: If pyarrow is not installed.
        OSError: If it cannot be written.
    """
    pa, parquet = _pyarrow(path)
    flat = pa.array(np.ascontiguousarray(rows, FLOAT32).reshape(-1))
    column = pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])
    parquet.write_table(pa.table({COLUMN: column}), path, use_dictionary=False)


def read_parquet(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Read the descriptors of a Parquet file; they are in memory as long as they are used.

    Args:
        path: As `write_parquet` wrote it.
        shape: (n, d) that it must have.

    Returns:
        (n, d) float32, read-only.

    Raises:
        InputError: If it is another file, or pyarrow is not installed.
    """
    pa, parquet = _pyarrow(path)
    kind = pa.list_(pa.float32(), shape[1])
    wrong = InputError(f"{path}: is not a column of {shape[0]} x {shape[1]} float32", AGAIN)
    try:
        with open_regular(path) as file, parquet.ParquetFile(file) as opened:
            found, schema = opened.metadata, opened.schema_arrow
            if found.num_rows != shape[0] or schema.names != [COLUMN]:
                raise wrong
            field = schema.field(COLUMN).type
            if not pa.types.is_fixed_size_list(field) or not field.equals(kind):
                raise wrong
            groups = (found.row_group(i) for i in range(found.num_row_groups))
            if sum(group.total_byte_size for group in groups) > most_bytes(shape):
                raise wrong
            column = opened.read(columns=[COLUMN]).column(COLUMN).combine_chunks()
            if isinstance(column, pa.ChunkedArray):  # no rows, or several chunks in older versions
                column = pa.concat_arrays(column.chunks or [pa.array([], kind)])
            flat = column.flatten()
            if column.null_count or flat.null_count or len(flat) != shape[0] * shape[1]:
                raise wrong
            rows: np.ndarray = flat.to_numpy().reshape(shape)
            return rows
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        reason = getattr(error, "strerror", None) or reason
        raise InputError(f"{path}: cannot be read as Parquet ({reason:.200})", AGAIN) from None


def _pyarrow(path: Path) -> tuple[Any, Any]:
    """The package that reads Parquet."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError(
            f"{path}: pyarrow is not installed, which reads and writes Parquet; "
            'pip install "vgg-deploy[parquet]"'
        ) from None
    return pyarrow, pyarrow.parquet


def most_bytes(shape: tuple[int, int]) -> int:
    """The largest size that a file of descriptors can have, in either form.

    Args:
        shape: (n, d) of the descriptors.
    """
    numbers = shape[0] * shape[1]
    return 5 * numbers + PARQUET_OVERHEAD


WRITERS: dict[str, Callable[[Path, np.ndarray], None]] = {
    "npy": write_npy,
    "parquet": write_parquet,
}
READERS: dict[str, Callable[[Path, tuple[int, int]], np.ndarray]] = {
    "npy": map_npy,
    "parquet": read_parquet,
}
