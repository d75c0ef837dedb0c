"""The random views of section 3.1: S per image, one crop, a flip, a colour shift. Pure functions of a generator."""

from typing import NamedTuple

import numpy as np
from PIL.Image import Image
from torch import Tensor

from vgg_deploy.images.crops import centre
from vgg_deploy.images.decode import rescaled_part
from vgg_deploy.images.geometry import rescaled_size


class RandomView(NamedTuple):
    """One training example before mean subtraction."""

    crop: Tensor  # (3, crop, crop) uint8 RGB
    shift: np.ndarray  # (3,) float32, added to every pixel of the crop
    side: int  # S that was drawn
    top: int  # of the crop in the image at S
    left: int
    mirrored: bool


def random_view(
    image: Image,
    crop: int,
    side: tuple[int, int],
    filter: str,
    components: np.ndarray,
    sigma: float,
    rng: np.random.Generator,
) -> RandomView:
    """Draw one view of an RGB image.

    Args: side, closed range of S in pixels; components, (3, 3) columns of colour_components; sigma, their spread.
    """
    s = int(rng.integers(side[0], side[1] + 1))
    height, width = rescaled_size(image.height, image.width, s)
    top = int(rng.integers(height - crop + 1))
    left = int(rng.integers(width - crop + 1))
    cut = rescaled_part(image, s, top, left, crop, filter)
    mirrored = bool(rng.random() < 0.5)
    if mirrored:
        cut = cut.flip(2)
    shift = components @ rng.normal(0, sigma, 3)
    return RandomView(cut.contiguous(), shift.astype(np.float32), s, top, left, mirrored)


def centre_crop(image: Tensor, crop: int) -> Tensor:
    """The middle of (3, H, W)."""
    ((top, left, _),) = centre(*image.shape[1:], crop)
    return image[:, top : top + crop, left : left + crop]
