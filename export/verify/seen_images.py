"""Makes the images that a file is checked with, and what its convolutions see of them."""

import numpy as np
import torch
from PIL import Image

from export.verify.parity import check_images
from vgg_deploy.data.built_in import render
from vgg_deploy.exported.interface import Interface
from vgg_deploy.images.crops import centre
from vgg_deploy.images.decode import rescale
from vgg_deploy.net.spec import NetSpec

FIXED_BATCHES = 3  # of the fixed shape
# (height, width) of further whole images: tiny, tall, wide, larger than most Q
WHOLE_SIZES = ((17, 31), (331, 90), (61, 440), (480, 641))


def images_for(crop: int, interface: Interface) -> list[np.ndarray]:
    """Built-in images in sizes that a file takes: batches (N, 3, H, W) uint8 RGB.

    Args:
        crop: Of the net, pixels.
        interface: Of the file.
    """
    if interface.shape is not None:
        count, height, width = interface.shape
        return [_rendered(count, height, width, 8 * i) for i in range(FIXED_BATCHES)]
    batches = check_images(crop)
    if interface.side is not None:
        batches += [
            _rendered(1, height, width, 4 + 8 * i) for i, (height, width) in enumerate(WHOLE_SIZES)
        ]
    return batches


def seen_batch(images: np.ndarray, spec: NetSpec, interface: Interface) -> np.ndarray:
    """What the convolutions see of a batch, with Pillow's pixels.

    Args:
        images: (N, 3, H, W) uint8 RGB, as the file is given them.
        spec: Of the net.
        interface: Of the file.

    Returns:
        (N, 3, h, w) uint8 RGB; the batch itself unless the file rescales.
    """
    if interface.side is None:
        return images
    filter = spec.preprocessing.filter
    rescaled = [rescale(torch.from_numpy(image), interface.side, filter) for image in images]
    seen = np.stack([image.numpy() for image in rescaled])
    if interface.view == "centre":
        height, width = seen.shape[2:]
        ((top, left, side),) = centre(height, width, spec.crop)
        seen = seen[:, :, top : top + side, left : left + side]
    return np.ascontiguousarray(seen)


def shaped(images: np.ndarray, interface: Interface) -> np.ndarray:
    """Images stretched to the shape that a file takes, if it takes one only.

    Args:
        images: (N, 3, H, W) uint8 RGB.
        interface: Of the file.
    """
    if interface.shape is None:
        return images
    height, width = interface.shape[1:]
    return np.stack([_stretched(image, height, width) for image in images])


def _rendered(count: int, height: int, width: int, first: int) -> np.ndarray:
    images = [render("val", first + n).resize((width, height)) for n in range(count)]
    return np.stack([np.asarray(image).transpose(2, 0, 1) for image in images])


def _stretched(image: np.ndarray, height: int, width: int) -> np.ndarray:
    interleaved = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    stretched = interleaved.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(stretched).transpose(2, 0, 1)
