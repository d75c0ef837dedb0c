"""Describes the input of a net in training: channel order, mean and scale.

Users state it by options, files by metadata; both become a `StatedInput`.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from vgg_deploy.errors import InputError
from vgg_deploy.net.spec import USUAL_MEAN, USUAL_STD, Preprocessing

Channels = tuple[float, float, float]  # R, G, B, whatever the channel order of the net

CHANNEL_ORDERS = ("RGB", "BGR")
MEAN_HELP = (
    "Of weights of another project: what was subtracted in training, of R, G and B (in this order "
    "also for BGR). All values up to 1: of pixels divided by 255, with a std. Above 1: of pixels "
    "0-255. E.g. 0.485,0.456,0.406 or 123.68,116.779,103.939"
)
STD_HELP = (
    "What was divided by, of R, G and B in the unit of the mean; 1,1,1 where nothing was. "
    "E.g. 0.229,0.224,0.225"
)
ORDER_HELP = (
    "Of weights of another project: the channel order that they were trained with.  [default: as "
    "their layout has it: BGR for Caffe's names, RGB for others]"
)
CROP_HELP = (
    "Of weights of another project: side of the training crop, pixels. Only 32 must be stated, "
    "where fc6 looks like one after global average pooling.  [default: by the size of fc6]"
)
CLOSE = 1.5  # pixel values of 0-255 within which a mean is a well-known one


@dataclass(frozen=True)
class Convention:
    """The input that a net was trained on: (x - mean) / scale of an image x in 0-255."""

    channel_order: str  # of the first convolution's input channels, "RGB" or "BGR"
    mean: Channels  # of pixels 0-255
    scale: Channels = (1.0, 1.0, 1.0)  # of pixels 0-255

    def describe(self) -> str:
        """The formula in words, for people; x is a pixel of 0-255."""
        if self.scale == (1.0, 1.0, 1.0):
            return f"{self.channel_order}, x - mean with mean {_text(self.mean)} (R, G, B of 0-255)"
        mean = tuple(m / 255 for m in self.mean)
        std = tuple(s / 255 for s in self.scale)
        return (
            f"{self.channel_order}, (x/255 - mean)/std with mean {_text(mean)} and std "
            f"{_text(std)} (R, G, B of 0-1)"
        )


def of_255(values: Channels) -> Channels:
    """Convert values of 0-1 pixels to values of 0-255 pixels."""
    red, green, blue = values
    return 255 * red, 255 * green, 255 * blue


CAFFE = Convention("BGR", Preprocessing().mean)
USUAL = Convention("RGB", of_255(USUAL_MEAN), of_255(USUAL_STD))
# torchvision's IMAGENET1K_FEATURES: mean 0.48235, 0.45882, 0.40784 and std 1/255 of 0-1
SSD = Convention("RGB", of_255((0.48235, 0.45882, 0.40784)))


@dataclass(frozen=True)
class StatedInput:
    """What a user or a file states about a net's input; None where nothing is stated.

    The size of mean and std shows their unit. Values of 0-1 pixels are at most 1: a mean or a std
    above 1 is of 0-255 pixels. The statement is refused if the two contradict each other, or if a
    mean of 0-1 pixels has no std.
    """

    mean: Channels | None = None  # R, G, B
    std: Channels | None = None  # R, G, B, in the unit of the mean
    channel_order: str | None = None  # "RGB", "BGR"
    crop: int | None = None  # side of the training crop, pixels

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: If values are out of range, or of two units.
        """
        if self.channel_order not in (None, *CHANNEL_ORDERS):
            raise InputError(f"channel order {self.channel_order!r} is unknown; use RGB or BGR")
        if self.mean is None and self.std is not None:
            raise InputError(f"std {_text(self.std)} is given without a mean; give both")
        if self.mean is not None:
            self._units(self.mean)

    @property
    def is_empty(self) -> bool:
        """Whether mean, std and channel order are all left open."""
        return self.mean is None and self.channel_order is None

    def applied_to(self, default: Convention) -> Convention:
        """The convention `default`, with what is stated instead of its own values."""
        stated = default
        if self.channel_order is not None:
            stated = replace(stated, channel_order=self.channel_order)
        if self.mean is not None:
            mean, scale = self._units(self.mean)
            stated = replace(stated, mean=mean, scale=scale)
        return stated

    def warning(self) -> str:
        """A sentence if the mean is a well-known one in the order B, G, R; else empty."""
        if self.mean is None:
            return ""
        mean, _ = self._units(self.mean)
        for known in (CAFFE.mean, USUAL.mean):
            if all(abs(m - k) < CLOSE for m, k in zip(mean, reversed(known), strict=True)):
                return (
                    f"mean {_text(self.mean)} looks like B, G, R; it is taken as R, G, B, which is "
                    "the order to give it in for every net"
                )
        return ""

    def as_json(self) -> dict[str, Any]:
        """What is stated, for a JSON file; `StatedInput.from_json` reads it."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, entries: Mapping[str, Any]) -> "StatedInput":
        """Read what `as_json` wrote.

        Raises:
            TypeError: For unknown entries.
            ValueError: For values of a wrong type.
            InputError: For values that are no input.
        """
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in entries.items()
        }
        return cls(**given)

    def _units(self, mean: Channels) -> tuple[Channels, Channels]:
        """Mean and scale of 0-255 pixels."""
        _check_channels(mean, "mean", least=0.0)
        if self.std is not None:
            _check_channels(self.std, "std", least=1e-6)
        large_mean = [m > 1 for m in mean]
        large_std = [s > 1 for s in self.std or ()]
        for name, large, values in (("mean", large_mean, mean), ("std", large_std, self.std)):
            if any(large) and not all(large):
                raise InputError(
                    f"{name} {_text(values)} has values of 0-1 and of 0-255 pixels; give all in "
                    "one unit"
                )
        no_mean = mean == (0.0, 0.0, 0.0)
        no_std = self.std in (None, (1.0, 1.0, 1.0))
        if all(large_mean) and (no_std or all(large_std)):
            return mean, self.std or (1.0, 1.0, 1.0)
        if no_mean and self.std is not None and all(large_std):
            return mean, self.std
        if any(large_mean) or any(large_std):
            raise InputError(
                f"mean {_text(mean)} and std {_text(self.std)} are of two units, one of 0-1 pixels "
                "and one of 0-255; give both in one unit"
            )
        if self.std is None:
            raise InputError(
                f"mean {_text(mean)} is of 0-1 pixels and needs a std; give 1,1,1 if the pixels "
                "were divided by 255 only"
            )
        return of_255(mean), of_255(self.std)


NOTHING_STATED = StatedInput()


def metadata_convention(default: Convention, metadata: Mapping[str, str], where: str) -> Convention:
    """Apply what the metadata of a .safetensors state about the input.

    Args:
        default: The convention where the metadata state nothing.
        metadata: May have `input_range` ("0-255"), `channel_order`, and `mean_bgr` or `mean_rgb`,
            the mean as "103.939,116.779,123.68".
        where: Names the file in errors.

    Raises:
        InputError: For values that this program does not support.
    """
    stated = default
    scale = metadata.get("input_range")
    if scale is not None:
        if scale != "0-255":
            raise InputError(
                f"{where}: its metadata states input_range {scale!r}; only '0-255' can be read, "
                "convert the weights"
            )
        stated = replace(stated, scale=(1.0, 1.0, 1.0))
    order = metadata.get("channel_order")
    if order is not None:
        if order not in CHANNEL_ORDERS:
            raise InputError(
                f"{where}: its metadata states channel_order {order!r}; write RGB or BGR"
            )
        stated = replace(stated, channel_order=order)
    if "mean_rgb" in metadata:
        stated = replace(stated, mean=_metadata_mean(metadata["mean_rgb"], "mean_rgb", where))
    if "mean_bgr" in metadata:
        blue, green, red = _metadata_mean(metadata["mean_bgr"], "mean_bgr", where)
        stated = replace(stated, mean=(red, green, blue))
    return stated


def _metadata_mean(text: str, key: str, where: str) -> Channels:
    try:
        first, second, third = (float(part) for part in text.split(","))
    except ValueError:
        first = second = third = math.nan
    if not all(0 <= value <= 255 for value in (first, second, third)):  # NaN is in no range
        raise InputError(
            f"{where}: its metadata states {key} {text!r}; write three numbers of 0-255, as in "
            "103.939,116.779,123.68"
        )
    return first, second, third


def _check_channels(values: Channels, name: str, least: float) -> None:
    if len(values) != 3 or not all(least <= v <= 255 for v in values):  # NaN is in no range
        raise InputError(
            f"{name} {_text(values)} is not three numbers from {least:g} to 255 (R, G, B)"
        )


def _text(values: tuple[float, ...] | None) -> str:
    return ", ".join(f"{v:.6g}" for v in values or ())
