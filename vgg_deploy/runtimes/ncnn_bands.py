"""Runs a stage of a net in horizontal bands, so that its memory is bounded.

At 512 x 512 conv1_2 takes 352 MB at once: its input, the same with a border, Winograd's buffer,
and its output. A band takes the rows beside it that its own depend on. So a band gives the values
of the whole map, to rounding: Winograd's tiles start at other rows.
"""

from math import ceil
from typing import Any

import numpy as np

from vgg_deploy.runtimes.ncnn_cut import Part
from vgg_deploy.runtimes.ncnn_loading import PACKED, PLAIN, NcnnPart

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
    count = max(1, min(ceil(rows * row_bytes / part.band_bytes), rows // LEAST_ROWS))
    return [rows * i // count for i in range(count + 1)]


def run_in_bands(stage: NcnnPart, values: Any) -> Any:
    """Run a stage.

    Args:
        stage: Ends with a pool of 2 x 2.
        values: Its input, (C, h, w) float32, or a Mat. A Mat that is PACKED is not cut.

    Returns:
        A Mat, (C', h // 2, w // 2), PACKED if it was not cut.
    """
    is_packed = not isinstance(values, np.ndarray) and values.elempack > 1
    ends = [] if is_packed else band_ends(stage.part, *np.asarray(values).shape[1:])
    if len(ends) <= 2:
        return stage({stage.part.reads: values}, [stage.part.gives], PACKED)[0]
    image, halo = np.asarray(values), stage.part.halo
    _, height, width = image.shape
    found = stage.new_mat((stage.part.channels, height // 2, width // 2))
    rows = np.asarray(found)
    for start, end in zip(ends, ends[1:], strict=False):
        first, last = max(0, 2 * start - halo), min(height, 2 * end + halo)
        band = stage({stage.part.reads: image[:, first:last]}, [stage.part.gives], PLAIN)[0]
        rows[:, start:end] = np.asarray(band)[:, start - first // 2 : end - first // 2]
    return found
