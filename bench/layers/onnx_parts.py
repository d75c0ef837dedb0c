"""Reads the graph of one of our ONNX files part by part: its nodes, values and stored weights."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bench.layers.contract import NotSeparable, Rounding
from bench.layers.parts import Part, convolution_of

FLOATS: dict[int, str] = {
    TensorProto.FLOAT: "fp32",
    TensorProto.FLOAT16: "fp16",
    TensorProto.BFLOAT16: "bf16",
}
KNOWN = ("Cast", "QuantizeLinear", "DequantizeLinear", "Conv", "Relu", "MaxPool", "LRN")
FEATURE = ".feature"  # the end of the name of a node that only shows a value
VALUES, ALONE = "values", "alone"  # input and output of a part as a model of its own

Levels = tuple[float, int, int, int]  # scale, zero point, lowest, highest


class Value(NamedTuple):
    """A value of the graph.

    Attributes:
        name: Of the value.
        kind: TensorProto's number of its type.
        levels: Of the integers that it is stored as; None for floats.
    """

    name: str
    kind: int
    levels: Levels | None = None


class FileGraph:
    """The graph of a file of vgg-export: a straight line of nodes, beside it those of weights.

    Attributes:
        model: The file.
        stored: Weights by name.
        gives: What each layer gives, by its name.
        rounded: What QuantizeLinear makes of that, for layers that it follows directly.
    """

    def __init__(self, model: onnx.ModelProto, layers: Sequence[str]):
        self.model = model
        self.stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self.gives: dict[str, Value] = {}
        self.rounded: dict[str, Value] = {}
        self._takes: dict[str, Value] = {}  # by node
        self._nodes: dict[str, list[onnx.NodeProto]] = {name: [] for name in layers}
        self._read(set(layers))

    def model_of(self, part: Part) -> onnx.ModelProto:
        """A part as a model of its own, VALUES in and ALONE out, both float32.

        Raises:
            NotSeparable: For nodes of a kind that is not known here.
        """
        nodes: list[onnx.NodeProto] = []
        name, kind = VALUES, int(TensorProto.FLOAT)
        for node in self._nodes_of(part):
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            if _is_of_weight(node, self.stored):
                nodes.append(copy)
                continue
            taken = self._takes[node.name].kind
            if taken in FLOATS and taken != kind:
                nodes.append(helper.make_node("Cast", [name], [f"{node.name}.in"], to=taken))
                name, kind = f"{node.name}.in", taken
            copy.input[0] = name
            nodes.append(copy)
            name, kind = copy.output[0], self._kind_after(node, kind)
        nodes.append(helper.make_node("Cast", [name], [ALONE], to=TensorProto.FLOAT))
        used = {value for node in nodes for value in node.input}
        sides: list[str | int | None] = ["n", "c", "h", "w"]
        graph = helper.make_graph(
            nodes,
            "part",
            [helper.make_tensor_value_info(VALUES, TensorProto.FLOAT, sides)],
            [helper.make_tensor_value_info(ALONE, TensorProto.FLOAT, None)],
            [tensor for name, tensor in self.stored.items() if name in used],
        )
        return helper.make_model(
            graph, opset_imports=self.model.opset_import, ir_version=self.model.ir_version
        )

    def rounding(self, part: Part, output: Value) -> Rounding:
        """How a part rounds.

        Args:
            part: Layers of the file.
            output: The value that is looked at behind them.

        Raises:
            NotSeparable: If its weights are stored in a form that is not known here.
        """
        nodes = self._nodes_of(part)
        conv = convolution_of(part)
        if conv is None:
            kind = FLOATS.get(self._takes[part[0]].kind, "fp32")
            return Rounding(kind=kind, output_levels=output.levels)
        by_name = {node.name: node for node in nodes}
        kind = FLOATS.get(self._takes[conv].kind, "fp32")
        dequantizer = by_name.get(f"{conv}.dequantize")
        levels = self._levels(dequantizer) if dequantizer else None
        weight, step = self._weight(conv, by_name)
        return Rounding(weight, step, kind, levels, output.levels)

    def _read(self, layers: set[str]) -> None:
        last = Value("image", TensorProto.FLOAT)
        of_last = ""  # the layer that gave it, if it did so without anything behind it
        for node in self.model.graph.node:
            if node.name.endswith(FEATURE):
                continue
            layer = node.name.partition(".")[0]
            if layer in layers:
                self._nodes[layer].append(node)
            if _is_of_weight(node, self.stored):
                continue
            self._takes[node.name] = last
            levels = last.levels
            if node.op_type == "QuantizeLinear":
                levels = self._levels(node)
            elif node.op_type != "MaxPool":
                levels = None
            last = Value(node.output[0], self._kind_after(node, last.kind), levels)
            if node.op_type == "QuantizeLinear" and of_last:
                self.rounded[of_last] = last
            of_last = ""
            if node.name in layers:
                self.gives[node.name] = last
                of_last = node.name

    def _nodes_of(self, part: Part) -> list[onnx.NodeProto]:
        """The nodes of a part in running order."""
        own = [node for layer in part for node in self._nodes[layer]]
        for node in own:
            if node.op_type not in KNOWN or node.domain not in ("", "ai.onnx"):
                raise NotSeparable(f"its {node.name} is a {node.op_type}, which is not known here")
        return own

    def _kind_after(self, node: onnx.NodeProto, kind: int) -> int:
        """The type of a node's output."""
        match node.op_type:
            case "Cast":
                return next(int(a.i) for a in node.attribute if a.name == "to")
            case "QuantizeLinear":
                return int(self.stored[node.input[2]].data_type)
            case "DequantizeLinear":
                return int(self.stored[node.input[1]].data_type)
        return kind

    def _levels(self, node: onnx.NodeProto) -> Levels:
        """Of a QuantizeLinear or a DequantizeLinear."""
        scale, zero = (numpy_helper.to_array(self.stored[name]) for name in node.input[1:3])
        if zero.dtype.kind not in "iu" or scale.size != 1:
            raise NotSeparable(f"its {node.name} rounds to {zero.dtype}, which is not known here")
        limits = np.iinfo(zero.dtype)
        return float(scale), int(zero), int(limits.min), int(limits.max)

    def _weight(
        self, conv: str, nodes: dict[str, onnx.NodeProto]
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """A convolution's weights as they are stored, and the distance of two of them."""
        dequantizer = nodes.get(f"{conv}.weight")
        if dequantizer is None:
            stored = self.stored.get(nodes[conv].input[1])
            if stored is None:
                raise NotSeparable(f"the weights of its {conv} are not stored as they are used")
            return numpy_helper.to_array(stored).astype(np.float32), None
        arrays = [numpy_helper.to_array(self.stored[name]) for name in dequantizer.input]
        integers, scale = arrays[0], arrays[1].astype(np.float32)
        if integers.dtype.kind not in "iu" or scale.ndim > 1:
            raise NotSeparable(f"the weights of its {conv} are {integers.dtype} in blocks")
        scale = scale.reshape(-1)
        return integers.astype(np.float32) * scale.reshape(-1, 1, 1, 1), scale


def _is_of_weight(node: onnx.NodeProto, stored: dict[str, TensorProto]) -> bool:
    """Whether a node dequantizes weights, beside the row."""
    return node.op_type == "DequantizeLinear" and node.input[0] in stored
