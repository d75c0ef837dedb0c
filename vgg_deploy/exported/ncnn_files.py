"""Describes a net as ncnn reads it, and checks files against that description.

ncnn reads a text with the layers (.param), and the weights one after another (.bin). Both follow
from the description of the net alone. So a file is compared with what it should be before ncnn,
which trusts what it reads, opens it.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from torch import nn

from vgg_deploy.errors import InputError
from vgg_deploy.exported.metadata import (
    EXPORT_AGAIN,
    Artifact,
    check_digest,
    manifest_path,
    read_manifest,
    weights_path,
)
from vgg_deploy.json_files import JsonObject, entry
from vgg_deploy.net.model import VGG
from vgg_deploy.net.outputs import BOXES
from vgg_deploy.regular_files import is_regular, open_regular

MAGIC = "7767517"  # the first line of every .param of today's format
FLOAT32 = bytes(4)  # before the weights of a convolution: how they are stored
SUFFIX = ".ncnn.param"
AGAIN = EXPORT_AGAIN


class StoredArray(NamedTuple):
    """An array of the .bin, named as in the ONNX file that it comes from."""

    name: str
    shape: tuple[int, ...]
    marked: bool = False  # FLOAT32 stands before it
    negated: bool = False  # relative to the ONNX file: ncnn adds where ONNX subtracts

    @property
    def bytes(self) -> int:
        """Size in the .bin, with the mark."""
        return 4 * (prod(self.shape) + self.marked)


class NcnnLayer(NamedTuple):
    """A layer, and a line of the .param.

    Attributes:
        kind: ncnn's name of its type.
        name: Its own.
        reads: The values that it takes.
        gives: The values that it gives.
        parameters: By ncnn's ids.
        arrays: Its weights, in their order in the .bin.
    """

    kind: str
    name: str
    reads: tuple[str, ...]
    gives: tuple[str, ...]
    parameters: Mapping[int, float | tuple[float, ...]]
    arrays: tuple[StoredArray, ...] = ()

    @property
    def line(self) -> str:
        """The layer in the .param."""
        settings = [_setting(id, value) for id, value in self.parameters.items()]
        counts = [str(len(self.reads)), str(len(self.gives))]
        return " ".join([self.kind, self.name, *counts, *self.reads, *self.gives, *settings])


def _setting(id: int, value: float | tuple[float, ...]) -> str:
    """A parameter in the .param; ncnn marks a list by its id."""
    if isinstance(value, tuple):
        return f"{-23300 - id}={len(value)},{','.join(map(repr, value))}"
    return f"{id}={value!r}"


class NcnnGraph(NamedTuple):
    """What both files must contain.

    Attributes:
        layers: In running order; the first is the input.
    """

    layers: tuple[NcnnLayer, ...]

    @property
    def text(self) -> str:
        """The .param."""
        values = sum(len(layer.gives) for layer in self.layers)
        lines = [layer.line for layer in self.layers]
        return "\n".join([MAGIC, f"{len(lines)} {values}", *lines, ""])

    @property
    def arrays(self) -> list[StoredArray]:
        """The arrays of the .bin."""
        return [array for layer in self.layers for array in layer.arrays]

    @property
    def weight_bytes(self) -> int:
        """Size of the .bin."""
        return sum(array.bytes for array in self.arrays)


class _Chain:
    """Layers in a row, each of which reads the last output of the one before."""

    def __init__(self) -> None:
        self.layers = [input_layer("image")]

    def add(
        self,
        kind: str,
        name: str,
        parameters: Mapping[int, float],
        arrays: Sequence[StoredArray] = (),
        outputs: Sequence[str] = (),
    ) -> None:
        """Append a layer.

        Args:
            kind: ncnn's name of the layer's type.
            name: Of the layer.
            parameters: By ncnn's ids.
            arrays: Its weights, in their order in the .bin.
            outputs: By default one, named after the layer.
        """
        reads, gives = self.layers[-1].gives[-1], tuple(outputs) or (f"{name}.out",)
        self.layers.append(NcnnLayer(kind, name, (reads,), gives, parameters, tuple(arrays)))

    def show(self, name: str, is_last: bool) -> None:
        """Make the last output an output of the net.

        Args:
            name: Of the output.
            is_last: Whether no layer follows. Otherwise the value gets two names: ncnn drops a
                value once it is read, unless it has a name for each reader.
        """
        if is_last:
            self.add("Noop", f"{name}.feature", {}, outputs=(name,))
        else:
            split = "split" if name == "score_map" else f"{name}.split"
            following = "scores" if name == "score_map" else f"{name}.following"
            self.add("Split", split, {}, outputs=(name, following))


def input_layer(value: str) -> NcnnLayer:
    """The input of a net, under the name of its value."""
    return NcnnLayer("Input", value, (), (value,), {})


def ncnn_graph(artifact: Artifact) -> NcnnGraph:
    """Describe the files of a net.

    Its input is `image` (3, H, W), or a batch of them, float32. Its outputs are those of the
    artifact: `posterior` (classes), `score_map` (classes, h, w), layers (C, h, w), float32.

    Args:
        artifact: Of the ONNX file, or of the files themselves. If its input is uint8, ncnn's has
            the same values as floats, the only input it takes.
    """
    with torch.device("meta"):  # layers without weights
        children = list(VGG(artifact.spec).named_children())
    layers = [(name, layer) for name, layer in children if not isinstance(layer, nn.Dropout)]
    if not artifact.is_whole:
        last = max(i for i, (name, _) in enumerate(layers) if name in artifact.layers)
        layers = layers[: last + 1]
    chain = _Chain()
    _add_input(chain, artifact.input)
    for i, (name, layer) in enumerate(layers):
        is_last = i + 1 == len(layers)
        relu_follows = not is_last and isinstance(layers[i + 1][1], nn.ReLU)
        # a ReLU is part of the convolution before it, unless that is an output itself
        fuses = relu_follows and name not in artifact.layers
        fused = isinstance(layer, nn.ReLU) and layers[i - 1][0] not in artifact.layers
        if not fused:
            _add_layer(chain, name, layer, fuses)
        if name in artifact.layers:
            chain.show(name, is_last and not artifact.is_whole)
    if artifact.has_boxes:
        chain.show(BOXES, True)
    if artifact.has_scores:
        chain.show("score_map", False)
        chain.add("Pooling", "mean_score", {0: 1, 4: 1})
        chain.add("Softmax", "softmax", {0: 0, 1: 1}, outputs=("posterior",))
    return NcnnGraph(tuple(chain.layers))


def _add_input(chain: _Chain, form: str) -> None:
    """Subtract the mean from the input."""
    if form == "normalised":
        arrays = (StoredArray("denormalise.std", (3,)), StoredArray("move_mean.offset", (3,)))
        chain.add("Scale", "denormalise", {0: 3, 1: 1}, arrays)
    else:
        mean = StoredArray("subtract_mean.mean", (3,), negated=True)
        chain.add("Bias", "subtract_mean", {0: 3}, (mean,))


def _add_layer(chain: _Chain, name: str, layer: nn.Module, relu_follows: bool) -> None:
    """Append a layer of the net; `relu_follows` makes a ReLU part of a convolution."""
    match layer:
        case nn.ReLU():
            chain.add("ReLU", name, {})
        case nn.Conv2d():
            shape = tuple(layer.weight.shape)
            parameters = {
                0: shape[0],
                1: shape[2],
                2: 1,
                3: 1,
                4: int(layer.padding[0]),
                5: 1,
                6: prod(shape),
            }
            if relu_follows:
                parameters[9] = 1
            weight = StoredArray(f"{name}.weight", shape, marked=True)
            bias = StoredArray(f"{name}.bias", shape[:1])
            chain.add("Convolution", name, parameters, (weight, bias))
        case nn.MaxPool2d():  # 5=1: an incomplete window is dropped
            side, stride = _as_int(layer.kernel_size), _as_int(layer.stride)
            chain.add("Pooling", name, {0: 0, 1: side, 2: stride, 3: 0, 5: 1})
        case nn.LocalResponseNorm():  # ncnn too divides alpha by the size
            chain.add("LRN", name, {0: 0, 1: layer.size, 2: layer.alpha, 3: layer.beta, 4: layer.k})
        case _:
            kind = type(layer).__name__
            raise TypeError(f"layer {name} is a {kind}, which no VGG of Table 1 has")


def _as_int(side: int | tuple[int, ...]) -> int:
    return side if isinstance(side, int) else side[0]


@dataclass(frozen=True)
class NcnnFiles:
    """A net in ncnn's form, and where it comes from.

    Attributes:
        param: The text with the layers.
        weights: The .bin.
        artifact: Of the net.
    """

    param: Path
    weights: Path
    artifact: Artifact

    def check(self) -> None:
        """Compare the files with the artifact's net; the values of the weights are not judged.

        Raises:
            InputError: If they differ.
        """
        graph = ncnn_graph(self.artifact)
        # Read no more of the text than can be right: the file may be anything
        with _opened(self.param) as file:
            text = file.read(len(graph.text) + 1)
        if text != graph.text.encode():
            raise InputError(
                f"{self.param}: is not net {self.artifact.spec.arch} as its manifest describes it",
                AGAIN,
            )
        with _opened(self.weights) as file:
            size = os.fstat(file.fileno()).st_size
        if size != graph.weight_bytes:
            raise InputError(
                f"{self.weights}: has {size:,} bytes, the net of its manifest has "
                f"{graph.weight_bytes:,}; the file is cut short",
                AGAIN,
            )
        self._check_marks(graph.arrays)

    def _check_marks(self, arrays: list[StoredArray]) -> None:
        """Look at the marks before the weights of convolutions."""
        offset = 0
        with _opened(self.weights) as file:
            for array in arrays:
                file.seek(offset)
                if array.marked and file.read(len(FLOAT32)) != FLOAT32:
                    raise InputError(
                        f"{self.weights}: {array.name} is not stored as float32", AGAIN
                    )
                offset += array.bytes


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """Open one of the files; InputError if it cannot be read."""
    try:
        with open_regular(path) as file:
            yield file
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})", AGAIN) from None


def find_ncnn(path: Path) -> NcnnFiles:
    """Find the files that belong to a .param, whole and unchanged since their export.

    Args:
        path: The .param.

    Raises:
        InputError: If the weights or the manifest are missing, or a file has changed.
    """
    path, weights = Path(path), weights_path(path)
    manifest = manifest_path(path)
    fields = read_manifest(path, "its preprocessing is unknown", AGAIN)
    described = JsonObject(entry(fields, "files", dict, str(manifest), AGAIN))
    of_files = {
        file: JsonObject(entry(described, file.name, dict, str(manifest), AGAIN))
        for file in (path, weights)
    }
    files = NcnnFiles(path, weights, Artifact.from_fields(fields, str(manifest)))
    if not is_regular(weights):
        raise InputError(
            f"{path}: its weights {weights.name} are not in the same folder; "
            f"copy all three files together, or {AGAIN}"
        )
    files.check()
    for file, of_file in of_files.items():
        check_digest(file, of_file, manifest)
    return files


def array_bytes(array: StoredArray, values: np.ndarray) -> bytes:
    """Convert an array of the ONNX file to the bytes of the .bin.

    Args:
        array: Its description.
        values: Of `array.shape`, as the ONNX file has them.
    """
    stored = np.negative(values) if array.negated else values
    mark = FLOAT32 if array.marked else b""
    return mark + np.ascontiguousarray(stored, "<f4").tobytes()
