"""Appends ONNX nodes in a straight line, each fed by the one before."""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import helper

Input = str | np.ndarray  # the name of a value, or an array to store
Attribute = int | float | list[int]
END = 2**63 - 1  # of an axis of any size


class NodeChain:
    """Nodes in a row.

    Attributes:
        value: Name of the last output.
        dtype: Type of the last output.
        nodes: The nodes so far.
        weights: Their stored arrays by name.
        types: Of arrays that are converted when they are written, by name.
    """

    def __init__(self, value: str, dtype: np.dtype):
        self.value, self.dtype = value, dtype
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}
        self.types: dict[str, np.dtype] = {}

    def add(
        self,
        op: str,
        name: str,
        inputs: Mapping[str, Input] | None = None,
        attributes: Mapping[str, Attribute] | None = None,
        output: str | None = None,
    ) -> None:
        """Append a node.

        Args:
            op: ONNX operator.
            name: Of the node.
            inputs: By key, after the last output. An array is stored as `<name>.<key>`.
            attributes: Of the operator.
            output: Name of the node's output; by default `<name>.out`.
        """
        values = [self.value]
        for key, value in (inputs or {}).items():
            if isinstance(value, str):
                values.append(value)
            else:
                self.weights[f"{name}.{key}"] = value
                values.append(f"{name}.{key}")
        self.value = output or f"{name}.out"
        self.nodes.append(_node(op, name, values, self.value, attributes or {}))

    def cast(self, dtype: np.dtype, name: str) -> None:
        """Continue in another type, if it is another."""
        if dtype != self.dtype:
            self.add("Cast", name, attributes={"to": helper.np_dtype_to_tensor_dtype(dtype)})
            self.dtype = dtype

    def show(self, name: str) -> None:
        """Make the last output an output of the graph, as float32, beside the row.

        Args:
            name: Of the graph's output; its node is `<name>.feature`.
        """
        node = f"{name}.feature"
        if self.dtype == np.float32:
            self.nodes.append(_node("Identity", node, [self.value], name, {}))
        else:
            to = {"to": helper.np_dtype_to_tensor_dtype(np.dtype(np.float32))}
            self.nodes.append(_node("Cast", node, [self.value], name, to))

    def join_shifted(self, name: str, axis: int, count: int) -> None:
        """Put values and those that follow them along an axis side by side on the last axis.

        Where the last output is (N, H, W, C) and the axis is H, the next is (N, H - count + 1, W,
        count * C). Every number of it is a constant, so it takes images of any size.

        Args:
            name: Of the node that joins; the shifted values are `<name>.0`, ...
            axis: Along which the values shift.
            count: Number of values side by side.
        """
        self.weights[f"{name}.axis"] = np.array([axis], np.int64)
        parts = []
        for shift in range(count):
            part = f"{name}.{shift}"
            left_out = count - 1 - shift  # at the end of the axis
            limits = {"start": shift, "end": -left_out if left_out else END}
            for key, limit in limits.items():
                self.weights[f"{part}.{key}"] = np.array([limit], np.int64)
            inputs = [self.value, f"{part}.start", f"{part}.end", f"{name}.axis"]
            parts.append(f"{part}.out")
            self.nodes.append(_node("Slice", part, inputs, parts[-1], {}))
        self.value = f"{name}.out"
        self.nodes.append(_node("Concat", name, parts, self.value, {"axis": 3}))

    def add_dequantized(
        self, name: str, quantized: np.ndarray, scale: np.ndarray, zero_point: np.ndarray
    ) -> str:
        """Dequantize a stored 8-bit array, beside the row.

        Args:
            name: Of the node.
            quantized: The array.
            scale: Of its first axis, or rank 0.
            zero_point: In the shape of `scale`.

        Returns:
            Name of the dequantized value.
        """
        arrays = {"quantized": quantized, "scale": scale, "zero_point": zero_point}
        self.weights.update({f"{name}.{key}": array for key, array in arrays.items()})
        attributes = {"axis": 0} if scale.ndim else {}
        output = f"{name}.out"
        inputs = [f"{name}.{key}" for key in arrays]
        self.nodes.append(_node("DequantizeLinear", name, inputs, output, attributes))
        return output

    def add_dequantized_blocks(
        self, name: str, levels: np.ndarray, scales: np.ndarray, block: int
    ) -> str:
        """Dequantize a stored 4-bit matrix, beside the row.

        Args:
            name: Of the node.
            levels: (inputs, outputs) int4.
            scales: (blocks, outputs).
            block: Number of consecutive inputs that share a scale.

        Returns:
            Name of the dequantized value.
        """
        arrays = {"quantized": levels, "scale": scales}
        self.weights.update({f"{name}.{key}": array for key, array in arrays.items()})
        inputs = [f"{name}.{key}" for key in arrays]
        attributes = {"axis": 0, "block_size": block}
        self.nodes.append(_node("DequantizeLinear", name, inputs, f"{name}.out", attributes))
        return f"{name}.out"


def _node(
    op: str, name: str, inputs: list[str], output: str, attributes: Mapping[str, Attribute]
) -> onnx.NodeProto:
    node = helper.make_node(op, inputs, [output], name)
    for key, value in sorted(attributes.items()):
        node.attribute.append(helper.make_attribute(key, value))
    return node
