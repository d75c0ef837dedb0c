"""A net as an ONNX graph: one node a layer, named after it, sizes dynamic.

The graph is written layer by layer rather than traced: a VGG is a straight line of seven kinds of layer, so this gives
full control of names, types and memory. The tests hold it against torch.onnx.export's graph of the same net.
"""

from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper
from torch import nn

from vgg_deploy.artifact import KEY, USUAL_MEAN, USUAL_STD, Artifact
from vgg_deploy.model import VGG

OPSET = 20
IR_VERSION = 10  # what ONNX Runtime and TensorRT of that opset's age read


class Graph(NamedTuple):
    """A model whose weights are not yet in it."""

    model: onnx.ModelProto
    weights: dict[str, np.ndarray]  # initialisers by name


class _Line:
    """Nodes in a row, each fed by the one before."""

    def __init__(self, value: str):
        self.value, self.nodes, self.weights = value, [], {}

    def add(self, op: str, name: str, output: str | None = None, **given) -> None:
        """Append `op`; arrays among `given` become inputs `<name>.<key>`, everything else attributes."""
        arrays = {f"{name}.{key}": value for key, value in given.items() if isinstance(value, np.ndarray)}
        attributes = {key: value for key, value in given.items() if not isinstance(value, np.ndarray)}
        self.weights.update(arrays)
        output = output or f"{name}.out"
        self.nodes.append(helper.make_node(op, [self.value, *arrays], [output], name, **attributes))
        self.value = output


def onnx_graph(net: VGG, artifact: Artifact) -> Graph:
    """Input `image` (N, 3, H, W); outputs `posterior` (N, classes) and `score_map` (N, classes, h, w), float32."""
    line = _Line("image")
    _input(line, artifact)
    layers = [(name, module) for name, module in net.named_children() if not isinstance(module, nn.Dropout)]
    for name, module in layers:
        _layer(line, name, module, output="score_map" if name == layers[-1][0] else None)
    line.add("ReduceMean", "mean_score", axes=np.array([2, 3], np.int64), keepdims=0)
    line.add("Softmax", "softmax", output="posterior", axis=1)

    classes = len(net.spec.classes)
    pixels = TensorProto.UINT8 if artifact.input == "uint8" else TensorProto.FLOAT
    graph = helper.make_graph(
        line.nodes,
        f"vgg-{net.spec.arch}",
        [helper.make_tensor_value_info("image", pixels, ["batch", 3, "height", "width"])],
        [
            helper.make_tensor_value_info("posterior", TensorProto.FLOAT, ["batch", classes]),
            helper.make_tensor_value_info("score_map", TensorProto.FLOAT, ["batch", classes, "map_height", "map_width"]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="vgg-deploy")
    helper.set_model_props(model, {KEY: artifact.to_json()})
    return Graph(model, line.weights)


def _input(line: _Line, artifact: Artifact) -> None:
    """From what the caller feeds to RGB 0-255 minus the mean; zero padding then means the mean, as in training."""
    mean = np.array(artifact.spec.preprocessing.mean, np.float32).reshape(1, 3, 1, 1)
    if artifact.input == "uint8":
        line.add("Cast", "to_float", to=TensorProto.FLOAT)
    if artifact.input == "normalised":
        usual_mean, usual_std = (np.array(v).reshape(1, 3, 1, 1) for v in (USUAL_MEAN, USUAL_STD))
        line.add("Mul", "denormalise", std=(255 * usual_std).astype(np.float32))
        line.add("Add", "move_mean", offset=(255 * usual_mean - mean.astype(np.float64)).astype(np.float32))
    else:
        line.add("Sub", "subtract_mean", mean=mean)


def _layer(line: _Line, name: str, module: nn.Module, output: str | None) -> None:
    match module:
        case nn.Conv2d():
            weight, bias = (p.detach().cpu().contiguous().numpy() for p in (module.weight, module.bias))
            pads = [*module.padding, *module.padding]
            line.add("Conv", name, output, weight=weight, bias=bias, kernel_shape=module.kernel_size, pads=pads, strides=module.stride)
        case nn.ReLU():
            line.add("Relu", name, output)
        case nn.MaxPool2d():
            line.add("MaxPool", name, output, kernel_shape=[module.kernel_size] * 2, strides=[module.stride] * 2, ceil_mode=0)
        case nn.LocalResponseNorm():  # ONNX divides alpha by the size, as torch does
            line.add("LRN", name, output, alpha=module.alpha, beta=module.beta, bias=module.k, size=module.size)
        case _:
            raise TypeError(f"layer {name} is a {type(module).__name__}, which no VGG of Table 1 has")
