"""Appends ONNX nodes of any shape of graph, each with the inputs that it names."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper

from export.onnx.chain import Attribute


class Nodes:
    """Nodes in running order, and their stored arrays.

    Attributes:
        nodes: So far.
        weights: Stored arrays by name.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, np.ndarray] = {}

    def stored(self, name: str, array: np.ndarray | np.generic) -> str:
        """Store an array; gives its name."""
        self.weights[name] = np.asarray(array)
        return name

    def add(
        self,
        op: str,
        name: str,
        inputs: Sequence[str],
        attributes: Mapping[str, Attribute] | None = None,
        output: str | None = None,
    ) -> str:
        """Append a node; gives the name of its output, by default `<name>.out`."""
        output = output or f"{name}.out"
        node = helper.make_node(op, list(inputs), [output], name)
        for key, value in sorted((attributes or {}).items()):
            node.attribute.append(helper.make_attribute(key, value))
        self.nodes.append(node)
        return output
