"""Turns encoded image files into the pixels that a net takes, on a Triton server.

Needs Pillow and NumPy only.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO

import numpy as np

from vgg_deploy.errors import InputError, hints
from vgg_deploy.images.encoded import MOST_BYTES, read_image, resized
from vgg_deploy.images.geometry import offset

PIXEL_TYPES = {"uint8": np.uint8, "float32": np.float32}  # of the net's input, values 0-255


@dataclass(frozen=True)
class PhotoRules:
    """How a photo becomes the net's input; the parameters of config.pbtxt.

    Attributes:
        net: Name of the model that is asked.
        side: Q, the shorter side after rescaling, pixels.
        crop: Side of the centre crop, pixels; 0: the whole image.
        filter: "bilinear" or "bicubic".
        exif: "apply" turns a photo as its camera was held, "ignore" does not.
        pixels: A key of PIXEL_TYPES.
    """

    net: str
    side: int
    crop: int
    filter: str
    exif: str
    pixels: str

    @classmethod
    def of_parameters(cls, texts: Mapping[str, str]) -> "PhotoRules":
        """Read the parameters of a configuration; others are ignored.

        Args:
            texts: By their keys.

        Raises:
            ValueError: If one is missing or impossible.
        """
        missing = [name for name in cls.__dataclass_fields__ if name not in texts]
        if missing:
            raise ValueError(f"config.pbtxt lacks the parameters {', '.join(missing)}")
        try:
            side, crop = int(texts["side"]), int(texts["crop"])
        except ValueError:
            raise ValueError("config.pbtxt: side and crop are whole numbers of pixels") from None
        rules = cls(
            texts["net"], side, crop, texts["filter"], texts["exif"], texts["pixels"].lower()
        )
        choices = {
            "filter": ("bilinear", "bicubic"),
            "exif": ("ignore", "apply"),
            "pixels": tuple(PIXEL_TYPES),
        }
        for name, known in choices.items():
            if getattr(rules, name) not in known:
                raise ValueError(f"config.pbtxt: {name} is one of {', '.join(known)}")
        if side < 1 or not 0 <= crop <= side:
            raise ValueError("config.pbtxt: crop is between 0 and side, and side is above 0")
        return rules

    def pixels_of(self, data: bytes, name: str) -> np.ndarray:
        """Decode and rescale an image file, and cut the crop.

        Args:
            data: The encoded file.
            name: For messages.

        Returns:
            (3, h, w) RGB 0-255 in the type that the net takes.

        Raises:
            InputError: If it is not a usable image, as `read_image`.
        """
        if len(data) > MOST_BYTES:
            raise InputError(
                f"{name}: has {len(data) / 2**20:,.0f} MiB, more than the "
                f"{MOST_BYTES / 2**20:,.0f} MiB that are read; send a smaller file"
            )
        with hints({"unreadable": "send another file"}):
            image = read_image(BytesIO(data), name, upright=self.exif == "apply")
        small = np.asarray(resized(image, self.side, self.filter))
        if self.crop:
            top = offset(small.shape[0], self.crop, 1, 2)
            left = offset(small.shape[1], self.crop, 1, 2)
            small = small[top : top + self.crop, left : left + self.crop]
        return np.ascontiguousarray(small.transpose(2, 0, 1), PIXEL_TYPES[self.pixels])


def by_size(images: Iterable[np.ndarray]) -> list[list[int]]:
    """Group images that can share a batch.

    Args:
        images: (3, h, w) each.

    Returns:
        Their positions, from 0: one list for each size, in the order of its first image.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for position, image in enumerate(images):
        groups.setdefault(image.shape, []).append(position)
    return list(groups.values())
