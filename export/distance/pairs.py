"""Makes the pairs of images that distance files are checked and measured with."""

from typing import NamedTuple

import numpy as np
from PIL import Image

from vgg_deploy.data.built_in import render
from vgg_deploy.images.decode import resized
from vgg_deploy.images.distortions import DISTORTIONS, distorted_batch

SIDE = 64  # shorter side of the photos that are distorted: LPIPS was fitted on patches of 64x64
MOST_PHOTOS = 8
BUILT_IN_PHOTOS = 4  # where nothing is calibrated


class Pairs(NamedTuple):
    """Pairs of images of one size."""

    first: np.ndarray  # (N, 3, H, W) uint8 RGB
    second: np.ndarray  # the same


def check_pairs(least: int) -> list[Pairs]:
    """Built-in images beside distorted ones, others and themselves, at sizes odd and even.

    Args:
        least: Shortest side that the distance takes, pixels.
    """
    sizes = [
        (1, least, least),
        (2, 64, 64),
        (3, max(least, 37), 61),
        (2, 97, 131),
        (1, 224, 224),
    ]
    found, number = [], 0
    for count, height, width in sizes:
        first, second = [], []
        for _ in range(count):
            image = _stretched(number, height, width)
            distortion = DISTORTIONS[(4 * number + 2) % len(DISTORTIONS)]
            match number % 4:
                case 2:
                    other = image
                case 3:
                    other = _stretched(number + 1, height, width)
                case _:
                    other = distortion(image, number)
            first.append(image)
            second.append(other)
            number += 1
        found.append(Pairs(_planes(first), _planes(second)))
    return found


def distorted_pairs(photos: list[np.ndarray]) -> list[Pairs]:
    """Each photo beside all of its distortions.

    Args:
        photos: (3, H, W) uint8 RGB.

    Returns:
        15 pairs of each photo, in the order of DISTORTIONS.
    """
    found = []
    for number, photo in enumerate(photos):
        second = distorted_batch(photo.transpose(1, 2, 0), number)
        found.append(Pairs(np.repeat(photo[None], len(second), axis=0), second))
    return found


def photos_of(batches: list[np.ndarray]) -> list[np.ndarray]:
    """Some photos, spread evenly, at a shorter side of SIDE pixels.

    Args:
        batches: (N, 3, H, W) uint8 RGB.

    Returns:
        At most MOST_PHOTOS, (3, H, W) uint8 RGB.
    """
    images = [image for batch in batches for image in batch]
    count = min(MOST_PHOTOS, len(images))
    chosen = [images[i * len(images) // count] for i in range(count)]
    return [_small(Image.fromarray(image.transpose(1, 2, 0))) for image in chosen]


def built_in_photos() -> list[np.ndarray]:
    """Built-in images at a shorter side of SIDE pixels, (3, H, W) uint8 RGB."""
    return [_small(render("val", 100 + number)) for number in range(BUILT_IN_PHOTOS)]


def _small(image: Image.Image) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(resized(image, SIDE, "bilinear")).transpose(2, 0, 1))


def _stretched(number: int, height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8 of a built-in image."""
    return np.asarray(render("val", number).resize((width, height)))


def _planes(images: list[np.ndarray]) -> np.ndarray:
    return np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2))
