"""How far the activations of a net reach on real pictures, and where to clip them."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from export.quantize.convolve import convolve
from export.quantize.rounding import input_mapping, rounded_input
from export.settings.precision import Precision
from vgg_deploy.errors import InputError
from vgg_deploy.net.model import VGG

BINS = 2048
PERCENTILE = 99.99  # of all inputs of a layer, zeros among them
LEVELS = 128  # that entropy compares a histogram with: int8's magnitudes
METHODS = ("max", "percentile", "mse", "entropy")


@dataclass
class Range:
    """What was seen at one convolution."""

    input_max: float = 0.0  # largest magnitude
    output_max: float = 0.0  # largest magnitude, before ReLU
    top: float = 0.0  # upper edge of the last bin
    counts: np.ndarray = field(
        default_factory=lambda: np.zeros(BINS, np.int64)
    )  # of input magnitudes in equal bins from 0 to `top`

    def add(self, values: Tensor) -> None:
        """Count a batch of inputs; the bins widen by whole powers of two where they must."""
        magnitudes = values.abs()
        largest = _finite(magnitudes)
        self.input_max = max(self.input_max, largest)
        self.top = self.top or largest
        while largest > self.top:
            self.counts = np.concatenate(
                [self.counts.reshape(-1, 2).sum(1), np.zeros(BINS // 2, np.int64)]
            )
            self.top *= 2
        if self.top > 0:
            self.counts += torch.histc(magnitudes, BINS, 0, self.top).numpy().astype(np.int64)
        else:
            self.counts[0] += magnitudes.numel()

    def centres(self) -> np.ndarray:
        """(BINS,) float64, the magnitudes that the counts stand for; the first is 0, where ReLU puts most."""
        centres = (np.arange(BINS) + 0.5) * self.top / BINS
        centres[0] = 0
        return centres


@torch.inference_mode()
def measure_ranges(net: VGG, batches: Iterator[np.ndarray]) -> dict[str, Range]:
    """Inputs and outputs of every convolution, one picture after the other. Args: batches, (N, 3, H, W) uint8 RGB."""
    mean = torch.tensor(net.spec.preprocessing.mean).view(1, 3, 1, 1)
    ranges = {name: Range() for name, layer in net.named_children() if isinstance(layer, nn.Conv2d)}
    for picture in (picture for batch in batches for picture in batch):
        images = torch.from_numpy(picture[None]).float() - mean
        for name, layer in net.named_children():
            if not isinstance(layer, nn.Conv2d):
                images = layer(images)
                continue
            ranges[name].add(images)
            images = convolve(images, layer.weight, layer.bias, layer.padding)
            ranges[name].output_max = max(ranges[name].output_max, _finite(images.abs()))
    return ranges


def clip(ranges: dict[str, Range], method: str, precision: Precision) -> dict[str, float]:
    """Thresholds of every convolution, by one of METHODS.

    max keeps everything; percentile clips the rest above PERCENTILE; mse takes the threshold of the least squared error;
    entropy the one of the least Kullback-Leibler divergence, for int8.
    """
    if method == "entropy" and precision.activations.dtype.kind not in "iu":
        raise InputError(
            f"--calibration-method entropy: compares with evenly spaced levels, {precision.name} has none; choose max, percentile or mse"
        )
    thresholds = {}
    for name, seen in ranges.items():
        if seen.input_max == 0:
            raise InputError(
                f"{name}: saw only zeros during calibration, so it has no range; calibrate with real pictures, or keep it: --keep {name}"
            )
        match method:
            case "max":
                thresholds[name] = seen.input_max
            case "percentile":
                below = np.cumsum(seen.counts) >= seen.counts.sum() * PERCENTILE / 100
                thresholds[name] = min(
                    seen.input_max, seen.top * (int(np.argmax(below)) + 1) / BINS
                )
            case "mse":
                thresholds[name] = _least_squares(name, seen, precision)
            case "entropy":
                thresholds[name] = _least_divergence(seen)
    return thresholds


def _least_squares(name: str, seen: Range, precision: Precision) -> float:
    centres = torch.from_numpy(seen.centres())
    counts = torch.from_numpy(seen.counts).double()
    candidates = seen.input_max * np.linspace(0.02, 1, 99)
    errors = [
        float(
            (
                counts
                * (rounded_input(centres.float(), input_mapping(name, t, precision)) - centres) ** 2
            ).sum()
        )
        for t in candidates
    ]
    return float(candidates[int(np.argmin(errors))])


def _least_divergence(seen: Range) -> float:
    """Migacz, 8-bit inference with TensorRT (GTC 2017): clip where LEVELS levels describe the clipped histogram best.

    Zeros are left out: any format holds them exactly, and after ReLU they would drown the rest.
    """
    counts = seen.counts.astype(np.float64)
    counts[0] = 0
    best, threshold = np.inf, seen.input_max
    for bins in range(LEVELS, BINS + 1, 8):
        clipped = counts[:bins].copy()
        clipped[-1] += counts[bins:].sum()
        level = np.arange(bins) * LEVELS // bins
        filled = clipped > 0
        totals, members = (
            np.bincount(level, counts[:bins], LEVELS),
            np.bincount(level, filled, LEVELS),
        )
        spread = np.where(filled, (totals / np.maximum(members, 1))[level], 0)
        if spread.sum() == 0:
            continue
        p, q = clipped / clipped.sum(), spread / spread.sum()
        shown = (p > 0) & (q > 0)
        divergence = (
            float((p[shown] * np.log(p[shown] / q[shown])).sum())
            if not (p[~shown] > 0).any()
            else np.inf
        )
        if divergence < best:
            best, threshold = divergence, min(seen.input_max, seen.top * bins / BINS)
    return threshold


def _finite(magnitudes: Tensor) -> float:
    largest = float(magnitudes.max())
    if not np.isfinite(largest):
        raise InputError(
            "the net's activations are not finite, so it cannot be exported below float32; check its weights and its input"
        )
    return largest
