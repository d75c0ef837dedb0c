"""Joins the graphs of a classifier and of a localiser to one that gives scores and boxes.

What both compute alike is computed once: a node of the localiser that has the same operation, the
same stored values and the same inputs as the classifier's node of its name. Where only the fully
connected layers were trained further, these are all layers up to pool5.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx

from export.onnx.graph import Graph
from export.onnx.onnx_file import read_referring, stored_values

PREFIX = "localiser."  # before the names of its own nodes, values and weights


def read_graph(path: Path) -> Graph:
    """The graph of a file that has its weights inside; they are mapped, not read.

    Args:
        path: Of vgg-export.
    """
    model = read_referring(path)
    weights = {t.name: stored_values(t, path.parent) for t in model.graph.initializer}
    del model.graph.initializer[:]
    return Graph(model, weights)


def joined(classifier: Graph, localiser: Graph, outputs: Sequence[str]) -> tuple[Graph, list[str]]:
    """Join two graphs of one precision.

    Args:
        classifier: Its metadata are left out.
        localiser: Of the same input.
        outputs: Names of the outputs, in their order; of both graphs.

    Returns:
        The graph, and the names of the nodes that are computed once for both.

    Raises:
        ValueError: If their inputs or operator sets differ.
    """
    ours, theirs = classifier.model, localiser.model
    same_input = ours.graph.input == theirs.graph.input
    if not same_input or ours.opset_import != theirs.opset_import:
        raise ValueError("the graphs take other inputs, or are of other operator sets")
    model = onnx.ModelProto()
    model.CopyFrom(ours)
    del model.metadata_props[:]
    weights = dict(classifier.weights)
    by_name = {node.name: node for node in ours.graph.node}
    given = {output.name for output in theirs.graph.output}
    names = {value.name: value.name for value in theirs.graph.input}  # theirs by ours
    shared = []
    for node in theirs.graph.node:
        twin = by_name.get(node.name)
        if twin is not None and _same(twin, node, names, classifier, localiser):
            shared.append(node.name)
            names.update(zip(node.output, twin.output, strict=True))
            continue
        copied = model.graph.node.add()
        copied.CopyFrom(node)
        copied.name = PREFIX + node.name
        for i, value in enumerate(node.input):
            if value in localiser.weights:
                weights[PREFIX + value] = localiser.weights[value]
            copied.input[i] = names.get(value, PREFIX + value)
        for i, value in enumerate(node.output):
            names[value] = value if value in given else PREFIX + value
            copied.output[i] = names[value]
    described = {o.name: o for o in (*ours.graph.output, *theirs.graph.output)}
    del model.graph.output[:]
    model.graph.output.extend(described[name] for name in outputs)
    return Graph(model, weights), shared


def _same(
    ours: onnx.NodeProto,
    theirs: onnx.NodeProto,
    names: dict[str, str],
    classifier: Graph,
    localiser: Graph,
) -> bool:
    """Whether two nodes compute the same."""
    if ours.op_type != theirs.op_type or ours.attribute != theirs.attribute:
        return False
    if len(ours.input) != len(theirs.input):
        return False
    for own, other in zip(ours.input, theirs.input, strict=True):
        if other in localiser.weights:
            if own not in classifier.weights or not _equal(
                classifier.weights[own], localiser.weights[other]
            ):
                return False
        elif names.get(other) != own:
            return False
    return True


def _equal(array: np.ndarray, other: np.ndarray) -> bool:
    """Whether type, shape and bytes are equal."""
    if array.dtype != other.dtype or array.shape != other.shape:
        return False
    return array.tobytes() == other.tobytes()
