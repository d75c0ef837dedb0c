"""Computes the sizes of rescaled images in whole pixels."""


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
