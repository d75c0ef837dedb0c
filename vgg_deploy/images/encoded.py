"""Decodes and rescales image files with Pillow alone, without PyTorch.

All functions are pure and safe to call from many threads. Pillow's fixed-point arithmetic gives the
same pixels on every machine. A copy of this module, and of what it imports, goes into repositories
of Triton: a server decodes by the same code.
"""

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from vgg_deploy.errors import InputError, UnreadableImage
from vgg_deploy.images.geometry import rescaled_size
from vgg_deploy.images.jpeg_damage import damage
from vgg_deploy.images.orientation import SIDEWAYS, orientation, turned
from vgg_deploy.regular_files import open_regular

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP")  # by a file's header, never by its name
# Longer side over shorter; a longer sliver, rescaled to a side of 256, would fill the memory
MOST_ASPECT = 100
MOST_BYTES = 2**28  # of an image file, 256 MiB
RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
# What Pillow's decoders raise for damaged files
DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    struct.error,
)

# Pillow warns of broken EXIF blocks. ImageNet has some, and nothing here reads them. What Pillow
# cannot decode it raises.
warnings.filterwarnings("ignore", module=r"PIL\.")


def read_image(
    file: str | Path | BytesIO, name: str | None = None, upright: bool = False
) -> Image.Image:
    """Decode an image file, as `Image.open(file).convert("RGB")` does.

    Grey becomes three equal channels. CMYK is converted. Alpha is dropped rather than blended.
    16 bits are cut to the upper 8. The first frame of an animation is taken.

    Args:
        file: Its path or its content.
        name: For messages, by default the path.
        upright: Apply the EXIF rotation. No published ImageNet number does.

    Returns:
        An RGB image.

    Raises:
        InputError: If the file is missing, empty, damaged, cut short, or not an image of FORMATS;
            or if it has more than 178 megapixels (Pillow's limit) or sides beyond 1:MOST_ASPECT.
    """
    with _opened(file, name) as image:
        if image.format in ("JPEG", "MPO"):  # the latter holds several JPEGs
            reason = damage(_all_bytes(image))
            if reason:
                raise UnreadableImage(f"{file if name is None else name}: damaged: {reason}")
        turn = orientation(image) if upright else 1
        image.info.pop("transparency", None)  # or Pillow would convert it, for nothing
        if image.mode == "I;16":  # a 16-bit grey PNG; convert() would clip it at 255
            upper = (np.asarray(image) >> 8).astype(np.uint8)
            return turned(Image.fromarray(upper).convert("RGB"), turn)
        return turned(image.convert("RGB"), turn)


def image_orientation(file: str | Path | BytesIO, name: str | None = None) -> int:
    """Read the EXIF orientation of an image file, 1 to 8, see `orientation`.

    Args:
        file: Its path or its content.
        name: For messages, by default the path.

    Raises:
        InputError: As `image_size`.
    """
    with _opened(file, name) as image:
        return orientation(image)


def image_size(
    file: str | Path | BytesIO, name: str | None = None, upright: bool = False
) -> tuple[int, int]:
    """Read the size of an image file from its header alone; its pixels may still be damaged.

    Args:
        file: Its path or its content.
        name: For messages, by default the path.
        upright: Of the image that the EXIF rotation turns.

    Returns:
        (height, width) in pixels.

    Raises:
        InputError: As `read_image`, for what the header shows.
    """
    with _opened(file, name) as image:
        if upright and orientation(image) in SIDEWAYS:
            return image.width, image.height
        return image.height, image.width


def resized(image: Image.Image, side: int, filter: str = "bilinear") -> Image.Image:
    """Resize a Pillow image as `rescale` does, without a detour over a tensor.

    Args:
        image: RGB.
        side: S or Q, pixels.
        filter: "bilinear" or "bicubic".

    Returns:
        RGB; `image` itself if its size stays.
    """
    height, width = rescaled_size(image.height, image.width, side)
    if (width, height) == image.size:
        return image
    return image.resize((width, height), RESAMPLING[filter])


@contextmanager
def _opened(file: str | Path | BytesIO, name: str | None) -> Iterator[Image.Image]:
    """Open an image with a sound header; turn Pillow's errors in the block into InputErrors."""
    path = file if name is None else name
    try:
        with (
            (
                nullcontext(file) if isinstance(file, BytesIO) else open_regular(file, MOST_BYTES)
            ) as opened,
            Image.open(opened, formats=FORMATS) as image,
        ):
            if max(image.size) > MOST_ASPECT * min(image.size):
                raise UnreadableImage(
                    f"{path}: {image.width}x{image.height} pixels is a sliver, "
                    f"expected sides within 1:{MOST_ASPECT}"
                )
            yield image
    except UnidentifiedImageError:
        what = "not an image of a known format" if _byte_count(file) else "empty (0 bytes)"
        raise UnreadableImage(f"{path}: is {what}, expected one of {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError as error:
        raise UnreadableImage(f"{path}: {error}") from None
    except DAMAGED as error:
        if isinstance(error, OSError) and error.errno:
            raise InputError(
                f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
            ) from None
        raise UnreadableImage(f"{path}: damaged or cut short ({error})") from None


def _all_bytes(image: Image.Image) -> bytes:
    """The bytes of the file of an image that is open; the place in the file stays."""
    file = cast(BinaryIO, cast(ImageFile.ImageFile, image).fp)
    place = file.tell()
    file.seek(0)
    data = file.read()
    file.seek(place)
    return data


def _byte_count(file: str | Path | BytesIO) -> int:
    return file.getbuffer().nbytes if isinstance(file, BytesIO) else Path(file).stat().st_size
