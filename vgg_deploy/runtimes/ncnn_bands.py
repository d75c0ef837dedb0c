"""Runs a stage of a net in horizontal bands, so that what it computes stays in the CPU's cache.

Winograd's convolution holds 2.25 times its input in a buffer: 110 MB for conv1_2 at 384 x 512. A
band takes the rows beside it that its own depend on. So a band gives the values of the whole map,
to rounding: Winograd's tiles start at other rows.
"""

from math import ceil
from typing import Any

import numpy as np

from vgg_deploy.runtimes.ncnn_cut import Part
from vgg_deploy.runtimes.ncnn_loading import PLAIN, NcnnPart

WINOGRAD = 2.25  # values of its buffer for each of its input: tiles of 6 x 6, 4 apart
LEAST_ROWS = 8  # of the output of a band; below, too many rows are computed twice


def band_ends(part: Part, height: int, width: int) -> list[int]:
    """Choose the bands of a stage.

    Args:
        part: The stage.
        height: Of its input.
        width: Of its input.

    Returns:
        0 and the end of each band, in rows of the output, which has half the input's.
    """
    rows = height // 2
    row_bytes = 2 * width * part.channels * WINOGRAD * 4
    count = min(ceil(rows * row_bytes / part.band_bytes), max(1, rows // LEAST_ROWS))
    return [rows * i // count for i in range(count + 1)]


def run_bands(stage: NcnnPart, values: np.ndarray, ends: list[int]) -> np.ndarray:
    """Run a stage.

    Args:
        stage: Ends with a pool of 2 x 2.
        values: Its input, (C, h, w) float32.
        ends: As `band_ends` gives them.

    Returns:
        (C', h // 2, w // 2) float32.
    """
    halo, height = stage.part.halo, values.shape[1]
    found: np.ndarray | None = None
    for start, end in zip(ends, ends[1:], strict=False):
        first, last = max(0, 2 * start - halo), min(height, 2 * end + halo)
        (band,) = stage(stage.mat(values[:, first:last]), [stage.part.gives], PLAIN)
        own: Any = np.asarray(band)[:, start - first // 2 : end - first // 2]
        if found is None:
            found = np.empty((own.shape[0], ends[-1], own.shape[2]), np.float32)
        found[:, start:end] = own
    assert found is not None  # there is one band at least
    return found
