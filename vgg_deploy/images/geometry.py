"""Computes the sizes of rescaled images, and where crops start, in whole pixels."""


def rescaled_size(height: int, width: int, side: int) -> tuple[int, int]:
    """Compute the size of an image after the isotropic rescale (sections 3.1 and 3.2).

    In integers, because one pixel can change the size of the score map, and floating-point
    results differ between libraries.

    Args:
        height: Of the image, pixels.
        width: Of the image, pixels.
        side: S or Q, the shorter side afterwards, pixels.

    Returns:
        (height, width). The longer side is rounded half up.

    Example:
        >>> rescaled_size(375, 500, 256)
        (256, 341)
    """
    shorter, longer = sorted((height, width))
    longer = (2 * longer * side + shorter) // (2 * shorter)
    return (side, longer) if height <= width else (longer, side)


def offset(length: int, crop: int, step: int, steps: int) -> int:
    """Compute where crop `step` of 0..steps starts along a side, from edge to edge.

    Halves go to the even number, as in torchvision.

    Args:
        length: Of the side, pixels.
        crop: Side of the crop, pixels.
        step: Index of the crop.
        steps: Index of the last crop.

    Returns:
        The first pixel of the crop.
    """
    return round(step * (length - crop) / steps)
