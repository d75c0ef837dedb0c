"""The rows of a cell, and the checksums that prove them.

A row holds the posterior of one image, its consistency and a CRC-32. The consistency is the largest
difference between the net's posterior and the softmax of its mean score, over the views of the
image. The CRC-32 covers both, the index of the row and the identity of the cell. So a row proves by
itself that it was written completely, at this index, for this cell. A row of zeros is an image that
is not scored yet.

The CRC finds damage and mix-ups: flipped bits, lost blocks, edited values, rows that were moved or
that belong to another cell. It is no signature: whoever recomputes the CRCs on purpose can store
any row.
"""

import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from bench.accuracy.cell_identity import identity_checksum

CHUNK_ROWS = 4096  # rows read at a time; bounds the memory whatever the number of images


class RowState(NamedTuple):
    """What the checksums of a cell's rows show."""

    finished: np.ndarray  # (images,) bool
    damaged: np.ndarray  # (images,) bool: not empty, and the checksum is wrong


def row_dtype(classes: int, dtype: str) -> np.dtype[np.void]:
    """NumPy type of a row.

    Args:
        classes: Length of a posterior.
        dtype: "float32" or "float16", of the posterior.
    """
    posterior = np.dtype(dtype).newbyteorder("<")
    return np.dtype(
        [("posterior", posterior, (classes,)), ("consistency", "<f4"), ("crc32", "<u4")]
    )


def chunks(images: int) -> Iterator[slice]:
    """Slices of at most CHUNK_ROWS rows that together cover all images, in order."""
    for start in range(0, images, CHUNK_ROWS):
        yield slice(start, min(start + CHUNK_ROWS, images))


def row_states(rows: np.ndarray, identity: dict[str, Any]) -> RowState:
    """Check the checksum of every row, CHUNK_ROWS at a time.

    Args:
        rows: (images,) of `row_dtype`.
        identity: Of the cell, by `cell_identity.full_identity`.
    """
    finished, damaged = np.zeros((2, len(rows)), bool)
    for part in chunks(len(rows)):
        chunk = np.ascontiguousarray(rows[part])
        expected = row_checksums(chunk, np.arange(part.start, part.stop), identity)
        finished[part] = expected == chunk["crc32"]
        bytes_of_rows = chunk.view(np.uint8).reshape(len(chunk), -1)
        damaged[part] = ~finished[part] & bytes_of_rows.any(axis=1)
    return RowState(finished, damaged)


def row_checksums(rows: np.ndarray, indices: np.ndarray, identity: dict[str, Any]) -> np.ndarray:
    """CRC-32 that each row should have.

    Args:
        rows: (n,) contiguous, of `row_dtype`; the checksum is the last field.
        indices: (n,) int, indices of the rows in the cell.
        identity: Of the cell.

    Returns:
        (n,) uint32.
    """
    seed = identity_checksum(identity)
    size = rows.dtype.itemsize
    covered = size - rows.dtype["crc32"].itemsize
    content = rows.view(np.uint8).data
    found = np.empty(len(rows), np.uint32)
    for i, index in enumerate(indices.tolist()):
        start = zlib.crc32(index.to_bytes(8, "little"), seed)
        found[i] = zlib.crc32(content[i * size : i * size + covered], start)
    return found
