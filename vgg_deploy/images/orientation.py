"""Reads how a camera was held from an image's EXIF block, and turns the image upright."""

import struct

from PIL import ExifTags, Image

TURNS = {  # EXIF's orientation: what makes the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = (5, 6, 7, 8)  # those that swap height and width
# What Pillow raises for a broken block, which says nothing about the pixels
BROKEN = (OSError, SyntaxError, ValueError, EOFError, KeyError, TypeError, struct.error)


def orientation(image: Image.Image) -> int:
    """EXIF's orientation of an opened image.

    Returns:
        1 to 8; 1 (upright) also without a block, for a broken one, and for other values.
    """
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except BROKEN:
        return 1
    return value if value in TURNS else 1


def turned(image: Image.Image, value: int) -> Image.Image:
    """Turn an image upright.

    Args:
        image: As it is stored.
        value: Its `orientation`.
    """
    return image.transpose(TURNS[value]) if value in TURNS else image
