"""Plants faults into ONNX graphs."""

import numpy as np
from onnx import helper, numpy_helper

from export.onnx.graph import Graph


def without_mean(graph: Graph) -> None:
    graph.weights["subtract_mean.mean"] = np.zeros((1, 3, 1, 1), np.float32)


def swapped_channels(graph: Graph) -> None:
    graph.weights["conv1_1.weight"] = np.ascontiguousarray(graph.weights["conv1_1.weight"][:, ::-1])


def zeroed_convolution(graph: Graph) -> None:
    graph.weights["conv4_2.weight"] = np.zeros_like(graph.weights["conv4_2.weight"])


def permuted_classes(graph: Graph) -> None:
    for name in ("fc8.weight", "fc8.bias"):
        graph.weights[name] = np.roll(graph.weights[name], 1, axis=0)


def softmax_before_average(graph: Graph) -> None:
    nodes = {node.name: node for node in graph.model.graph.node}
    mean, softmax = nodes["mean_score"], nodes["softmax"]
    softmax.input[0], softmax.output[0] = "score_map", "softmax.out"
    mean.input[0], mean.output[0] = "softmax.out", "posterior"
    del graph.model.graph.node[-2:]
    graph.model.graph.node.extend([softmax, mean])


def overflowing(graph: Graph) -> None:
    """Make activations of conv1_1 beyond 65504 infinite, as fp16 does.

    Planted as nodes, because a CPU computes fp16 in fp32.
    """
    nodes = graph.model.graph.node
    at, relu = next((i, n) for i, n in enumerate(nodes) if n.name == "relu1_1")
    scaled, clipped = f"{relu.output[0]}.scaled", relu.output[0]
    relu.output[0] = scaled
    for name, value in (("big", 1e6), ("limit", 65504.0), ("infinity", np.inf)):
        graph.model.graph.initializer.append(
            numpy_helper.from_array(np.array(value, np.float32), name)
        )
    planted = [
        helper.make_node("Mul", [scaled, "big"], ["grown"], "grow"),
        helper.make_node("Greater", ["grown", "limit"], ["over"], "compare"),
        helper.make_node("Where", ["over", "infinity", "grown"], [clipped], "overflow"),
    ]
    for i, node in enumerate(planted, start=1):
        nodes.insert(at + i, node)
