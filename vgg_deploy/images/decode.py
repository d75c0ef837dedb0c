"""Decodes image files into tensors and rescales them to a test or training scale.

All functions are pure and safe to call from many threads. Pillow does both jobs: its fixed-point
arithmetic gives the same pixels on every machine, it reads the odd files of ImageNet, and it lets
other threads run while it works. torchvision's decoders give the same pixels but are deprecated;
torch's uint8 resize is faster but differs by one or two grey levels.
"""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, features
from PIL import __version__ as pillow_version

from vgg_deploy.images.encoded import RESAMPLING
from vgg_deploy.images.encoded import image_orientation as image_orientation
from vgg_deploy.images.encoded import image_size as image_size
from vgg_deploy.images.encoded import read_image as read_image
from vgg_deploy.images.encoded import resized as resized
from vgg_deploy.images.geometry import rescaled_size

if TYPE_CHECKING:
    from torch import Tensor


def decoder_versions() -> dict[str, str | None]:
    """Look up the versions of the libraries that decode and rescale images.

    Other versions may round differently. Lossless formats need no entry.

    Returns:
        Version by library; None for one that Pillow was built without.
    """
    has_turbo = features.check_feature("libjpeg_turbo")
    name = "libjpeg_turbo" if has_turbo else "libjpeg"
    jpeg = features.version("libjpeg_turbo" if has_turbo else "jpg")
    return {"pillow": pillow_version, name: jpeg, "webp": features.version("webp")}


def decode(file: str | Path | BytesIO, name: str | None = None, upright: bool = False) -> "Tensor":
    """Decode an image file, as `read_image`, into a tensor.

    Args:
        file: Its path or its content.
        name: For messages, by default the path.
        upright: See `read_image`.

    Returns:
        (3, H, W) uint8 RGB.

    Raises:
        InputError: As `read_image`.
    """
    return planes(read_image(file, name, upright))


def rescale(image: "Tensor", side: int, filter: str = "bilinear") -> "Tensor":
    """Resize an image so that its shorter side is `side`, keeping the aspect ratio.

    Smaller images are enlarged, never padded. The filter widens when it shrinks (antialias), and
    values are rounded to uint8: Pillow's resize, bit for bit. Sections 3.1 and 3.2 of the paper
    leave filter and rounding open.

    Args:
        image: (3, H, W) uint8.
        side: S or Q, pixels.
        filter: "bilinear" or "bicubic".

    Returns:
        (3, h, w) uint8 with min(h, w) == side; `image` itself if its size stays.
    """
    height, width = image.shape[1:]
    if rescaled_size(height, width, side) == (height, width):
        return image
    interleaved = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    return planes(resized(Image.fromarray(interleaved), side, filter))


def rescaled_part(
    image: Image.Image, side: int, top: int, left: int, crop: int, filter: str = "bilinear"
) -> "Tensor":
    """Compute a square of the rescaled image, and no more: at S = 512 a sixth of a photo.

    Pillow takes the position of the square as float32, so that a few values in a hundred differ
    from those of `rescale` by one or two grey levels. That is fine for training; tests use
    `rescale`.

    Args:
        image: RGB.
        side: S, pixels.
        top: First row of the square, pixels of the rescaled image.
        left: First column, likewise.
        crop: Side of the square, likewise.
        filter: "bilinear" or "bicubic".

    Returns:
        (3, crop, crop) uint8.
    """
    height, width = rescaled_size(image.height, image.width, side)
    if (width, height) == image.size:
        return planes(image.crop((left, top, left + crop, top + crop)))
    across, down = image.width / width, image.height / height
    box = (
        left * across,
        top * down,
        min((left + crop) * across, image.width),
        min((top + crop) * down, image.height),
    )
    return planes(image.resize((crop, crop), RESAMPLING[filter], box=box))


def planes(image: Image.Image) -> "Tensor":
    """Copy an RGB image to a (3, H, W) uint8 tensor, whose channels stay interleaved in memory."""
    import torch  # here, because reading a header or resizing needs no PyTorch

    return torch.from_numpy(np.array(image)).permute(2, 0, 1)
