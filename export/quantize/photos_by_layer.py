"""Decides on how many photos each layer is tried alone.

A layer that is tried alone costs all layers behind it. All layers of net D on all photos would cost
seven passes of the net. So an early layer is tried on few photos and a late one on many, for a
given work in all. Of all such choices, numbers in proportion to 1 / sqrt(cost) give the least sum
of the variances of the layers' figures (Neyman's allocation, for equal variances of photos).
"""

from collections.abc import Mapping

import numpy as np

WORK = 0.6  # passes of the net over all photos, for all layers together
LEAST = 6  # photos of a layer
GOLDEN = (5**0.5 - 1) / 2


def photos_by_layer(costs: Mapping[str, float], photos: int) -> dict[str, int]:
    """The number of photos for each layer.

    Args:
        costs: Work of a trial of one photo, by layer, as a share of a pass of the net.
        photos: Number of all photos.

    Returns:
        At least LEAST and at most all, by layer.
    """
    total = sum(cost**0.5 for cost in costs.values())
    return {
        name: min(photos, max(LEAST, int(WORK * photos / (total * cost**0.5))))
        for name, cost in costs.items()
    }


def spread_order(photos: int) -> np.ndarray:
    """(photos,) int64 ranks of the photos; those below any number are spread evenly over all.

    So every layer's photos are among those of a layer with more of them.
    """
    return np.argsort(np.arange(photos) * GOLDEN % 1, kind="stable")
