"""Simulates a net with some layers quantized, and computes again only what has changed.

Between two trials the layers up to the first one that changes give the same activations. They are
kept in memory at the inputs of some layers: where a stage begins and where fc6, fc7 and fc8 begin,
as far as they fit, the last ones first.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from export.limit.search import Kept
from export.quantize.convolve import layers_of, net_input, padding_of, run_layer
from export.quantize.rounding import (
    LAST,
    Mapping,
    Quantization,
    rounded_input,
    stored_layer,
)
from export.settings.precision import Precision
from vgg_deploy.net.fully_connected import convolve
from vgg_deploy.net.model import VGG

MOST_BYTES = 3 * 2**29  # of the activations that are kept
PATHS = 3  # the last trial's, that of the last one that passed, and the one being computed

Layer = Callable[[Tensor], Tensor]
Path = dict[int, list[Tensor]]  # activations by the index of the layer that they are fed to


@dataclass(frozen=True, eq=False)
class _Walk:
    """A trial and what it computed: the layers that were kept, and activations of all batches."""

    kept: Kept
    path: Path


class Trials:
    """Runs a net on the same images with one set of quantized layers after the other.

    Attributes:
        names: Of the layers that can be quantized, in running order.
        layers_run: How often a convolution was computed, for all batches together; a measure of
            the work.
    """

    def __init__(
        self,
        net: VGG,
        precision: Precision,
        quantization: Quantization,
        batches: Sequence[np.ndarray],
        most_bytes: int = MOST_BYTES,
    ):
        """Plan where activations are kept.

        Args:
            net: In evaluation mode.
            precision: One that is quantized.
            quantization: With all layers that can be quantized.
            batches: (N, 3, H, W) uint8 RGB.
            most_bytes: Of the activations that are kept, float32.
        """
        self.net, self.precision, self.batches = net, precision, batches
        self.layers = layers_of(net)
        self.mappings = quantization.mappings(precision)
        self.per_channel = quantization.per_channel
        self.names = tuple(n for n, _ in self.layers if n in quantization.thresholds)
        self.layers_run = 0
        self._stops = self._plan(most_bytes // PATHS)
        self._walks: list[_Walk] = []
        self._passed: _Walk | None = None

    @torch.inference_mode()
    def scores(
        self, kept: Kept, advance: Callable[[float], None] = lambda share: None
    ) -> np.ndarray:
        """Mean scores of all images.

        Args:
            kept: Layers that are not quantized.
            advance: Called with shares of the work of a whole pass, together 1.

        Returns:
            (images, classes) float32, in the order of the batches.
        """
        start, values = self._resume(kept)
        advance(start / len(self.layers))
        path: Path = self._shared(kept, start)
        stops = [stop for stop in self._stops if stop > start]
        for begin, end in zip([start, *stops], [*stops, len(self.layers)], strict=True):
            layers = [self._prepared(name, layer, kept) for name, layer in self.layers[begin:end]]
            share = (end - begin) / len(self.layers) / len(self.batches)
            found = []
            for i in range(len(self.batches)):
                output = values[i] if values else net_input(self.batches[i], self.net.spec)
                for layer in layers:
                    output = layer(output)
                found.append(output)
                advance(share)
            values = found
            if end in self._stops:
                path[end] = values
            self.layers_run += sum(isinstance(ly, nn.Conv2d) for _, ly in self.layers[begin:end])
        self._walks = [_Walk(kept, path)]
        return np.concatenate([score.mean((2, 3)).numpy() for score in values])

    def hold(self) -> None:
        """Keep the activations of the last trial until another trial is held."""
        self._passed = self._walks[-1]

    def _resume(self, kept: Kept) -> tuple[int, list[Tensor]]:
        """The last layer whose input is known, and that input; 0 and nothing if none is."""
        best: tuple[int, list[Tensor]] = (0, [])
        for walk in self._known():
            for stop, values in walk.path.items():
                if stop > best[0] and self._same(walk.kept, kept, stop):
                    best = (stop, values)
        return best

    def _shared(self, kept: Kept, start: int) -> Path:
        """What is known up to a layer."""
        path: Path = {}
        for walk in self._known():
            for stop, values in walk.path.items():
                if stop <= start and self._same(walk.kept, kept, stop):
                    path[stop] = values
        return path

    def _known(self) -> list[_Walk]:
        return [*self._walks, *([self._passed] if self._passed else [])]

    def _same(self, kept: Kept, other: Kept, stop: int) -> bool:
        """Whether two trials compute the same up to a layer."""
        before = {name for name, _ in self.layers[:stop]}
        return (kept & before) == (other & before)

    def _prepared(self, name: str, layer: nn.Module, kept: Kept) -> Layer:
        """A layer with the weights that a file would store."""
        if not isinstance(layer, nn.Conv2d):
            return lambda values: run_layer(layer, values)
        mapping = None if name in kept else self.mappings.get(name)
        if name == LAST:
            return lambda values: run_layer(layer, _rounded(values, mapping))
        weight, bias = stored_layer(layer, self.precision, mapping, self.per_channel)
        padding = padding_of(layer)
        return lambda values: convolve(_rounded(values, mapping), weight, bias, padding)

    def _plan(self, most_bytes: int) -> tuple[int, ...]:
        """Indices of the layers whose inputs are kept, ascending."""
        stops: list[int] = []
        total = 0
        sizes = self._input_bytes()
        for index in reversed(self._candidates()):
            total += sizes[index]
            if total > most_bytes:
                break
            stops.insert(0, index)
        return tuple(stops)

    def _candidates(self) -> list[int]:
        """Indices of the first layers of stages, and of fc6, fc7 and fc8."""
        found = []
        for i, (_, layer) in enumerate(self.layers):
            starts_stage = i > 0 and isinstance(self.layers[i - 1][1], nn.MaxPool2d)
            is_fully_connected = isinstance(layer, nn.Conv2d) and padding_of(layer) == (0, 0)
            if starts_stage or (is_fully_connected and i > 0):
                found.append(i)
        return found

    def _input_bytes(self) -> list[int]:
        """Bytes of every layer's input, all batches together, float32."""
        sizes = [0] * len(self.layers)
        for batch in self.batches:
            count, channels, height, width = batch.shape
            for i, (_, layer) in enumerate(self.layers):
                sizes[i] += 4 * count * channels * height * width
                if isinstance(layer, nn.Conv2d):
                    rows, columns = padding_of(layer)
                    channels = layer.out_channels
                    height += 2 * rows - layer.kernel_size[0] + 1
                    width += 2 * columns - layer.kernel_size[1] + 1
                elif isinstance(layer, nn.MaxPool2d):
                    height, width = height // 2, width // 2
        return sizes


def _rounded(values: Tensor, mapping: Mapping | None) -> Tensor:
    return values if mapping is None else rounded_input(values, mapping)
