"""A convolution that does not copy its weights."""

from torch import Tensor
from torch.nn import functional as F


def convolve(images: Tensor, weight: Tensor, bias: Tensor, padding: tuple[int, int]) -> Tensor:
    """(N, C, H, W) -> (N, out, h, w), stride 1, as conv2d.

    Without padding, as in fc6 to fc8, it is one matrix product over windows: conv2d would first copy the weights, 411 MB of fc6, into
    another order.
    """
    if any(padding):
        return F.conv2d(images, weight, bias, padding=padding)
    kernel = tuple(weight.shape[2:])
    height, width = (side - k + 1 for side, k in zip(images.shape[2:], kernel, strict=True))
    return (weight.flatten(1) @ F.unfold(images, kernel) + bias[:, None]).unflatten(
        2, (height, width)
    )
