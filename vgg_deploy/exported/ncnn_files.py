"""A net as ncnn reads it: a text that names the layers (.param), and the weights one after another (.bin).

Both follow from the description of the net alone, so that a file can be compared with what it should be before ncnn, which
trusts what it reads, sees it.
"""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from vgg_deploy.errors import InputError
from vgg_deploy.exported.metadata import Artifact, manifest_path, weights_path
from vgg_deploy.files import sha256
from vgg_deploy.net.model import VGG
from vgg_deploy.net.spec import NetSpec

MAGIC = "7767517"  # the first line of every .param of today's format
FLOAT32 = bytes(4)  # ahead of a convolution's weights: how they are stored
SUFFIX = ".ncnn.param"
AGAIN = "export it again"


class StoredArray(NamedTuple):
    """An array of the .bin, named as in the ONNX file that it comes from."""

    name: str
    shape: tuple[int, ...]
    marked: bool = False  # FLOAT32 stands ahead of it
    negated: bool = False  # against the ONNX file: ncnn adds where that subtracts

    @property
    def bytes(self) -> int:
        return 4 * (prod(self.shape) + self.marked)


class NcnnGraph(NamedTuple):
    """What both files must be."""

    text: str
    arrays: list[StoredArray]

    @property
    def weight_bytes(self) -> int:
        return sum(held.bytes for held in self.arrays)


class _Line:
    """Layers in a row, each fed by the one before."""

    def __init__(self):
        self.value, self.lines, self.values, self.arrays = "image", ["Input image 0 1 image"], 1, []

    def add(
        self,
        type: str,
        name: str,
        *outputs: str,
        arrays: tuple[StoredArray, ...] = (),
        **numbers: float,
    ) -> None:
        """Append a layer; `numbers` are its parameters p0, p1, ... by ncnn's ids. The next layer goes on from its last output."""
        outputs = outputs or (f"{name}.out",)
        given = [f"{key.removeprefix('p')}={value!r}" for key, value in numbers.items()]
        self.lines.append(
            " ".join([type, name, "1", str(len(outputs)), self.value, *outputs, *given])
        )
        self.arrays += arrays
        self.values += len(outputs)
        self.value = outputs[-1]

    def text(self) -> str:
        return "\n".join([MAGIC, f"{len(self.lines)} {self.values}", *self.lines, ""])


def ncnn_graph(spec: NetSpec, form: str) -> NcnnGraph:
    """Input `image` (3, H, W) or a batch of them; outputs `posterior` (classes) and `score_map` (classes, h, w), float32.

    Args: form, what the ONNX file takes; where that is uint8 ncnn's takes the same values as floats, the only input it has.
    """
    with torch.device("meta"):  # layers without weights
        layers = [
            (name, module)
            for name, module in VGG(spec).named_children()
            if not isinstance(module, nn.Dropout)
        ]
    line = _Line()
    if form == "normalised":
        arrays = (StoredArray("denormalise.std", (3,)), StoredArray("move_mean.offset", (3,)))
        line.add("Scale", "denormalise", arrays=arrays, p0=3, p1=1)
    else:
        line.add(
            "Bias",
            "subtract_mean",
            arrays=(StoredArray("subtract_mean.mean", (3,), negated=True),),
            p0=3,
        )
    for i, (name, module) in enumerate(layers):
        match module:
            case nn.Conv2d():
                fused = (
                    {"p9": 1}
                    if i + 1 < len(layers) and isinstance(layers[i + 1][1], nn.ReLU)
                    else {}
                )
                shape = tuple(module.weight.shape)
                arrays = (
                    StoredArray(f"{name}.weight", shape, marked=True),
                    StoredArray(f"{name}.bias", shape[:1]),
                )
                line.add(
                    "Convolution",
                    name,
                    arrays=arrays,
                    p0=shape[0],
                    p1=shape[2],
                    p2=1,
                    p3=1,
                    p4=module.padding[0],
                    p5=1,
                    p6=prod(shape),
                    **fused,
                )
            case nn.ReLU():
                continue  # in the convolution before
            case nn.MaxPool2d():
                line.add(
                    "Pooling", name, p0=0, p1=module.kernel_size, p2=module.stride, p3=0, p5=1
                )  # 5=1: a rest is dropped
            case nn.LocalResponseNorm():  # ncnn too divides alpha by the size
                line.add(
                    "LRN", name, p0=0, p1=module.size, p2=module.alpha, p3=module.beta, p4=module.k
                )
            case _:
                raise TypeError(
                    f"layer {name} is a {type(module).__name__}, which no VGG of Table 1 has"
                )
    line.add(
        "Split", "split", "score_map", "scores"
    )  # ncnn drops a value once it is read, unless it has a name for each reader
    line.add("Pooling", "mean_score", p0=1, p4=1)
    line.add("Softmax", "softmax", "posterior", p0=0, p1=1)
    return NcnnGraph(line.text(), line.arrays)


@dataclass(frozen=True)
class NcnnFiles:
    """A net in ncnn's form, and where it comes from."""

    param: Path
    weights: Path
    artifact: Artifact

    def check(self) -> None:
        """Raises: InputError if the files are not what the artifact's net looks like; what the weights are is not judged."""
        graph = ncnn_graph(self.artifact.spec, self.artifact.input)
        # read no more of it than can be right: it may be anything
        with open(self.param, "rb") as file:
            found = file.read(len(graph.text) + 1)
        if found != graph.text.encode():
            raise InputError(
                f"{self.param}: is not net {self.artifact.spec.arch} as its manifest describes it; {AGAIN}"
            )
        size = self.weights.stat().st_size
        if size != graph.weight_bytes:
            raise InputError(
                f"{self.weights}: has {size:,} bytes, the net of its manifest has {graph.weight_bytes:,}; the file is cut short; {AGAIN}"
            )
        with open(self.weights, "rb") as file:
            at = 0
            for held in graph.arrays:
                file.seek(at)
                if held.marked and file.read(4) != FLOAT32:
                    raise InputError(
                        f"{self.weights}: {held.name} is not stored as float32; {AGAIN}"
                    )
                at += held.bytes


def find_ncnn(path: Path) -> NcnnFiles:
    """What belongs to a .param, whole and unchanged since its export.

    Raises: InputError for a file without its weights or manifest, or changed since it was exported.
    """
    path, manifest, weights = Path(path), manifest_path(path), weights_path(path)
    try:
        text = manifest.read_text(encoding="utf-8")
        held = json.loads(text)
        wanted = {file: held["files"][file.name]["sha256"] for file in (path, weights)}
        files = NcnnFiles(path, weights, Artifact.from_json(text, str(manifest)))
    except OSError:
        raise InputError(
            f"{path}: has no manifest {manifest.name} beside it, so its preprocessing is unknown; {AGAIN}"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{manifest}: not the manifest of an ncnn export ({error!r}); {AGAIN}"
        ) from None
    if not weights.is_file():
        raise InputError(
            f"{path}: its weights {weights.name} do not lie beside it; copy all three files together, or {AGAIN}"
        )
    files.check()
    for file, digest in wanted.items():
        if sha256(file) != digest:
            raise InputError(
                f"{file}: changed since it was exported and checked ({manifest.name} has another sha256); {AGAIN}"
            )
    return files


def array_bytes(held: StoredArray, array: np.ndarray) -> bytes:
    """As it stands in the .bin. Args: array, of the ONNX file."""
    values = np.negative(array) if held.negated else array
    return (FLOAT32 if held.marked else b"") + np.ascontiguousarray(values, "<f4").tobytes()
