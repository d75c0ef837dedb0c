"""Runs the first stage of a net in horizontal bands, so that its memory is bounded.

At 512 x 512 conv1_2 takes 352 MB at once: its input, the same with a border, Winograd's buffer,
and its output. A band takes the rows beside it that its own depend on. So a band gives the values
of the whole map, to rounding: Winograd's tiles start at other rows.
"""

from math import ceil
from typing import Any

import numpy as np

from vgg_deploy.runtimes.ncnn_cut import Part
from vgg_deploy.runtimes.ncnn_loading import PACKED, PLAIN, NcnnPart

BAND_BYTES = 6 << 20  # of the widest value in a band
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
    row_bytes = 2 * width * part.channels * 4
    count = max(1, min(ceil(rows * row_bytes / BAND_BYTES), rows // LEAST_ROWS))
    return [rows * i // count for i in range(count + 1)]


def run_in_bands(stage: NcnnPart, image: np.ndarray) -> Any:
    """Run a stage.

    Args:
        stage: Ends with a pool of 2 x 2.
        image: Its input, (C, h, w) float32.

    Returns:
        A Mat, (C', h // 2, w // 2).
    """
    halo, (_, height, width) = stage.part.halo, image.shape
    ends = band_ends(stage.part, height, width)
    if len(ends) == 2:
        return stage({stage.part.reads: image}, [stage.part.gives], PACKED)[0]
    found = stage.new_mat((stage.part.channels, height // 2, width // 2))
    rows = np.asarray(found)
    for start, end in zip(ends, ends[1:], strict=False):
        first, last = max(0, 2 * start - halo), min(height, 2 * end + halo)
        band = stage({stage.part.reads: image[:, first:last]}, [stage.part.gives], PLAIN)[0]
        rows[:, start:end] = np.asarray(band)[:, start - first // 2 : end - first // 2]
    return found
