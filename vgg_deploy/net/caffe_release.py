"""Recognises the released Oxford VGG-16 by its first filters, whatever its tensors are called."""

import torch
from torch import Tensor

# Green kernels of the first four filters of conv1_1, 3x3, row by row, as released for Caffe.
# Green is the middle channel in RGB and in BGR.
GREEN = (
    (0.550, 0.440, -0.081, 0.346, 0.041, -0.454, -0.059, -0.331, -0.485),
    (0.021, 0.047, 0.042, 0.031, 0.066, 0.046, 0.032, 0.055, 0.042),
    (0.099, 0.051, -0.102, 0.241, 0.220, -0.067, 0.076, 0.049, -0.112),
    (0.437, 0.323, 0.351, 0.097, -0.425, -0.089, -0.048, -0.515, -0.235),
)
ALIKE = 0.99  # least cosine of the 36 values; fine-tuning hardly moves the first layer
SCALES = (0.5, 2.0)  # length of the 36 values over that of the release


def released_order(conv1_1: Tensor) -> str | None:
    """The channel order of the Oxford VGG-16's first layer, if a layer is this one.

    Its scale must be that of pixels 0-255: weights that were converted to pixels of another scale
    are not recognised. Neither are the released VGG-19 and other nets that Caffe trained.

    Args:
        conv1_1: (c_out, 3, 3, 3) weight of any net.

    Returns:
        "RGB" or "BGR", the order of the input channels; None for any other layer.
    """
    if conv1_1.shape != (64, 3, 3, 3):
        return None
    known = torch.tensor(GREEN).flatten()
    given = conv1_1[: len(GREEN), 1].flatten().float()
    scale = float(given.norm() / known.norm())
    if not SCALES[0] <= scale <= SCALES[1]:
        return None
    if float(known @ given) < ALIKE * float(known.norm() * given.norm()):
        return None
    # the red kernel of the first filter is stronger than its blue one: norms 0.93 and 0.84
    first, last = conv1_1[0, 0].norm(), conv1_1[0, 2].norm()
    return "BGR" if first < last else "RGB"
