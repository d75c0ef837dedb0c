"""Reads the boxes of a net's output map, and says how many numbers that map has.

A net states one box for all classes (shared, the paper's SCR) or one for each (per-class, PCR). The
output of a class's box are four channels in a row, classes in the order of the net.
"""

import numpy as np

from vgg_deploy.boxes.forms import read_boxes

BOX_OUTPUTS = ("shared", "per-class")
NUMBERS = 4  # of a box


def output_channels(boxes: str, classes: int) -> int:
    """Channels of the last layer of a net that states boxes.

    Args:
        boxes: One of BOX_OUTPUTS.
        classes: Number of classes.
    """
    return NUMBERS * (classes if boxes == "per-class" else 1)


def boxes_of_map(output: np.ndarray, windows: np.ndarray, boxes: str, form: str) -> np.ndarray:
    """The boxes that a net states at the positions of its map.

    Args:
        output: (channels, h, w) of one image.
        windows: (h, w, 4) of these positions, pixels.
        boxes: One of BOX_OUTPUTS.
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
