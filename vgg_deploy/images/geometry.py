"""Sizes of rescaled images, in whole pixels."""


def rescaled_size(height: int, width: int, side: int) -> tuple[int, int]:
    """(height, width) after the isotropic rescale: the shorter side is `side`, the longer one is rounded half up.

    In integers, because one pixel can change the size of the score map, and floats and other libraries disagree on it.
    """
    shorter, longer = sorted((height, width))
    longer = (2 * longer * side + shorter) // (2 * shorter)
    return (side, longer) if height <= width else (longer, side)
