"""Image files to pixels at a test or training scale: decode, rescale. Pure functions, safe to call from many threads.

Pillow does both: its fixed-point arithmetic gives the same pixels on every machine, it reads the odd files of ImageNet,
and it lets other threads run while it works. torchvision's decoders give the same pixels but are deprecated;
torch's uint8 resize is faster but differs by a grey level or two.
"""

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError, features
from PIL import __version__ as pillow_version
from torch import Tensor

from vgg_deploy.errors import InputError, UnreadableImage
from vgg_deploy.images.geometry import rescaled_size
from vgg_deploy.images.jpeg_damage import damage

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP")  # told by a file's header, never by its name
MOST_ASPECT = (
    100  # longer side over shorter; a sliver rescaled to a side of 256 would fill the memory
)
RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
# what Pillow's decoders raise for damaged files
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

# Pillow warns of broken EXIF blocks, which ImageNet has and nothing here reads; what it cannot decode it raises.
warnings.filterwarnings("ignore", module=r"PIL\.")


def decoder_versions() -> dict[str, str | None]:
    """Versions of what turns image files into pixels and rescales them; other versions may round differently.

    Returns: by library; None for one that Pillow was built without. Lossless formats need no entry.
    """
    turbo = "libjpeg_turbo"
    jpeg = features.version(turbo) if features.check_feature(turbo) else features.version("jpg")
    name = turbo if features.check_feature(turbo) else "libjpeg"
    return {"pillow": pillow_version, name: jpeg, "webp": features.version("webp")}


def decode(file: str | Path | BytesIO, name: str | None = None) -> Tensor:
    """(3, H, W) uint8 RGB pixels of an image file. Args and errors: those of `read_image`."""
    return planes(read_image(file, name))


def read_image(file: str | Path | BytesIO, name: str | None = None) -> Image.Image:
    """An image file, as `Image.open(file).convert("RGB")` gives it.

    Args: file, its path or what it holds; name, for messages, by default the path.
    Returns: RGB. Grey becomes three equal channels, CMYK is converted, alpha is dropped rather than
        blended, 16 bits are cut to the upper 8, of an animation the first frame is taken. The EXIF rotation is not
        applied, as in every published ImageNet number.
    Raises: InputError, naming the file, if it is missing, empty, damaged, cut short, not an image of FORMATS, of more
        than 178 megapixels (Pillow's limit) or longer than MOST_ASPECT times its width.
    """
    with _opened(file, name) as image:
        if image.format in ("JPEG", "MPO"):  # the latter holds several JPEGs
            held = file.getvalue() if isinstance(file, BytesIO) else Path(file).read_bytes()
            reason = damage(held)
            if reason:
                raise UnreadableImage(f"{file if name is None else name}: damaged: {reason}")
        image.info.pop("transparency", None)  # else Pillow would fit it to the new mode, in vain
        if image.mode == "I;16":  # a 16-bit grey PNG; convert() would clip it at 255
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        return image.convert("RGB")


def image_size(file: str | Path | BytesIO, name: str | None = None) -> tuple[int, int]:
    """(height, width) of an image file in pixels, from its header alone; what follows may still be damaged.

    Args and errors: those of `decode`.
    """
    with _opened(file, name) as image:
        return image.height, image.width


def rescale(image: Tensor, side: int, filter: str = "bilinear") -> Tensor:
    """Resize so that the shorter side is `side` and the aspect ratio stays; smaller images are enlarged, never padded.

    Args: image, (3, H, W) uint8; side, S or Q in pixels; filter, "bilinear" or "bicubic".
    Returns: (3, h, w) uint8, min(h, w) == side; `image` itself where nothing changes. The filter widens when it
        shrinks (antialias), and values are rounded to uint8: Pillow's resize, bit for bit.
    Source: sections 3.1 and 3.2 of the paper, which leave filter and rounding open.
    """
    if rescaled_size(*image.shape[1:], side) == tuple(image.shape[1:]):
        return image
    return planes(
        resized(Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy())), side, filter)
    )


def resized(image: Image.Image, side: int, filter: str = "bilinear") -> Image.Image:
    """What `rescale` does, without a detour over a tensor."""
    height, width = rescaled_size(image.height, image.width, side)
    return (
        image
        if (width, height) == image.size
        else image.resize((width, height), RESAMPLING[filter])
    )


def rescaled_part(
    image: Image.Image, side: int, top: int, left: int, crop: int, filter: str = "bilinear"
) -> Tensor:
    """A square of what `rescale` gives, computing no more than it needs: at S=512 a crop of 224 is a sixth of a photo.

    Args: image, RGB; top, left, crop, in pixels of the rescaled image. Returns: (3, crop, crop) uint8. Pillow takes the square's place
        as float32, so that a few values in a hundred differ by a grey level or two: training may, testing uses `rescale`.
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


def planes(image: Image.Image) -> Tensor:
    """(3, H, W) view of an RGB image's pixels, which stay interleaved in memory."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


@contextmanager
def _opened(file: str | Path | BytesIO, name: str | None) -> Iterator[Image.Image]:
    """An image whose header is sound; Pillow's complaints inside the block become InputErrors too."""
    path = file if name is None else name
    try:
        with Image.open(file, formats=FORMATS) as image:
            if max(image.size) > MOST_ASPECT * min(image.size):
                raise UnreadableImage(
                    f"{path}: {image.width}x{image.height} pixels is a sliver, expected sides within 1:{MOST_ASPECT}"
                )
            yield image
    except UnidentifiedImageError:
        found = "not an image of a known format" if _bytes(file) else "empty (0 bytes)"
        raise UnreadableImage(f"{path}: is {found}, expected one of {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError as error:
        raise UnreadableImage(f"{path}: {error}") from None
    except DAMAGED as error:
        if isinstance(error, OSError) and error.errno:
            raise InputError(
                f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
            ) from None
        raise UnreadableImage(f"{path}: damaged or cut short ({error})") from None


def _bytes(file: str | Path | BytesIO) -> int:
    return file.getbuffer().nbytes if isinstance(file, BytesIO) else Path(file).stat().st_size
