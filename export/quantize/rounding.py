"""Rounds weights and activations to 8 bits, in NumPy for files and in PyTorch to check them."""

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from export.quantize.bands import Map, Rows, RowsOf, all_rows, behind, held, inputs_of, whole
from export.quantize.convolve import SECOND, bias_of, layers_for, padding_of, run_layer
from export.quantize.four_bits import BlockWeight, block_product
from export.settings.precision import FOUR_BIT, Format, Precision
from vgg_deploy.net.fully_connected import convolve
from vgg_deploy.net.model import VGG
from vgg_deploy.net.outputs import SCORES

FIRST = "conv1_1"
LAST = "fc8"  # never quantized, because its scores decide
SMALLEST_SCALE = (
    2.0**-20
)  # half precision still represents it to 6 %; 127 steps of it are negligible
CHUNK = (
    3 * 2**20
)  # weights that are converted at a time; those of a convolution of the trunk are fewer


class Mapping(NamedTuple):
    """ONNX's QuantizeLinear: round(x / scale) + zero_point, saturated."""

    scale: float
    zero_point: int
    format: Format


@dataclass(frozen=True)
class Quantization:
    """Which convolutions of a net are quantized, and how far their inputs reach.

    Attributes:
        thresholds: Largest magnitude of the input that is kept, by convolution; larger ones are
            clipped to it.
        per_channel: Whether weights have one scale per output channel, else one per layer.
        last_input: The threshold of LAST where the precision is fused; only its input is rounded.
        blocks: 4-bit weights by convolution. Their inputs are rounded only where 8-bit values reach
            them: at fc6 of a fused precision, whose convolutions end in 8 bits.
    """

    thresholds: dict[str, float]
    per_channel: bool = True
    last_input: float | None = None
    blocks: dict[str, BlockWeight] = field(default_factory=dict)

    @property
    def quantized(self) -> set[str]:
        """Convolutions whose weights are quantized."""
        return {*self.thresholds, *self.blocks}

    def mappings(self, precision: Precision) -> dict[str, Mapping]:
        """How the inputs of convolutions are rounded, by convolution."""
        thresholds = dict(self.thresholds)
        if self.last_input is not None:
            thresholds[LAST] = self.last_input
        return {
            name: input_mapping(name, threshold, precision)
            for name, threshold in thresholds.items()
            if name not in self.blocks or (precision.fused and name == FOUR_BIT[0])
        }


def has_both_signs(conv: str) -> bool:
    """Whether the input of a convolution has negative values: of FIRST, and of second factors."""
    return conv == FIRST or conv.endswith(SECOND)


def input_mapping(conv: str, threshold: float, precision: Precision) -> Mapping:
    """How the input of a convolution is rounded.

    The mapping is symmetric. An unsigned format has its zero at the lower end or, where values have
    both signs, in the middle.

    Args:
        conv: Name of the convolution.
        threshold: Largest magnitude of its input that is kept.
        precision: One that is quantized.
    """
    format = precision.activation_format
    is_centred = format.dtype.kind == "u" and has_both_signs(conv)
    scale = threshold / (format.largest // 2 if is_centred else format.largest)
    scale_as_stored = float(precision.trunk.type(max(scale, SMALLEST_SCALE)))
    return Mapping(scale_as_stored, 128 if is_centred else 0, format)


def weight_scales(weight: np.ndarray, precision: Precision, per_channel: bool) -> np.ndarray:
    """Smallest scales that cover the largest weights.

    Args:
        weight: (out, in, kh, kw) float32.
        precision: One that is quantized.
        per_channel: Whether each output channel has its own scale.

    Returns:
        Scales in the trunk's type: (out,), or rank 0.
    """
    axes = (1, 2, 3) if per_channel else None
    largest = np.maximum(weight.max(axes), -weight.min(axes))
    scales = largest / np.float32(precision.weight_format.largest)
    rounded: np.ndarray = np.maximum(scales, np.float32(SMALLEST_SCALE)).astype(precision.trunk)
    return rounded


def quantize_weight(weight: np.ndarray, scales: np.ndarray, precision: Precision) -> np.ndarray:
    """Round weights to the nearest values of their format, halves to even.

    Args:
        weight: (out, in, kh, kw) float32.
        scales: Of `weight_scales`.
        precision: One that is quantized.

    Returns:
        (out, in, kh, kw) of the weights' format; symmetric, so int8's -128 is not used.
    """
    format = precision.weight_format
    stored = np.empty(weight.shape, format.dtype)
    for rows in _chunks(weight):  # fc6 of a full-width net has 411 MB
        values = weight[rows] / _scales_of(scales, rows)
        if format.dtype.kind == "i":
            np.rint(values, out=values)
        np.clip(values, -format.largest, format.largest, out=values)
        stored[rows] = values.astype(format.dtype)
    return stored


def rounded_to_trunk(values: Tensor, precision: Precision) -> Tensor:
    """Values rounded to the trunk's type, in float32."""
    match precision.trunk.name:
        case "float16":
            return values.half().float()
        case "bfloat16":
            return values.bfloat16().float()
    return values


def rounded_input(values: Tensor, mapping: Mapping) -> Tensor:
    """Values rounded to 8 bits, in float32.

    Args:
        values: Of any shape, float32; they are not changed.
        mapping: Of the convolution that they are fed to.
    """
    scale, zero_point, format = mapping
    levels = values / scale
    if format.dtype.kind not in "iu":  # float8 has no kind of its own
        levels.clamp_(-format.largest, format.largest)
        return levels.to(torch.float8_e4m3fn).float().mul_(scale)
    limits = np.iinfo(format.dtype)
    low, high = int(limits.min) - zero_point, int(limits.max) - zero_point
    return levels.round_().clamp_(low, high).mul_(scale)


def layer_as(
    layer: nn.Module,
    batches: list[Tensor],
    precision: Precision,
    mapping: Mapping | None,
    per_channel: bool,
    padding: tuple[int, int] | None = None,
) -> list[Tensor]:
    """Outputs of one layer with the values that a file of this precision stores.

    The arithmetic is float32. Weights are rounded once for all batches.

    Args:
        layer: Any layer of a VGG.
        batches: (N, C, H, W) float32 inputs.
        precision: Of the file.
        mapping: Of the input of a convolution that is quantized; None for other layers.
        per_channel: Whether quantized weights have one scale per output channel.
        padding: Zeros vertically and horizontally; None: those of the layer.

    Returns:
        (N, O, h, w) by batch.
    """
    if not isinstance(layer, nn.Conv2d):
        return [run_layer(layer, images) for images in batches]
    padding = padding_of(layer) if padding is None else padding
    weight = layer.weight.detach().numpy()
    if mapping is not None:
        batches = [rounded_input(images, mapping) for images in batches]
        scales = weight_scales(weight, precision, per_channel)
    found: list[Tensor] = []
    for rows in _chunks(layer.weight):
        if mapping is None:
            stored = rounded_to_trunk(layer.weight[rows], precision)
        else:
            stored = _stored_weight(weight[rows], scales, rows, precision)
        bias = rounded_to_trunk(bias_of(layer)[rows], precision)
        parts = [convolve(images, stored, bias, padding) for images in batches]
        # at once for all rows: small blocks between large ones would keep the memory of these
        found = found or [_with_channels(part, layer.out_channels) for part in parts]
        for output, part in zip(found, parts, strict=True):
            output[:, rows] = part
    return found


def _with_channels(part: Tensor, channels: int) -> Tensor:
    """Room for an output (N, channels, h, w) of which a part is known."""
    count, _, height, width = part.shape
    return part.new_empty(count, channels, height, width)


def stored_layer(
    layer: nn.Conv2d, precision: Precision, mapping: Mapping | None, per_channel: bool
) -> tuple[Tensor, Tensor]:
    """Weights and bias of a convolution as a file of this precision stores them, in float32.

    Args:
        layer: The convolution; not LAST, which is never rounded.
        precision: Of the file.
        mapping: Of its input if it is quantized; None if it is not.
        per_channel: Whether quantized weights have one scale per output channel.

    Returns:
        (out, in, kh, kw) and (out,).
    """
    bias = rounded_to_trunk(bias_of(layer).detach(), precision)
    if mapping is None:
        return rounded_to_trunk(layer.weight.detach(), precision), bias
    weight = layer.weight.detach().numpy()
    scales = weight_scales(weight, precision, per_channel)
    stored = torch.empty(weight.shape)
    for rows in _chunks(layer.weight):
        stored[rows] = _stored_weight(weight[rows], scales, rows, precision)
    return stored, bias


def quantized_alone(
    name: str,
    layer: nn.Module,
    batches: list[Tensor],
    precision: Precision,
    quantization: Quantization,
) -> list[Tensor]:
    """Outputs of one quantized convolution, as `layer_as`.

    Args:
        name: Of the layer, one of the quantization's.
        layer: The convolution.
        batches: (N, C, H, W) float32 inputs.
        precision: One that is quantized.
        quantization: Of the net.
    """
    mapping = quantization.mappings(precision).get(name)
    if name not in quantization.blocks:
        return layer_as(layer, batches, precision, mapping, quantization.per_channel)
    assert isinstance(layer, nn.Conv2d)
    return layer_of_blocks(layer, batches, precision, mapping, quantization.blocks[name])


def layer_of_blocks(
    layer: nn.Conv2d,
    batches: list[Tensor],
    precision: Precision,
    mapping: Mapping | None,
    weight: BlockWeight,
) -> list[Tensor]:
    """Outputs of a convolution with 4-bit weights, as `layer_as`.

    Args:
        layer: The convolution.
        batches: (N, C, H, W) float32 inputs.
        precision: Of the file.
        mapping: Of the input, if it is rounded.
        weight: The 4-bit weights.
    """
    if mapping:
        batches = [rounded_input(images, mapping) for images in batches]
    bias = rounded_to_trunk(bias_of(layer), precision)
    return block_product(batches, layer, weight, bias, precision.trunk)


def _stored_weight(
    weight: np.ndarray, scales: np.ndarray, rows: slice, precision: Precision
) -> Tensor:
    """Weights of some output channels as a file stores them, in float32.

    Args:
        weight: Of these channels.
        scales: Of all channels, or rank 0.
        rows: Which channels.
        precision: One that is quantized.
    """
    own_scales = scales[rows] if scales.ndim else scales
    levels = quantize_weight(weight, own_scales, precision).astype(np.float32)
    return torch.from_numpy(levels * _scales_of(scales, rows))


class ReducedNet:
    """What a file of a precision computes, in float32 by PyTorch: the reference of its check.

    Attributes:
        net: The float32 net.
        spec: Its description.
        precision: Of the file.
        outputs: Of the file.
        layers: Names and layers that they need, in running order.
        mappings: How inputs are rounded, by convolution; empty if nothing is quantized.
        per_channel: Whether quantized weights have one scale per output channel.
        blocks: 4-bit weights, by convolution.
        rows: Which rows of the outputs of convolutions with padding are computed, by their height.
    """

    def __init__(
        self,
        net: VGG,
        precision: Precision,
        quantization: Quantization | None,
        outputs: tuple[str, ...] = SCORES,
        rows: RowsOf = all_rows,
    ):
        self.rows = rows
        self.net, self.spec, self.precision, self.outputs = net, net.spec, precision, outputs
        self.layers = layers_for(net, outputs)
        mappings = quantization.mappings(precision) if quantization else {}
        self.mappings = {name: mappings[name] for name, _ in self.layers if name in mappings}
        self.per_channel = quantization is None or quantization.per_channel
        names = {name for name, _ in self.layers}
        blocks = quantization.blocks if quantization else {}
        self.blocks = {name: weight for name, weight in blocks.items() if name in names}

    @torch.inference_mode()
    def steps(self, batches: list[Tensor]) -> Generator[tuple[str, list[Rows]], list[Tensor], None]:
        """Compute one convolution after the other, LRN, and every layer that is an output.

        The caller sends the tensors to continue with in place of the outputs, so that an error of
        one step does not reach the next. They have all rows, and are not changed.

        Args:
            batches: (N, 3, H, W) float32 RGB minus mean.

        Yields:
            Name and outputs (N, C, h, w) of each step, by batch; of a convolution with padding
            only its `rows`.
        """
        maps = [held(images) for images in batches]
        for name, layer in self.layers:
            if isinstance(layer, nn.Conv2d):
                found = yield name, self._convolution(name, layer, maps)
            elif isinstance(layer, nn.LocalResponseNorm) or name in self.outputs:
                found = yield name, [whole(behind(layer, map).whole()) for map in maps]
            else:
                maps = [behind(layer, map) for map in maps]
                continue
            maps = [held(images) for images in found]

    def _convolution(self, name: str, layer: nn.Conv2d, maps: list[Map]) -> list[Rows]:
        mapping = self.mappings.get(name)
        if name != LAST and padding_of(layer) != (0, 0):
            return self._padded_convolution(layer, maps, mapping)
        batches = [map.whole() for map in maps]
        if name in self.blocks:
            weight = self.blocks[name]
            found = layer_of_blocks(layer, batches, self.precision, mapping, weight)
        elif name != LAST:
            found = layer_as(layer, batches, self.precision, mapping, self.per_channel)
        else:
            rounded = [rounded_input(images, mapping) if mapping else images for images in batches]
            found = [run_layer(layer, images) for images in rounded]
        return [whole(output) for output in found]

    def _padded_convolution(
        self, layer: nn.Conv2d, maps: list[Map], mapping: Mapping | None
    ) -> list[Rows]:
        """Rows of a convolution; the zeros above and below it are among the inputs."""
        vertical, horizontal = padding_of(layer)
        kernel = layer.kernel_size[0]
        heights = [map.height + 2 * vertical - kernel + 1 for map in maps]
        bands = [self.rows(height) for height in heights]
        inputs = [  # bands of equal height, as so many images
            torch.cat([inputs_of(map, band, kernel, vertical) for band in own_bands])
            for map, own_bands in zip(maps, bands, strict=True)
        ]
        padding = (0, horizontal)
        found = layer_as(layer, inputs, self.precision, mapping, self.per_channel, padding)
        return [
            Rows(torch.cat(output.chunk(len(own_bands)), 2), height, own_bands)
            for output, height, own_bands in zip(found, heights, bands, strict=True)
        ]


def _chunks(weight: Tensor | np.ndarray) -> Iterator[slice]:
    """Output channels (O, ...) whose weights are converted together."""
    rows = max(1, CHUNK // math.prod(weight.shape[1:]))
    return (slice(start, start + rows) for start in range(0, len(weight), rows))


def _scales_of(scales: np.ndarray, rows: slice) -> np.ndarray:
    """Float32 scales of some output channels, in a shape that multiplies weights."""
    if scales.ndim == 0:
        return scales.astype(np.float32)
    return scales[rows].astype(np.float32).reshape(-1, 1, 1, 1)
