"""Adds the times of a runtime's nodes up by the layer that they belong to.

Runtimes rewrite a graph. Nodes that fuse others keep the name of a node or of a value of the file,
and these begin with the paper's names of layers.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bench.layers.contract import PartTimes
from bench.layers.parts import INPUT, LAYOUT, POSTERIOR, Part, owners, parts_of

BEFORE = ("to_float", "subtract_mean", "denormalise", "move_mean")
AFTER = ("mean_score", "softmax", "posterior")
LAST = "score_map"  # the value that fc8 gives
LAYER = re.compile(r"(?:conv|relu|norm|pool|fc)\d(?:_\d)?(?!\d)")
CONVOLUTIONS = ("Conv", "MatMul", "Gemm")  # parts of the names of operators
COMPUTING = {"relu": ("Relu", "Clip"), "pool": ("Pool",), "norm": ("LRN",)}
REORDERING = ("Reorder", "Transpose")  # how the names of operators begin


class Node(NamedTuple):
    """One node in one call.

    Attributes:
        name: Of the node.
        op: Operator.
        ms: Milliseconds.
    """

    name: str
    op: str
    ms: float


def part_times(calls: Sequence[Sequence[Node]], layers: Sequence[str]) -> list[PartTimes]:
    """Add the times of nodes up by the part of the net that they belong to.

    Args:
        calls: Of `calls_of`, at least one.
        layers: Names of the net's layers, in running order.
    """
    parts = parts_in(calls[0], layers)
    part_of = {**owners(parts), INPUT: (INPUT,), POSTERIOR: (POSTERIOR,), LAYOUT: (LAYOUT,)}
    rows: dict[Part, np.ndarray] = {}
    for part in ((INPUT,), *parts, (POSTERIOR,), (LAYOUT,)):
        rows[part] = np.zeros(len(calls))
    for index, nodes in enumerate(calls):
        for node in nodes:
            rows[part_of[_place(node)]][index] += node.ms
    return [PartTimes(part, ms) for part, ms in rows.items() if ms.any() or part in parts]


def computing(nodes: Sequence[Node]) -> list[tuple[str, str]]:
    """Layer and operator of the nodes that are a layer's own operation, in running order."""
    return [(place, node.op) for node in nodes if (place := _computed(node))]


def parts_in(nodes: Sequence[Node], layers: Sequence[str]) -> list[Part]:
    """The parts that the nodes of one call compute.

    Args:
        nodes: Of one call.
        layers: Names of the net's layers, in running order.
    """
    return parts_of(layers, {layer for layer, _ in computing(nodes)})


def _place(node: Node) -> str:
    """The layer that a node belongs to, or one of AROUND."""
    if node.op.startswith(REORDERING):
        return LAYOUT
    if found := LAYER.search(node.name):
        layer = found[0]
        # a fused node may have the name of its last layer
        return _own_convolution(layer) if _is_convolution(node) else layer
    if LAST in node.name:
        return "fc8"
    if any(name in node.name for name in BEFORE):
        return INPUT
    if any(name in node.name for name in AFTER):
        return POSTERIOR
    return LAYOUT


def _computed(node: Node) -> str | None:
    """The layer whose own operation a node is; None for roundings, types and orders."""
    place = _place(node)
    if _is_convolution(node):
        return place
    operators = COMPUTING.get(place.rstrip("_0123456789"), ())
    return place if any(operator in node.op for operator in operators) else None


def _is_convolution(node: Node) -> bool:
    return any(operator in node.op for operator in CONVOLUTIONS)


def _own_convolution(layer: str) -> str:
    """conv1_1 for relu1_1, fc6 for relu6."""
    number = layer.removeprefix("relu")
    if number == layer:
        return layer
    return f"conv{number}" if "_" in number else f"fc{number}"
