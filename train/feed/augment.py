"""Draws the random views of section 3.1: S per image, one crop, a flip, a colour shift."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL.Image import Image
from torch import Tensor

from vgg_deploy.images.crops import centre
from vgg_deploy.images.decode import rescaled_part
from vgg_deploy.images.geometry import rescaled_size

NO_BOX = np.zeros(0, np.float32)


@dataclass(frozen=True, eq=False)
class Augmentation:
    """How views are drawn.

    Attributes:
        crop: Side of the crop, pixels.
        side: Closed range of S, the shorter side of the rescaled image, pixels.
        filter: Pillow's name of the resampling filter, lower case.
        components: (3, 3) colour axes of `Colours.components`.
        sigma: Standard deviation of the coefficients of these axes.
    """

    crop: int
    side: tuple[int, int]
    filter: str
    components: np.ndarray
    sigma: float


class RandomView(NamedTuple):
    """One training example before mean subtraction.

    Attributes:
        crop: (3, crop, crop) uint8 RGB.
        shift: (3,) float32, added to every pixel of the crop.
        side: The S that was drawn, pixels.
        top: First row of the crop in the image at S.
        left: First column of the crop in the image at S.
        mirrored: Whether the crop is flipped horizontally.
        box: (4,) float32, what a localiser should say of the view; (0,) for a classifier.
    """

    crop: Tensor
    shift: np.ndarray
    side: int
    top: int
    left: int
    mirrored: bool
    box: np.ndarray = NO_BOX


def random_view(image: Image, augmentation: Augmentation, rng: np.random.Generator) -> RandomView:
    """Draw one view, a pure function of the image and the generator.

    Args:
        image: RGB, with any sides.
        augmentation: How views are drawn.
        rng: The generator; the order of its draws is part of the result.

    Returns:
        The view.
    """
    crop = augmentation.crop
    low, high = augmentation.side
    s = int(rng.integers(low, high + 1))
    height, width = rescaled_size(image.height, image.width, s)
    top = int(rng.integers(height - crop + 1))
    left = int(rng.integers(width - crop + 1))
    pixels = rescaled_part(image, s, top, left, crop, augmentation.filter)
    mirrored = bool(rng.random() < 0.5)
    if mirrored:
        pixels = pixels.flip(2)
    shift = augmentation.components @ rng.normal(0, augmentation.sigma, 3)
    return RandomView(pixels.contiguous(), shift.astype(np.float32), s, top, left, mirrored)


def centre_crop(image: Tensor, crop: int) -> Tensor:
    """Cut the middle out of an image.

    Args:
        image: (3, H, W).
        crop: Side of the crop, pixels.

    Returns:
        (3, crop, crop), a view of the image.
    """
    _, height, width = image.shape
    ((top, left, _),) = centre(height, width, crop)
    return image[:, top : top + crop, left : left + crop]
