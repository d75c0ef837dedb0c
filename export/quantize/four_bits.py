"""Rounds weights to 4 bits in blocks, so that a layer's outputs change least on real inputs.

Every block of consecutive inputs of one output has a scale, the one of the least squared error
weighted with the inputs' mean squares. Each rounding error is made up for by the weights that are
not yet rounded, as far as their inputs go together with its own: the rule of Optimal Brain Surgeon
as GPTQ (Frantar et al. 2022, arXiv 2210.17323) applies it, within groups of inputs.
"""

from typing import NamedTuple

import ml_dtypes
import numpy as np
import torch
from torch import Tensor, nn

from export.quantize.second_moments import as_rows, group_of
from vgg_deploy.net.fully_connected import convolve

INT4 = np.dtype(ml_dtypes.int4)
LARGEST = 7  # magnitude in use; -8 is not
DAMPING = 0.01  # of the mean square, added to every input's: few images leave some at zero
SHARES = np.linspace(0.6, 1.0, 13)  # of the largest weight of a block, tried as its reach
SMALLEST_SCALE = 2.0**-20  # as of 8-bit weights
CHUNK = 128  # outputs whose weights are converted to float32 at a time


class BlockWeight(NamedTuple):
    """The 4-bit weights of one layer.

    Attributes:
        levels: (inputs, outputs) int4, inputs in the order of `second_moments.windows`.
        scales: (blocks, outputs) float32.
        block: Number of consecutive inputs that share a scale; the last block can be smaller.
    """

    levels: np.ndarray
    scales: np.ndarray
    block: int

    def scales_as(self, trunk: np.dtype) -> np.ndarray:
        """The scales as a file of this trunk type stores them."""
        rounded: np.ndarray = self.scales.astype(trunk)
        return rounded


@torch.inference_mode()
def round_weight(layer: nn.Conv2d, moments: Tensor, block: int) -> BlockWeight:
    """Round the weights of a layer.

    Args:
        layer: A convolution without padding.
        moments: (groups, g, g) of its inputs, of `measure_moments`.
        block: Number of consecutive inputs that share a scale.
    """
    outputs, inputs = layer.out_channels, layer.weight[0].numel()
    group = group_of(inputs)
    step = block if group % block == 0 else group  # a block lies in one group
    assert group % block == 0 or group == inputs
    levels = np.empty((inputs, outputs), INT4)
    scales = np.empty((-(-inputs // block), outputs), np.float32)
    for index, squares in enumerate(moments):
        first = index * group
        weight = _inputs_of(layer.weight, first, group)
        count = len(weight)
        inverse = _inverse_factor(squares[:count, :count])
        mean_squares = squares.diagonal()[:count]
        for start in range(0, count, step):
            stop = min(start + step, count)
            part, errors = _round_part(
                weight[start:stop], mean_squares[start:stop], inverse[start:stop, start:stop], block
            )
            levels[first + start : first + stop] = part.levels
            own = slice((first + start) // block, -(-(first + stop) // block))
            scales[own] = part.scales
            weight[stop:] -= inverse[start:stop, stop:].T @ errors
    return BlockWeight(levels, scales, block)


def values_of(weight: BlockWeight, outputs: slice, trunk: np.dtype) -> np.ndarray:
    """What the stored weights of some outputs mean, (outputs, inputs) float32.

    Args:
        weight: Of a layer.
        outputs: Which.
        trunk: Type that the scales are stored in.
    """
    levels = weight.levels[:, outputs].astype(np.float32)
    scales = weight.scales[:, outputs].astype(trunk).astype(np.float32)
    levels *= np.repeat(scales, weight.block, axis=0)[: len(levels)]
    values: np.ndarray = np.ascontiguousarray(levels.T)
    return values


def block_product(
    batches: list[Tensor], layer: nn.Conv2d, weight: BlockWeight, bias: Tensor, trunk: np.dtype
) -> list[Tensor]:
    """Outputs of a layer with its 4-bit weights, in float32.

    Args:
        batches: (N, C, H, W) float32.
        layer: The convolution.
        weight: Its weights.
        bias: (O,) float32, as stored.
        trunk: Type that the scales are stored in.

    Returns:
        (N, O, h, w) by batch.
    """
    height, width = layer.kernel_size
    parts: list[list[Tensor]] = [[] for _ in batches]
    for start in range(0, layer.out_channels, CHUNK):
        outputs = slice(start, start + CHUNK)
        values = torch.from_numpy(values_of(weight, outputs, trunk))
        kernel = values.view(len(values), width, height, layer.in_channels).permute(0, 3, 2, 1)
        kernel = kernel.contiguous()
        for images, own_parts in zip(batches, parts, strict=True):
            own_parts.append(convolve(images, kernel, bias[outputs], 0))
    return [torch.cat(own, 1) for own in parts]


def _inputs_of(weight: Tensor, first: int, count: int) -> Tensor:
    """Weights of some consecutive inputs, (inputs, O), a copy.

    Of a full-width fc6 the others are not copied.
    """
    _, channels, height, _ = weight.shape
    if channels % count:
        return as_rows(weight)[:, first : first + count].T.contiguous()
    position, channel = divmod(first, channels)
    column, row = divmod(position, height)
    return weight[:, channel : channel + count, row, column].T.contiguous()


def _inverse_factor(squares: Tensor) -> Tensor:
    """Upper triangular U with U^T U the inverse of the damped moments, its rows over its diagonal.

    Row i, right of the diagonal, is what an error of weight i asks of the weights after it.
    """
    count = len(squares)
    double = squares.double()
    mean = float(double.diagonal().mean())
    damped = double + torch.eye(count, dtype=torch.float64) * (DAMPING * mean if mean > 0 else 1.0)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    upper = torch.linalg.cholesky(inverse, upper=True)
    factor: Tensor = (upper / upper.diagonal()[:, None]).float()
    return factor


def _round_part(
    weight: Tensor, mean_squares: Tensor, inverse: Tensor, block: int
) -> tuple[BlockWeight, Tensor]:
    """Round some inputs of all outputs, one after the other.

    Args:
        weight: (n, outputs) float32; changed.
        mean_squares: (n,) of the inputs.
        inverse: (n, n) of `_inverse_factor`.
        block: As `round_weight`.

    Returns:
        The weights, and their errors (n, outputs) when each was rounded.
    """
    count = len(weight)
    levels = torch.empty_like(weight)
    errors = torch.empty_like(weight)
    scales = []
    for row in range(count):
        if row % block == 0:
            scales.append(_scales(weight[row : row + block], mean_squares[row : row + block]))
        scale = scales[-1]
        levels[row] = (weight[row] / scale).round_().clamp_(-LARGEST, LARGEST)
        errors[row] = weight[row] - levels[row] * scale
        weight[row + 1 :].addr_(inverse[row, row + 1 :], errors[row], alpha=-1)
    stored = levels.numpy().astype(np.int8).astype(INT4)
    return BlockWeight(stored, torch.stack(scales).numpy(), block), errors


def _scales(weight: Tensor, mean_squares: Tensor) -> Tensor:
    """(outputs,) scale of the least error of one block (n, outputs), weighted by mean squares."""
    weights = (mean_squares + DAMPING * mean_squares.mean() + 1e-30)[:, None]
    reach = weight.abs().amax(0) / LARGEST
    least = torch.full_like(reach, torch.inf)
    best = reach.clone()
    for share in SHARES:
        scale = (reach * float(share)).clamp_(min=SMALLEST_SCALE)
        rounded = (weight / scale).round_().clamp_(-LARGEST, LARGEST).mul_(scale)
        error = ((rounded - weight) ** 2 * weights).sum(0)
        better = error < least
        best = torch.where(better, scale, best)
        least = torch.where(better, error, least)
    return best
