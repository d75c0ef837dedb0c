"""Which layers suffer: the error that quantizing one convolution alone causes."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from export.precision import Precision
from export.quantization import Quantization, input_mapping, layer_as
from vgg_deploy.model import VGG


@dataclass(frozen=True)
class Sensitivity:
    """One convolution, quantized while all others are float32; field names are the columns of the CSV."""

    layer: str
    precision: str
    threshold: float  # its input is clipped to this magnitude
    sqnr_db: float  # of the mean scores: 10 log10 of the signal's power over the error's
    agreement_pct: float  # of the pictures' best class with float32's
    pictures: int


@torch.inference_mode()
def measure_sensitivity(
    net: VGG, precision: Precision, quantization: Quantization, batches: list[np.ndarray], on_batch: Callable[[], None]
) -> list[Sensitivity]:
    """Every quantized convolution alone. What lies before it is computed once for all.

    Args: batches, (N, 3, H, W) uint8 RGB.
    """
    layers = list(net.named_children())
    mean = torch.tensor(net.spec.preprocessing.mean).view(1, 3, 1, 1)
    exact, found = [], {name: [] for name in quantization.thresholds}
    for batch in batches:
        images = torch.from_numpy(batch).float() - mean
        for i, (name, layer) in enumerate(layers):
            if name in found:
                mapping = input_mapping(name, quantization.thresholds[name], precision)
                one = layer_as(layer, images, precision, mapping, quantization.per_channel)
                found[name].append(_rest(layers[i + 1 :], one))
            images = layer(images)
        exact.append(images.mean((2, 3)))
        on_batch()
    wanted = torch.cat(exact)
    return [_judged(name, precision, quantization.thresholds[name], torch.cat(scores), wanted) for name, scores in found.items()]


def _rest(layers: list[tuple[str, nn.Module]], images: torch.Tensor) -> torch.Tensor:
    for _, layer in layers:
        images = layer(images)
    return images.mean((2, 3))


def _judged(name: str, precision: Precision, threshold: float, scores: torch.Tensor, wanted: torch.Tensor) -> Sensitivity:
    noise, signal = float(((scores - wanted) ** 2).mean()), float((wanted**2).mean())
    sqnr = float(10 * np.log10(signal / noise)) if noise else float("inf")
    agreement = 100 * float((scores.argmax(1) == wanted.argmax(1)).double().mean())
    return Sensitivity(name, precision.name, threshold, sqnr, agreement, len(wanted))
