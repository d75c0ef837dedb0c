"""Counts the work of a net by the name of its architecture."""

from vgg_deploy.errors import InputError
from vgg_deploy.net import archs


def macs(
    arch: str,
    height: int,
    width: int,
    *,
    classes: int = 1000,
    multiplier: float = 1.0,
    crop: int = 224,
) -> int:
    """Multiply-accumulates of one forward pass over one image, in dense mode.

    Counts convolutions only, borders included: no bias, ReLU, LRN or pool.

    Args:
        arch: A column of Table 1: "A", "A-LRN", "B", "C", "D" or "E".
        height: Of the image, pixels.
        width: Of the image, pixels.
        classes: Outputs of fc8.
        multiplier: Of all channels, for thin nets.
        crop: Side of the training crop, pixels.

    Raises:
        InputError: For an unknown net, or an image that is smaller than the crop.

    Example:
        >>> macs("D", 224, 224)  # 15.5 billion
        15470264320
    """
    if arch not in archs.ARCHS:
        raise InputError(f"arch {arch!r} is not in Table 1; choose one of {', '.join(archs.ARCHS)}")
    if min(height, width) < crop:
        raise InputError(f"an image of {height} x {width} is smaller than the crop {crop}")
    return archs.macs(archs.ARCHS[arch], height, width, classes, multiplier, crop)
