"""Takes images in the forms that callers have: paths, Pillow's images, arrays, tensors."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from PIL import Image
from torch import Tensor

from vgg_deploy.data.decode_pool import scaled
from vgg_deploy.data.directory import files_below, is_image
from vgg_deploy.errors import InputError
from vgg_deploy.images.decode import read_image
from vgg_deploy.predict.stream import Pixels

OneImage: TypeAlias = str | os.PathLike[str] | Image.Image | np.ndarray | Tensor
ImageInput: TypeAlias = OneImage | Iterable[OneImage]

LAYOUT = "give uint8 RGB of 0-255"


class NamedImage(NamedTuple):
    """An image that is decoded."""

    name: str
    image: Image.Image  # RGB


def named_images(images: ImageInput) -> Iterator[NamedImage]:
    """Decode images as they are asked for.

    Args:
        images: One image or several: paths, Pillow's images, (H, W, 3) uint8 RGB arrays as Pillow
            and matplotlib have them, or (3, H, W) uint8 RGB arrays or tensors. An array of four
            dimensions is a batch. The path of a folder stands for all images in it and below it.

    Yields:
        The images. Those that are not files are named by their number, from 0.

    Raises:
        InputError: For an image that cannot be read, a folder without images, or anything else
            than an image.
    """
    for number, image in enumerate(_several(images)):
        if isinstance(image, str | os.PathLike):
            for file in _files_of(Path(image)):
                yield NamedImage(os.fspath(file), read_image(file))
        elif isinstance(image, Image.Image):
            yield NamedImage(str(number), image.convert("RGB"))
        else:
            yield NamedImage(str(number), Image.fromarray(_interleaved(image, number)))


def pixels_at(image: Image.Image, sides: Iterable[int], filter: str) -> Pixels:
    """Rescale an image.

    Args:
        image: RGB.
        sides: Q, pixels.
        filter: Of the net's preprocessing; AS_STORED: not at all.
    """
    return {
        side: np.ascontiguousarray(np.asarray(scaled(image, side, filter)).transpose(2, 0, 1))
        for side in sides
    }


def checked_batch(images: Any, least: int) -> np.ndarray:
    """Check the input of a net.

    Args:
        images: (N, 3, H, W) uint8 RGB, an array or a tensor.
        least: Shortest side that the net takes, pixels.

    Returns:
        The same, contiguous.

    Raises:
        InputError: For another type, another shape, or shorter sides.
    """
    array = images.numpy(force=True) if isinstance(images, Tensor) else images
    if not isinstance(array, np.ndarray):
        raise InputError(f"images are a {type(images).__name__}; {LAYOUT}, (N, 3, H, W)")
    if array.dtype != np.uint8:
        raise InputError(
            f"images are {array.dtype}; {LAYOUT}, (N, 3, H, W): the net subtracts its mean itself"
        )
    if array.ndim != 4 or array.shape[1] != 3 or not len(array):
        raise InputError(f"images have the shape {array.shape}; {LAYOUT}, (N, 3, H, W)")
    if min(array.shape[2:]) < least:
        height, width = array.shape[2:]
        raise InputError(
            f"images are {height} x {width}, and the net needs sides of {least} or more; "
            "rescale them"
        )
    return np.ascontiguousarray(array)


def _several(images: ImageInput) -> Iterable[Any]:
    if isinstance(images, str | os.PathLike | Image.Image):
        return [images]
    if isinstance(images, np.ndarray | Tensor):
        return images if images.ndim == 4 else [images]
    if isinstance(images, Iterable):
        return images
    raise InputError(
        f"{type(images).__name__} is no image; give a path, a Pillow image or an array"
    )


def _files_of(path: Path) -> list[Path]:
    """The path itself, or all images of a folder, sorted by name.

    Raises:
        InputError: If there is no image in the folder.
    """
    if not path.is_dir():
        return [path]
    files = [file for file in files_below(path) if is_image(file.name)]
    if not files:
        raise InputError(f"{path}: no images there; give a folder that has some")
    return files


def _interleaved(image: object, number: int) -> np.ndarray:
    """(H, W, 3) uint8 of an array in either order."""
    array = image.numpy(force=True) if isinstance(image, Tensor) else image
    what = f"image {number}"
    if not isinstance(array, np.ndarray):
        raise InputError(
            f"{what} is a {type(image).__name__}; give a path, a Pillow image or an array"
        )
    if array.dtype != np.uint8:
        raise InputError(f"{what} is {array.dtype}; {LAYOUT}")
    if array.ndim == 3 and array.shape[-1] == 3 and array.shape[0] != 3:
        return np.ascontiguousarray(array)
    if array.ndim == 3 and array.shape[0] == 3 and array.shape[-1] != 3:
        return np.ascontiguousarray(array.transpose(1, 2, 0))
    raise InputError(f"{what} has the shape {array.shape}; {LAYOUT}, (H, W, 3) or (3, H, W)")
