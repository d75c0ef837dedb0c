"""Computes 3x3 convolutions in float32 by Winograd's algorithm, where PyTorch has it on this CPU.

PyTorch's NNPACK computes 6x6 outputs from 8x8 inputs with 64 multiplications for 324. Its outputs
differ from direct ones by about 1e-5 of the largest. That is far below what 8 bits and half
precision change, so ranges, sensitivity, and what reduced files are compared with are computed so.
What a float32 file is compared with is not. Without NNPACK the same is computed directly.
"""

from functools import cache

import torch
from torch import Tensor

from vgg_deploy.net.fully_connected import convolve

TILE = 6  # rows and columns of outputs of a tile
TRANSFORMED = 256  # bytes of a tile, and of a kernel, of one channel
SMALLEST = 256  # positions of a map; on smaller ones transforming the kernels takes longer
WORKSPACE = 2**25  # bytes; PyTorch keeps this memory to the end of the program


@cache
def _has_nnpack() -> bool:
    """Whether PyTorch has NNPACK on this CPU; asking also sets it up."""
    return hasattr(torch, "_nnpack_spatial_convolution") and torch._nnpack_available()


def convolve_fast(images: Tensor, weight: Tensor, bias: Tensor, padding: tuple[int, int]) -> Tensor:
    """Convolve with stride 1 as `convolve`, 3x3 kernels by Winograd's algorithm.

    Args:
        images: (N, C, H, W) float32.
        weight: (O, C, k, k).
        bias: (O,).
        padding: Rows and columns of zeros on each side.

    Returns:
        (N, O, h, w).
    """
    height, width = images.shape[2:]
    is_small = height * width < SMALLEST
    if is_small or weight.shape[2:] != (3, 3) or padding != (1, 1) or not _has_nnpack():
        return convolve(images, weight, bias, padding)
    images = images.contiguous()
    outputs, inputs = weight.shape[:2]
    together = max(1, min(outputs, WORKSPACE // 2 // (inputs * TRANSFORMED)))
    for_row_of_tiles = -(-width // TILE) * (together + inputs) * TRANSFORMED
    rows = TILE * max(1, (WORKSPACE // 2) // for_row_of_tiles)
    if together == outputs and rows >= height:
        found: Tensor = torch._nnpack_spatial_convolution(images, weight, bias, 1)
        return found
    found = torch.empty(len(images), outputs, height, width)
    for start in range(0, height, rows):
        end = min(start + rows, height)
        # rows beside a band are computed too, with zeros behind them, and left out
        first, last = max(start - 1, 0), min(end + 1, height)
        band = images[:, :, first:last].contiguous()
        for output in range(0, outputs, together):
            own = slice(output, output + together)
            part = torch._nnpack_spatial_convolution(band, weight[own], bias[own], 1)
            found[:, own, start:end] = part[:, :, start - first : end - first]
    return found
