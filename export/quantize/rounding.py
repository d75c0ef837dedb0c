"""Rounding to 8 bits: how weights and activations are mapped, in NumPy for files and in PyTorch to see what it costs."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from export.quantize.convolve import convolve
from export.settings.precision import Format, Precision
from vgg_deploy.net.model import VGG

FIRST, LAST = (
    "conv1_1",
    "fc8",
)  # the only one that sees negative values; the one whose scores decide, never quantized
SMALLEST_SCALE = (
    2.0**-20
)  # half precision still holds it to 6 %; what is smaller than 127 of it hardly counts


@dataclass(frozen=True)
class Quantization:
    """Which convolutions of a net are quantized, and how far their inputs reach."""

    thresholds: dict[
        str, float
    ]  # convolution -> largest magnitude of its input that is kept; others are clipped to it
    per_channel: bool = True  # one weight scale an output channel, else one a layer
    last_input: float | None = (
        None  # the same of LAST, whose input alone is rounded where the precision is fused
    )

    def mappings(self, precision: Precision) -> dict[str, "Mapping"]:
        """How the inputs of convolutions are held."""
        reach = (
            self.thresholds
            if self.last_input is None
            else {**self.thresholds, LAST: self.last_input}
        )
        return {
            name: input_mapping(name, threshold, precision) for name, threshold in reach.items()
        }


CHUNK = 512  # output channels whose weights are converted at a time


class Mapping(NamedTuple):
    """ONNX's QuantizeLinear: round(x / scale) + zero_point, saturated."""

    scale: float
    zero_point: int
    format: Format


def input_mapping(conv: str, threshold: float, precision: Precision) -> Mapping:
    """How a convolution's input is held: symmetric; an unsigned format has its zero below or, for FIRST, in the middle."""
    format = precision.activations
    centred = format.dtype.kind == "u" and conv == FIRST
    scale = threshold / (format.largest // 2 if centred else format.largest)
    return Mapping(
        float(precision.trunk.type(max(scale, SMALLEST_SCALE))), 128 if centred else 0, format
    )


def weight_scales(weight: np.ndarray, precision: Precision, per_channel: bool) -> np.ndarray:
    """(out, in, kh, kw) float32 -> scales in the trunk's type, (out,) or rank 0."""
    axes = (1, 2, 3) if per_channel else None
    largest = np.maximum(weight.max(axes), -weight.min(axes)) / np.float32(
        precision.weights.largest
    )
    return np.maximum(largest, np.float32(SMALLEST_SCALE)).astype(precision.trunk)


def quantize_weight(weight: np.ndarray, scales: np.ndarray, precision: Precision) -> np.ndarray:
    """Nearest values, halves to even; symmetric, so that int8's -128 is not used."""
    format = precision.weights
    held = np.empty(weight.shape, format.dtype)
    for rows in _chunks(len(weight)):  # fc6 of a full-width net has 411 MB
        values = weight[rows] / _beside(scales, rows)
        if format.dtype.kind == "i":
            np.rint(values, out=values)
        held[rows] = np.clip(values, -format.largest, format.largest, out=values).astype(
            format.dtype
        )
    return held


def _chunks(rows: int) -> Iterator[slice]:
    return (slice(start, start + CHUNK) for start in range(0, rows, CHUNK))


def _beside(scales: np.ndarray, rows: slice) -> np.ndarray:
    """Float32 scales of some output channels, in a shape that multiplies weights."""
    return (
        scales[rows].astype(np.float32).reshape(-1, 1, 1, 1)
        if scales.ndim
        else scales.astype(np.float32)
    )


def held_as(values: Tensor, precision: Precision) -> Tensor:
    """Rounded to the trunk's type, in float32."""
    match precision.trunk.name:
        case "float16":
            return values.half().float()
        case "bfloat16":
            return values.bfloat16().float()
    return values


def rounded_input(values: Tensor, mapping: Mapping) -> Tensor:
    """Through 8 bits and back; `values` is left as it was."""
    scale, zero_point, format = mapping
    values = values / scale
    if format.dtype.kind not in "iu":  # float8 has no kind of its own
        return (
            values.clamp_(-format.largest, format.largest)
            .to(torch.float8_e4m3fn)
            .float()
            .mul_(scale)
        )
    limits = np.iinfo(format.dtype)
    return (
        values.round_()
        .clamp_(int(limits.min) - zero_point, int(limits.max) - zero_point)
        .mul_(scale)
    )


def layer_as(
    layer: nn.Module,
    images: Tensor,
    precision: Precision,
    mapping: Mapping | None,
    per_channel: bool,
) -> Tensor:
    """One layer with what a file of this precision stores of it; the arithmetic is float32.

    Args: mapping, of the input of a convolution that is quantized.
    """
    if not isinstance(layer, nn.Conv2d):
        return layer(images)
    if mapping is not None:
        images, weight = rounded_input(images, mapping), layer.weight.detach().numpy()
        scales = weight_scales(weight, precision, per_channel)
    parts = []
    for rows in _chunks(layer.out_channels):
        if mapping is None:
            held = held_as(layer.weight[rows], precision)
        else:
            own = scales[rows] if scales.ndim else scales
            held = torch.from_numpy(
                quantize_weight(weight[rows], own, precision).astype(np.float32)
                * _beside(scales, rows)
            )
        parts.append(convolve(images, held, held_as(layer.bias[rows], precision), layer.padding))
    return torch.cat(parts, 1)


class ReducedNet:
    """What a file of a precision says, computed in float32 by PyTorch: the reference that the file is checked against."""

    def __init__(self, net: VGG, precision: Precision, quantization: Quantization | None):
        self.net, self.spec, self.precision = net, net.spec, precision
        self.mappings = quantization.mappings(precision) if quantization else {}
        self.per_channel = quantization is None or quantization.per_channel

    @torch.inference_mode()
    def steps(self, images: Tensor) -> Generator[tuple[str, Tensor], Tensor, None]:
        """The output of one convolution after the other, and of LRN: (name, (N, C, h, w)); the last is the score map.

        Whoever drives it may send another tensor in the place of each, to go on from there: errors of one step then do not
        reach the next. Args: images, (N, 3, H, W) float RGB minus mean.
        """
        for name, layer in self.net.named_children():
            if isinstance(layer, nn.LocalResponseNorm):
                images = (yield name, layer(images)).clone()
                continue
            if not isinstance(layer, nn.Conv2d):
                images = layer(images)
                continue
            mapping = self.mappings.get(name)
            if name == LAST:
                images = convolve(
                    rounded_input(images, mapping) if mapping else images,
                    layer.weight,
                    layer.bias,
                    layer.padding,
                )
            else:
                images = layer_as(layer, images, self.precision, mapping, self.per_channel)
            images = (yield name, images).clone()
