"""A straight line of ONNX nodes, each fed by the one before."""

import numpy as np
import onnx
from onnx import helper

Argument = str | np.ndarray | int | float | list[int]  # an input or an attribute of a node


class NodeChain:
    """Nodes in a row.

    Attributes:
        value: Name of the last output.
        dtype: Type of the last output.
        nodes: The nodes so far.
        weights: Their stored arrays by name.
    """

    def __init__(self, value: str, dtype: np.dtype):
        self.value, self.dtype = value, dtype
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}

    def add(self, op: str, name: str, output: str | None = None, **arguments: Argument) -> None:
        """Append a node.

        Args:
            op: ONNX operator.
            name: Of the node.
            output: Name of its output; by default `<name>.out`.
            **arguments: An array becomes a stored input `<name>.<key>`. A string is the name of
                an input. Everything else is an attribute.
        """
        inputs = [self.value]
        attributes: dict[str, Argument] = {}
        for key, argument in arguments.items():
            if isinstance(argument, np.ndarray):
                self.weights[f"{name}.{key}"] = argument
                inputs.append(f"{name}.{key}")
            elif isinstance(argument, str):
                inputs.append(argument)
            else:
                attributes[key] = argument
        self.value = output or f"{name}.out"
        self.nodes.append(helper.make_node(op, inputs, [self.value], name, **attributes))

    def cast(self, dtype: np.dtype, name: str) -> None:
        """Continue in another type, if it is another."""
        if dtype != self.dtype:
            self.add("Cast", name, to=helper.np_dtype_to_tensor_dtype(dtype))
            self.dtype = dtype

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
        inputs = [f"{name}.{key}" for key in arrays]
        attributes: dict[str, Argument] = {"axis": 0} if scale.ndim else {}
        output = f"{name}.out"
        self.nodes.append(
            helper.make_node("DequantizeLinear", inputs, [output], name, **attributes)
        )
        return output
