"""Computes the crops that are scored instead of the whole image, or beside it (section 3.2)."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

from vgg_deploy.images.encoded import resized
from vgg_deploy.images.geometry import offset as offset

GRID = 5  # crops along each side


class Crop(NamedTuple):
    """A square of a rescaled image, in pixels."""

    top: int
    left: int
    side: int  # the net's crop, or more: then the square is resized to the crop


def regular_grid(height: int, width: int, crop: int) -> list[Crop]:
    """Compute 5 x 5 crops from edge to edge; with their mirror images, the paper's 50."""
    tops = [offset(height, crop, i, GRID - 1) for i in range(GRID)]
    lefts = [offset(width, crop, i, GRID - 1) for i in range(GRID)]
    return [Crop(top, left, crop) for top in tops for left in lefts]


def centre(height: int, width: int, crop: int) -> list[Crop]:
    """Compute the one crop in the middle."""
    return [Crop(offset(height, crop, 1, 2), offset(width, crop, 1, 2), crop)]


def corners_and_centre(height: int, width: int, crop: int) -> list[Crop]:
    """Compute 5 crops; with their mirror images, AlexNet's ten."""
    return [
        *(Crop(top, left, crop) for top in (0, height - crop) for left in (0, width - crop)),
        *centre(height, width, crop),
    ]


def three_squares(height: int, width: int, crop: int) -> list[Crop]:
    """Compute 18 views: six of each of three squares along the longer side.

    The squares are the first, the middle and the last one. The views of a square are its corners,
    its centre and all of it. With their mirror images and at four scales, these are GoogLeNet's
    144.
    """
    side = min(height, width)
    inside = corners_and_centre(side, side, crop)
    views = []
    for step in range(3):
        top, left = offset(height, side, step, 2), offset(width, side, step, 2)
        views += [Crop(top + view.top, left + view.left, crop) for view in inside]
        views.append(Crop(top, left, side))
    return views


# (height, width, crop) -> views of a rescaled image whose sides are at least the crop
VIEW_SETS: dict[str, Callable[[int, int, int], list[Crop]]] = {
    "multicrop": regular_grid,
    "centre": centre,
    "ten": corners_and_centre,
    "googlenet": three_squares,
}


def cut(images: np.ndarray, views: list[Crop], crop: int, filter: str) -> np.ndarray:
    """Cut the same views out of every image of a batch.

    Args:
        images: (N, 3, h, w) uint8.
        views: Squares of an image of this size.
        crop: Side of the result, pixels; larger squares are resized to it.
        filter: "bilinear" or "bicubic".

    Returns:
        (N * views, 3, crop, crop) uint8, all views of the first image first.
    """
    return np.stack([_cut(image, view, crop, filter) for image in images for view in views])


def _cut(image: np.ndarray, view: Crop, crop: int, filter: str) -> np.ndarray:
    square = image[:, view.top : view.top + view.side, view.left : view.left + view.side]
    if view.side == crop:
        return square
    pixels = Image.fromarray(np.ascontiguousarray(square.transpose(1, 2, 0)))
    return np.asarray(resized(pixels, crop, filter)).transpose(2, 0, 1)
