"""Distorts images in the ways that perceptual distances are tried with, the same on every machine.

Every kind has three strengths. Noise is drawn anew for each image from a generator that the image's
number and the strength seed.
"""

import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFilter

STRENGTHS = (0, 1, 2)  # mild, clear, strong
BLUR_SIGMA = (0.7, 1.5, 3.0)  # of a Gaussian, pixels
NOISE_SIGMA = (4.0, 12.0, 30.0)  # of Gaussian noise, grey levels, each channel on its own
JPEG_QUALITY = (60, 25, 8)  # Pillow's, with its usual subsampling
BRIGHTNESS = (1.08, 0.8, 1.5)  # factors of the pixels
SHIFT = (1, 3, 8)  # pixels to the right and down; what leaves on one side enters on the other


class Distortion(NamedTuple):
    """One kind at one strength.

    Attributes:
        kind: Key of KINDS.
        strength: Of STRENGTHS.
    """

    kind: str
    strength: int

    def __call__(self, image: np.ndarray, number: int) -> np.ndarray:
        """Distort an image.

        Args:
            image: (H, W, 3) uint8 RGB.
            number: Of the image, which seeds its noise.

        Returns:
            The same shape and type.
        """
        return KINDS[self.kind](image, self.strength, number)


def _blurred(image: np.ndarray, strength: int, number: int) -> np.ndarray:
    blur = ImageFilter.GaussianBlur(BLUR_SIGMA[strength])
    return np.asarray(Image.fromarray(image).filter(blur))


def _noisy(image: np.ndarray, strength: int, number: int) -> np.ndarray:
    drawn = np.random.default_rng((number, strength)).normal(0, NOISE_SIGMA[strength], image.shape)
    return _rounded(image + drawn)


def _compressed(image: np.ndarray, strength: int, number: int) -> np.ndarray:
    data = io.BytesIO()
    Image.fromarray(image).save(data, "JPEG", quality=JPEG_QUALITY[strength])
    data.seek(0)
    return np.asarray(Image.open(data).convert("RGB"))


def _brightened(image: np.ndarray, strength: int, number: int) -> np.ndarray:
    return _rounded(image * np.float64(BRIGHTNESS[strength]))


def _shifted(image: np.ndarray, strength: int, number: int) -> np.ndarray:
    return np.roll(image, (SHIFT[strength], SHIFT[strength]), (0, 1))


def _rounded(values: np.ndarray) -> np.ndarray:
    """Float pixels to uint8, halves to even."""
    rounded: np.ndarray = np.rint(values).clip(0, 255).astype(np.uint8)
    return rounded


KINDS: dict[str, Callable[[np.ndarray, int, int], np.ndarray]] = {
    "blur": _blurred,
    "noise": _noisy,
    "jpeg": _compressed,
    "brightness": _brightened,
    "shift": _shifted,
}
DISTORTIONS = tuple(Distortion(kind, strength) for kind in KINDS for strength in STRENGTHS)


def distorted_batch(image: np.ndarray, number: int) -> np.ndarray:
    """All distortions of an image.

    Args:
        image: (H, W, 3) uint8 RGB.
        number: Of the image, which seeds its noise.

    Returns:
        (15, 3, H, W) uint8 RGB, in the order of DISTORTIONS.
    """
    distorted = [distortion(image, number).transpose(2, 0, 1) for distortion in DISTORTIONS]
    return np.ascontiguousarray(np.stack(distorted))
