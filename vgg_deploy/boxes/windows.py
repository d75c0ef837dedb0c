"""Says which part of an image belongs to a position of a dense map (sections 3.2 and A).

A net that runs over a whole image sees a window of the training crop's size at every position of
its map. Windows start every 32 pixels from the left and upper edge. The last rows and columns of an
image whose sides are no multiples of 32 belong to no window: pooling drops them.
"""

import numpy as np

from vgg_deploy.boxes.geometry import scaled
from vgg_deploy.images.crops import Crop
from vgg_deploy.images.geometry import rescaled_size
from vgg_deploy.net.archs import STRIDE, map_side


def map_windows(height: int, width: int, side: int, crop: int) -> np.ndarray:
    """The windows of a dense map, in pixels of the image before its rescale.

    Args:
        height: Of the image as it is stored, pixels.
        width: Likewise.
        side: Q, its shorter side when the net sees it, pixels.
        crop: Side of the training crop, pixels.

    Returns:
        (h, w, 4) float64, the map's rows and columns.

    Example:
        >>> map_windows(512, 512, side=256, crop=224)[0, 1].tolist()
        [64.0, 0.0, 512.0, 448.0]
    """
    at_q = rescaled_size(height, width, side)
    tops = STRIDE * np.arange(map_side(at_q[0], crop))
    lefts = STRIDE * np.arange(map_side(at_q[1], crop))
    left, top = np.meshgrid(lefts, tops)
    windows = np.stack([left, top, left + crop, top + crop], axis=-1)
    return scaled(windows.astype(np.float64), at_q, (height, width))


def crop_window(height: int, width: int, side: int, crop: Crop) -> np.ndarray:
    """The window of one crop, in pixels of the image before its rescale.

    Args:
        height: Of the image as it is stored, pixels.
        width: Likewise.
        side: S or Q, pixels.
        crop: Of the rescaled image.

    Returns:
        (4,) float64.
    """
    window = np.array(
        [crop.left, crop.top, crop.left + crop.side, crop.top + crop.side], np.float64
    )
    return scaled(window, rescaled_size(height, width, side), (height, width))
