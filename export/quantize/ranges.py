"""Measures how far a net's activations reach on real images, and chooses where to clip them."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from export.quantize.convolve import (
    Run,
    convolutions_of,
    net_input,
    run_layer_fast,
    trunk_and_head,
)
from export.quantize.rounding import input_mapping, rounded_input
from export.settings.export_options import METHOD_NAMES
from export.settings.precision import Precision
from vgg_deploy.errors import InputError
from vgg_deploy.net.model import VGG

BINS = 2048
PERCENTILE = 99.99  # of all inputs of a layer, including zeros
LEVELS = 128  # that entropy compares a histogram with: int8's magnitudes


@dataclass
class Range:
    """Magnitudes seen at one convolution.

    Attributes:
        input_max: Largest magnitude of the input.
        output_max: Largest magnitude of the output, before ReLU.
        top: Upper edge of the last bin.
        counts: (BINS,) int64 of input magnitudes, in equal bins from 0 to `top`.
    """

    input_max: float = 0.0
    output_max: float = 0.0
    top: float = 0.0
    counts: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def add(self, values: Tensor) -> None:
        """Count a batch of inputs. Where they exceed the bins, the bins double in width.

        Raises:
            InputError: If a value is not finite.
        """
        values = _in_memory_order(values)
        least, most = _finite_extremes(values)
        magnitudes = values if least >= 0 else values.abs()
        largest = max(-least, most)
        self.input_max = max(self.input_max, largest)
        self.top = self.top or largest
        while largest > self.top:
            pairs = self.counts.reshape(-1, 2).sum(1)
            self.counts = np.concatenate([pairs, np.zeros(BINS // 2, np.int64)])
            self.top *= 2
        if self.top > 0:
            self.counts += torch.histc(magnitudes, BINS, 0, self.top).numpy().astype(np.int64)
        else:
            self.counts[0] += magnitudes.numel()

    def add_output(self, values: Tensor) -> None:
        """Note how far a batch of outputs reaches.

        Raises:
            InputError: If a value is not finite.
        """
        least, most = _finite_extremes(_in_memory_order(values))
        self.output_max = max(self.output_max, -least, most)

    def centres(self) -> np.ndarray:
        """(BINS,) float64, the magnitudes that the counts stand for.

        The first is 0, where ReLU puts most values.
        """
        centres: np.ndarray = (np.arange(BINS) + 0.5) * self.top / BINS
        centres[0] = 0
        return centres


@torch.inference_mode()
def measure_ranges(net: VGG, batches: Iterable[np.ndarray]) -> dict[str, Range]:
    """Ranges of inputs and outputs of every convolution.

    Images run one after the other up to fc6, and from there on all of a batch together.

    Args:
        net: In evaluation mode.
        batches: (N, 3, H, W) uint8 RGB.

    Returns:
        The ranges by convolution, in running order.

    Raises:
        InputError: If an activation is not finite.
    """
    ranges = empty_ranges(net)
    trunk, head = trunk_and_head(net)
    for batch in batches:
        maps = []
        for image in batch:
            values = net_input(image[None], net.spec)
            for name, layer in trunk:
                values = observed(ranges, name, layer, values, run_layer_fast)
            maps.append(values)
        values = torch.cat(maps) if head else values
        for name, layer in head:
            values = observed(ranges, name, layer, values, run_layer_fast)
    return ranges


def empty_ranges(net: VGG) -> dict[str, Range]:
    """A range without a value for every convolution, in running order."""
    return {name: Range() for name in convolutions_of(net)}


def observed(
    ranges: dict[str, Range],
    name: str,
    layer: nn.Module,
    values: Tensor,
    run: Run,
) -> Tensor:
    """Run a layer, and add its input and output to the ranges if it is a convolution.

    Args:
        ranges: Of `empty_ranges`.
        name: Of the layer.
        layer: The layer.
        values: (N, C, H, W) float32.
        run: Runs a layer.

    Returns:
        (N, C', H', W').

    Raises:
        InputError: If a value is not finite.
    """
    if not isinstance(layer, nn.Conv2d):
        return run(layer, values)
    ranges[name].add(values)
    values = run(layer, values)
    ranges[name].add_output(values)
    return values


def clip(ranges: dict[str, Range], method: str, precision: Precision) -> dict[str, float]:
    """Choose the threshold of every convolution: larger inputs are clipped to it.

    Args:
        ranges: By convolution, of `measure_ranges`.
        method: One of METHOD_NAMES. "max" keeps everything; "percentile" clips what is above
            PERCENTILE; "mse" takes the threshold of the least squared error; "entropy" takes the
            threshold of the least Kullback-Leibler divergence, for int8.
        precision: One that is quantized.

    Returns:
        Largest magnitude of the input that is kept, by convolution.

    Raises:
        InputError: If a convolution saw only zeros, or entropy is chosen for a floating-point
            format.
    """
    if method == "entropy" and precision.activation_format.dtype.kind not in "iu":
        others = [name for name in METHOD_NAMES if name != "entropy"]
        raise InputError(
            f"--calibration-method entropy: compares with evenly spaced levels, {precision.name} "
            f"has none; choose {', '.join(others[:-1])} or {others[-1]}"
        )
    return {name: _threshold(name, seen, method, precision) for name, seen in ranges.items()}


def _threshold(name: str, seen: Range, method: str, precision: Precision) -> float:
    if seen.input_max == 0:
        raise InputError(
            f"{name}: saw only zeros during calibration, so it has no range; "
            f"calibrate with real images, or keep it: --keep {name}"
        )
    match method:
        case "max":
            return seen.input_max
        case "percentile":
            return _percentile(seen)
        case "mse":
            return _least_squares(name, seen, precision)
        case "entropy":
            return _least_divergence(seen)
    raise ValueError(f"method {method!r} is not one of {', '.join(METHOD_NAMES)}")


def _percentile(seen: Range) -> float:
    reached = np.cumsum(seen.counts) >= seen.counts.sum() * PERCENTILE / 100
    first = int(np.argmax(reached))
    return min(seen.input_max, seen.top * (first + 1) / BINS)


def _least_squares(name: str, seen: Range, precision: Precision) -> float:
    centres = torch.from_numpy(seen.centres())
    counts = torch.from_numpy(seen.counts).double()
    candidates = seen.input_max * np.linspace(0.02, 1, 99)
    errors = []
    for threshold in candidates:
        rounded = rounded_input(centres.float(), input_mapping(name, threshold, precision))
        errors.append(float((counts * (rounded - centres) ** 2).sum()))
    return float(candidates[int(np.argmin(errors))])


def _least_divergence(seen: Range) -> float:
    """Clip where LEVELS levels describe the clipped histogram best.

    Source: Migacz, 8-bit inference with TensorRT (GTC 2017). Zeros are left out: any format holds
    them exactly, and after ReLU they would outnumber the rest.
    """
    counts = seen.counts.astype(np.float64)
    counts[0] = 0
    least, threshold = np.inf, seen.input_max
    for bins in range(LEVELS, BINS + 1, 8):
        divergence = _divergence(counts, bins)
        if divergence < least:
            least, threshold = divergence, min(seen.input_max, seen.top * bins / BINS)
    return threshold


def _divergence(counts: np.ndarray, bins: int) -> float:
    """Kullback-Leibler divergence of a clipped histogram from its description by LEVELS levels.

    Args:
        counts: (BINS,) float64.
        bins: Number of bins that are kept. What is above is counted in the last of them.

    Returns:
        Infinity where the levels give no probability to a bin that has some.
    """
    clipped = counts[:bins].copy()
    clipped[-1] += counts[bins:].sum()
    level = np.arange(bins) * LEVELS // bins
    filled = clipped > 0
    totals = np.bincount(level, counts[:bins], LEVELS)
    members = np.bincount(level, filled, LEVELS)
    spread = np.where(filled, (totals / np.maximum(members, 1))[level], 0)
    if spread.sum() == 0:
        return np.inf
    p, q = clipped / clipped.sum(), spread / spread.sum()
    both = (p > 0) & (q > 0)
    if (p[~both] > 0).any():
        return np.inf
    return float((p[both] * np.log(p[both] / q[both])).sum())


def _in_memory_order(values: Tensor) -> Tensor:
    """The same values as they lie in memory; PyTorch counts others many times more slowly."""
    in_order = values.permute(0, 2, 3, 1) if values.dim() == 4 else values
    return in_order if in_order.is_contiguous() else values


def _finite_extremes(values: Tensor) -> tuple[float, float]:
    """The smallest and the largest value."""
    least, most = map(float, values.aminmax())
    if not np.isfinite([least, most]).all():
        raise InputError(
            "the net's activations are not finite, so it cannot be exported below float32; "
            "check its weights and its input"
        )
    return least, most
