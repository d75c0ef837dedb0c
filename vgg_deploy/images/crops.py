"""The crops that are scored instead of, or beside, the whole image (section 3.2). Geometry only, in closed form."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch

from vgg_deploy.images.decode import rescale

GRID = 5  # crops along each side


class Crop(NamedTuple):
    """A square of a rescaled image, pixels."""

    top: int
    left: int
    side: int  # the net's crop, or more: then the square is resized to the crop


def offset(length: int, crop: int, step: int, steps: int) -> int:
    """Where crop `step` of 0..steps begins along a side, edge to edge; halves go to the even number, as in torchvision."""
    return round(step * (length - crop) / steps)


def regular_grid(height: int, width: int, crop: int) -> list[Crop]:
    """5 x 5 crops from edge to edge; with their mirror images the paper's 50."""
    tops, lefts = (
        [offset(side, crop, i, GRID - 1) for i in range(GRID)] for side in (height, width)
    )
    return [Crop(top, left, crop) for top in tops for left in lefts]


def centre(height: int, width: int, crop: int) -> list[Crop]:
    """The middle."""
    return [Crop(offset(height, crop, 1, 2), offset(width, crop, 1, 2), crop)]


def corners_and_centre(height: int, width: int, crop: int) -> list[Crop]:
    """5 crops; with their mirror images AlexNet's ten."""
    return [
        *(Crop(top, left, crop) for top in (0, height - crop) for left in (0, width - crop)),
        *centre(height, width, crop),
    ]


def three_squares(height: int, width: int, crop: int) -> list[Crop]:
    """18 views: of the first, middle and last square along the longer side, its corners, its centre and all of it.

    With their mirror images and at four scales GoogLeNet's 144.
    """
    side, views = min(height, width), []
    for step in range(3):
        top, left = offset(height, side, step, 2), offset(width, side, step, 2)
        inside = corners_and_centre(side, side, crop)
        views += [Crop(top + v.top, left + v.left, crop) for v in inside] + [Crop(top, left, side)]
    return views


# (height, width, crop) -> views of a rescaled image whose sides are at least the crop
VIEW_SETS: dict[str, Callable[[int, int, int], list[Crop]]] = {
    "multicrop": regular_grid,
    "centre": centre,
    "ten": corners_and_centre,
    "googlenet": three_squares,
}


def cut(images: np.ndarray, views: list[Crop], crop: int, filter: str) -> np.ndarray:
    """(N, 3, h, w) uint8 -> (N * views, 3, crop, crop) uint8, all views of the first image first."""
    return np.stack([_cut(image, view, crop, filter) for image in images for view in views])


def _cut(image: np.ndarray, view: Crop, crop: int, filter: str) -> np.ndarray:
    square = image[:, view.top : view.top + view.side, view.left : view.left + view.side]
    return square if view.side == crop else rescale(torch.from_numpy(square), crop, filter).numpy()
