"""How far a layer's output may be from the exact one, where rounding is all that happened.

The exact output is computed in float64 from the values that the layer really took and the weights
that it should have: the float32 net's, rounded as the file says. A stored weight that this rounding
explains is used as it is stored. What is left are the roundings of sums and of the output.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.layers.contract import Rounding
from bench.layers.parts import Part
from bench.layers.reference import FloatNet

UNIT = {"fp32": 2.0**-24, "fp16": 2.0**-11, "bf16": 2.0**-8}  # largest relative error of a rounding
# A sum of n products has an error of up to n roundings, of the products' magnitudes; the bias and
# the last rounding add some more
SLACK = 8
# A runtime may compute 3x3 convolutions by Winograd's transforms. They mix neighbours, so the
# largest sum of magnitudes of a channel counts for all of its positions, and they enlarge errors:
# ncnn's F(6x6, 3x3) was seen to reach 1.8 times the bound without this factor, in conv1_1 on noise
WINOGRAD = 16
TIES = 1e-3  # of a step: so close to the middle between two, either may be taken
QUOTIENT = 4  # roundings of a value, a scale and their quotient, and one to spare
ROWS = 256  # output channels at a time, as fc6 of a full-width net has 822 MB in float64
# Sums of small terms that underflow in half precision
SMALLEST = {"fp32": 2.0**-126, "fp16": 2.0**-24, "bf16": 2.0**-126}


class Expected(NamedTuple):
    """What a part should give.

    Attributes:
        values: (N, C, h, w) float64.
        bound: How far rounding alone may lead away from them.
    """

    values: Tensor
    bound: Tensor

    def excess(self, found: np.ndarray) -> float:
        """The largest error, in units of its bound; above 1 rounding does not explain it."""
        error = (torch.from_numpy(found).double() - self.values).abs()
        return float((error / self.bound).max())


@torch.inference_mode()
def expected(net: FloatNet, part: Part, taken: np.ndarray, rounding: Rounding) -> Expected:
    """What a part should give for the values that it took.

    Args:
        net: The float32 net.
        part: Its layers.
        taken: (N, C, h, w) float32, what its first layer took.
        rounding: How the part rounds.
    """
    values = torch.from_numpy(taken).double()
    # of float values that are shown, the last rounding may be still to come
    bound = values.abs() * _unit(rounding.kind)
    for name in part:
        layer = net.net.get_submodule(name)
        match layer:
            case nn.Conv2d():
                values, bound = _convolution(layer, values, bound, rounding)
            case nn.ReLU():
                values = values.relu()
            case nn.MaxPool2d():
                values, bound = layer(values), layer(bound)
            case nn.LocalResponseNorm():
                # float32 in every precision: a power, a division, and a sum over five channels
                values = layer(values)
                bound = bound + 64 * UNIT["fp32"] * values.abs()
    bound = bound + UNIT[rounding.kind] * values.abs() + SMALLEST[rounding.kind]
    if rounding.output_levels:
        values, bound = _rounded_output(values, bound, rounding.output_levels)
    return Expected(values, bound)


def _convolution(
    layer: nn.Conv2d, values: Tensor, uncertain: Tensor, rounding: Rounding
) -> tuple[Tensor, Tensor]:
    """Output of a convolution, and its bound.

    Args:
        layer: Of the float32 net.
        values: (N, C, h, w) float64.
        uncertain: How far each of them may be from what the layer took.
        rounding: How the layer rounds.
    """
    if rounding.input_levels:
        values, uncertain = _rounded_input(values, rounding.input_levels, rounding.kind)
    outputs, bounds = [], []
    terms = layer.weight[0].numel()
    enlarged = WINOGRAD if layer.kernel_size == (3, 3) else 1
    sums = enlarged * (terms + SLACK) * UNIT["fp32"]
    # integers become half precision ahead of their product: two roundings
    products = 2 * _unit(rounding.kind) if rounding.input_levels else 0.0
    for start in range(0, layer.out_channels, ROWS):
        rows = slice(start, start + ROWS)
        weight = _stored(layer.weight[rows], rows, rounding)
        assert layer.bias is not None
        bias = _rounded(layer.bias[rows], rounding.kind)
        outputs.append(F.conv2d(values, weight, bias, padding=layer.padding))
        size = F.conv2d(values.abs(), weight.abs(), bias.abs(), padding=layer.padding)
        doubt = F.conv2d(uncertain, weight.abs(), None, padding=layer.padding)
        of_bias = UNIT[rounding.kind] * bias.abs() + _bias_step(rounding, rows) / 2
        of_sums = sums * size.amax((2, 3), keepdim=True) + products * size
        bounds.append(of_sums + doubt + of_bias[:, None, None])
    return torch.cat(outputs, 1), torch.cat(bounds, 1)


def _stored(weight: Tensor, rows: slice, rounding: Rounding) -> Tensor:
    """Weights of some channels as they should be stored, float64."""
    exact = weight.detach().cpu().double()
    step = rounding.weight_step
    if step is None:
        rounded = _rounded(weight, rounding.kind)
        if rounding.weight is None:
            return rounded
        stored = torch.from_numpy(rounding.weight[rows]).double()
        return torch.where((stored - exact).abs() <= _half(exact, rounding.kind), stored, rounded)
    steps = torch.from_numpy(step if len(step) == 1 else step[rows]).double().reshape(-1, 1, 1, 1)
    assert rounding.weight is not None
    stored = torch.from_numpy(rounding.weight[rows]).double()
    close = (stored - exact).abs() <= (0.5 + TIES) * steps
    return torch.where(close, stored, (exact / steps).round() * steps)


def _rounded_output(
    values: Tensor, bound: Tensor, levels: tuple[float, int, int, int]
) -> tuple[Tensor, Tensor]:
    """Values as integers' floats; another level is allowed where the bound reaches a tie."""
    scale, zero, low, high = levels
    steps = values / scale
    to_tie = ((steps - steps.floor()) - 0.5).abs()
    reach = bound / scale + QUOTIENT * UNIT["fp32"] * steps.abs()
    rounded = steps.round().add(zero).clamp(low, high)
    # a shown level is computed in float32
    exact = QUOTIENT * UNIT["fp32"] * (high - low)
    return (rounded - zero) * scale, ((to_tie <= reach).double() + exact) * scale


def _bias_step(rounding: Rounding, rows: slice) -> Tensor:
    """Runtimes round the bias of 8-bit convolutions to the step of their sums."""
    if rounding.input_levels is None or rounding.weight_step is None:
        return torch.zeros(1, dtype=torch.float64)
    steps = rounding.weight_step
    own = torch.from_numpy(steps if len(steps) == 1 else steps[rows]).double()
    return rounding.input_levels[0] * own


def _half(exact: Tensor, kind: str) -> Tensor:
    """Half the distance of two neighbours of a float type."""
    return (1 + TIES) * UNIT[kind] * exact.abs() + SMALLEST[kind]


def _rounded(values: Tensor, kind: str) -> Tensor:
    """Values of the float32 net as a file stores them, float64."""
    types = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
    return values.detach().cpu().to(types[kind]).double()


def _rounded_input(
    values: Tensor, levels: tuple[float, int, int, int], kind: str
) -> tuple[Tensor, Tensor]:
    """Values as integers' floats, and how far those near a tie may be from what was taken."""
    scale, zero, low, high = levels
    steps = values / scale + zero
    near_tie = ((steps - steps.floor()) - 0.5).abs() < TIES + QUOTIENT * UNIT[kind] * steps.abs()
    rounded = steps.round().clamp(low, high)
    return (rounded - zero) * scale, near_tie.double() * scale


def _unit(kind: str) -> float:
    """Of values that are shown: float32 ones are exact."""
    return 0.0 if kind == "fp32" else UNIT[kind]
