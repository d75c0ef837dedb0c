"""Reads the boxes of a net's output map.

The output of a class's box are four channels in a row, classes in the order of the net. A net with
one box for all classes has four channels.
"""

import numpy as np

from vgg_deploy.boxes.forms import read_boxes
from vgg_deploy.net.box_outputs import NUMBERS


def boxes_of_map(output: np.ndarray, windows: np.ndarray, form: str) -> np.ndarray:
    """The boxes that a net states at the positions of its map.

    Args:
        output: (channels, h, w) of one image.
        windows: (h, w, 4) of these positions, pixels.
        form: Name in BOX_FORMS.

    Returns:
        (classes, h * w, 4) float64, pixels; one class for shared boxes, which are those of every
        class. Positions go row by row.

    Raises:
        ValueError: If output and windows are of different positions.
    """
    channels, height, width = output.shape
    if windows.shape != (height, width, NUMBERS):
        raise ValueError(f"output {output.shape} does not fit windows {windows.shape}")
    numbers = output.reshape(channels // NUMBERS, NUMBERS, height * width).transpose(0, 2, 1)
    return read_boxes(numbers, windows.reshape(height * width, NUMBERS), form)


def boxes_of_class(stated: np.ndarray, index: int) -> np.ndarray:
    """The boxes of one class.

    Args:
        stated: (classes, positions, 4) of `boxes_of_map`; one class for shared boxes.
        index: Of the class.

    Returns:
        (positions, 4).
    """
    boxes: np.ndarray = stated[index if len(stated) > 1 else 0]
    return boxes
