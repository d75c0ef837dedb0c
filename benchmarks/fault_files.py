"""Plants faults into ONNX files that otherwise look like a good export.

Names, shapes, description and origin are those of the good file.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import helper, numpy_helper

from export.onnx.graph import Graph
from vgg_deploy.net.spec import NetSpec


@dataclass(frozen=True)
class Fault:
    """One way in which a file can be wrong."""

    name: str
    kind: str
    plant: Callable[[Graph], None] = lambda graph: None
    described: Callable[[NetSpec], NetSpec] = lambda spec: spec  # what the file says of itself
    wanted: str = "fail"  # "any" for a fault that may lie below the limit of rounding


def _node(graph: Graph, name: str) -> onnx.NodeProto:
    return next(node for node in graph.model.graph.node if node.name == name)


def _constant(graph: Graph, name: str, value: np.ndarray) -> str:
    graph.model.graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def _put_after(graph: Graph, name: str, op: str, *others: np.ndarray, **attributes: object) -> None:
    """Let `op` change the output of a node.

    Args:
        graph: The graph.
        name: Of the node.
        op: Operator.
        others: Further inputs of `op`.
        attributes: Of `op`.
    """
    nodes, before = graph.model.graph.node, _node(graph, name)
    output = before.output[0]
    before.output[0] = f"{output}.before_{op}"
    inputs = [_constant(graph, f"{output}.{op}.{i}", value) for i, value in enumerate(others)]
    planted = helper.make_node(
        op, [before.output[0], *inputs], [output], f"planted_{op}_after_{name}", **attributes
    )
    nodes.insert(list(nodes).index(before) + 1, planted)


def _put_first(graph: Graph, op: str, *others: np.ndarray, **attributes: object) -> str:
    """Let `op` change the image.

    Returns:
        The name of its output.
    """
    inputs = [_constant(graph, f"image.{op}.{i}", value) for i, value in enumerate(others)]
    planted = helper.make_node(
        op, ["image", *inputs], [f"image.{op}"], f"planted_{op}", **attributes
    )
    graph.model.graph.node[0].input[0] = planted.output[0]
    graph.model.graph.node.insert(0, planted)
    return planted.output[0]


# --- Pixels ---


def mean_shifted(levels: float) -> Callable[[Graph], None]:
    """Subtract another mean.

    Args:
        levels: Of grey, in every channel.
    """

    def plant(graph: Graph) -> None:
        name = "subtract_mean.mean"
        graph.weights[name] = graph.weights[name] + np.float32(levels)

    return plant


def no_mean(graph: Graph) -> None:
    graph.weights["subtract_mean.mean"] = np.zeros((1, 3, 1, 1), np.float32)


def bgr(graph: Graph) -> None:
    graph.weights["conv1_1.weight"] = np.ascontiguousarray(graph.weights["conv1_1.weight"][:, ::-1])


def pixels_times(factor: float) -> Callable[[Graph], None]:
    """What a standard deviation that does not belong there does, or pixels of 0 to 1."""

    def plant(graph: Graph) -> None:
        graph.weights["conv1_1.weight"] = graph.weights["conv1_1.weight"] * np.float32(factor)

    return plant


def transposed(graph: Graph) -> None:
    _put_first(graph, "Transpose", perm=[0, 1, 3, 2])
    _put_after(graph, "fc8", "Transpose", perm=[0, 1, 3, 2])


def mirrored(graph: Graph) -> None:
    """Mirror every image. With flips nothing changes, as each image comes with its mirror image."""
    ends = [np.array([value], np.int64) for value in (-1, np.iinfo(np.int64).min, 3, -1)]
    _put_first(graph, "Slice", *ends)


def blind_to_mirroring(graph: Graph) -> None:
    """The brighter of an image and its mirror image."""
    mirrored(graph)
    nodes = graph.model.graph.node
    nodes[1].input[0] = "image.both"
    nodes.insert(
        1, helper.make_node("Max", ["image", "image.Slice"], ["image.both"], "planted_Max")
    )


def batch_reversed(graph: Graph) -> None:
    """Posteriors belong to other images of the batch; each alone is right."""
    ends = [np.array([value], np.int64) for value in (-1, np.iinfo(np.int64).min, 0, -1)]
    _put_first(graph, "Slice", *ends)


def first_of_batch(graph: Graph) -> None:
    """The first image of a batch replaces all others, as a reused buffer does."""
    shape = helper.make_node("Shape", ["image"], ["image.shape"], "planted_Shape")
    ends = [np.array([value], np.int64) for value in (0, 1, 0)]
    _put_first(graph, "Slice", *ends)
    nodes = graph.model.graph.node
    nodes[1].input[0] = "image.first"
    nodes.insert(0, shape)
    nodes.insert(
        2,
        helper.make_node(
            "Expand", ["image.Slice", "image.shape"], ["image.first"], "planted_Expand"
        ),
    )


# --- Classes and head ---


def two_classes_swapped(graph: Graph) -> None:
    for name in ("fc8.weight", "fc8.bias"):
        graph.weights[name] = graph.weights[name][[1, 0, *range(2, len(graph.weights[name]))]]


def classes_rolled(graph: Graph) -> None:
    for name in ("fc8.weight", "fc8.bias"):
        graph.weights[name] = np.roll(graph.weights[name], 1, axis=0)


def labels_rolled(spec: NetSpec) -> NetSpec:
    return replace(spec, classes=spec.classes[1:] + spec.classes[:1], names=())


def bias_of_one_class(amount: float) -> Callable[[Graph], None]:
    def plant(graph: Graph) -> None:
        graph.weights["fc8.bias"] = graph.weights["fc8.bias"].copy()
        graph.weights["fc8.bias"][0] += np.float32(amount)

    return plant


def temperature(factor: float) -> Callable[[Graph], None]:
    """Scores are multiplied: no best class of one image changes."""

    def plant(graph: Graph) -> None:
        for name in ("fc8.weight", "fc8.bias"):
            graph.weights[name] = graph.weights[name] * np.float32(factor)

    return plant


def softmax_first(graph: Graph) -> None:
    mean, softmax = _node(graph, "mean_score"), _node(graph, "softmax")
    softmax.input[0], softmax.output[0] = "score_map", "softmax.out"
    mean.input[0], mean.output[0] = "softmax.out", "posterior"
    del graph.model.graph.node[-2:]
    graph.model.graph.node.extend([softmax, mean])


def sigmoid(graph: Graph) -> None:
    softmax = _node(graph, "softmax")
    softmax.op_type = "Sigmoid"
    del softmax.attribute[:]


def no_softmax(graph: Graph) -> None:
    softmax = _node(graph, "softmax")
    softmax.op_type = "Identity"
    del softmax.attribute[:]


def scores_clipped(graph: Graph) -> None:
    _put_after(graph, "fc8", "Clip", np.array(-5, np.float32), np.array(5, np.float32))


def dropout_left_on(graph: Graph) -> None:
    """A random half of fc7 is zero in every call, the rest is doubled.

    Planted as nodes, because ONNX Runtime ignores a Dropout node's training mode.
    """
    nodes, relu = graph.model.graph.node, _node(graph, "relu7")
    kept = relu.output[0]
    relu.output[0] = "fc7.whole"
    half, zero, two = (
        _constant(graph, f"dropout.{v}", np.array(v, np.float32)) for v in (0.5, 0.0, 2.0)
    )
    planted = [
        helper.make_node(
            "RandomUniformLike",
            ["fc7.whole"],
            ["dropout.random"],
            "planted_RandomUniformLike",
            seed=1.0,
        ),
        helper.make_node("Greater", ["dropout.random", half], ["dropout.kept"], "planted_Greater"),
        helper.make_node("Mul", ["fc7.whole", two], ["dropout.doubled"], "planted_Mul"),
        helper.make_node(
            "Where", ["dropout.kept", "dropout.doubled", zero], [kept], "planted_Where"
        ),
    ]
    for node in reversed(planted):
        nodes.insert(list(nodes).index(relu) + 1, node)


# --- Weights ---


def zeroed(layer: str) -> Callable[[Graph], None]:
    def plant(graph: Graph) -> None:
        graph.weights[f"{layer}.weight"] = np.zeros_like(graph.weights[f"{layer}.weight"])

    return plant


def two_filters_swapped(graph: Graph) -> None:
    """In one layer only, so that the next one reads the wrong channels."""
    for name in ("conv3_1.weight", "conv3_1.bias"):
        graph.weights[name] = graph.weights[name][[1, 0, *range(2, len(graph.weights[name]))]]


def without_bias(layer: str) -> Callable[[Graph], None]:
    def plant(graph: Graph) -> None:
        graph.weights[f"{layer}.bias"] = np.zeros_like(graph.weights[f"{layer}.bias"])

    return plant


def noise(share: float) -> Callable[[Graph], None]:
    """Multiply every weight by normal noise around 1.

    Args:
        share: Standard deviation of the noise as a part of each weight.
    """

    def plant(graph: Graph) -> None:
        rng = np.random.default_rng(0)
        for name, array in graph.weights.items():
            if name.endswith("weight"):
                graph.weights[name] = (
                    array * (1 + share * rng.standard_normal(array.shape))
                ).astype(np.float32)

    return plant


def rounded_to_half(graph: Graph) -> None:
    """float16 values in a file that says it is float32."""
    for name, array in graph.weights.items():
        if array.dtype == np.float32:
            graph.weights[name] = array.astype(np.float16).astype(np.float32)


def eight_bits(factor: float) -> Callable[[Graph], None]:
    """Round weights to 8 bits.

    Args:
        factor: Error of one layer's scale when its weights are read back.
    """

    def plant(graph: Graph) -> None:
        for name, array in graph.weights.items():
            if name.endswith("weight"):
                scale = np.abs(array).max() / 127
                wrong = factor if name == "conv3_1.weight" else 1
                graph.weights[name] = (np.round(array / scale) * scale * wrong).astype(np.float32)

    return plant


def bit_flipped(layer: str, bit: int) -> Callable[[Graph], None]:
    """Flip one bit of a layer's first weight.

    Args:
        layer: Its name.
        bit: 23 to 30 are the exponent's, 31 is the sign.
    """

    def plant(graph: Graph) -> None:
        array = graph.weights[f"{layer}.weight"].copy()
        array.view(np.uint32).reshape(-1)[0] ^= np.uint32(1 << bit)
        graph.weights[f"{layer}.weight"] = array

    return plant


def overflowing(graph: Graph) -> None:
    graph.weights["fc7.bias"] = np.full_like(graph.weights["fc7.bias"], np.inf)


# --- Geometry ---


def padding_shifted(graph: Graph) -> None:
    """Two rows and columns before the image, none behind it."""
    next(a for a in _node(graph, "conv2_1").attribute if a.name == "pads").ints[:] = [2, 2, 0, 0]


def edge_padding(graph: Graph) -> None:
    """The border repeats instead of being the mean."""
    next(a for a in _node(graph, "conv1_1").attribute if a.name == "pads").ints[:] = [0, 0, 0, 0]
    nodes, conv = graph.model.graph.node, _node(graph, "conv1_1")
    amounts = _constant(graph, "planted.pads", np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64))
    pad = helper.make_node("Pad", [conv.input[0], amounts], ["padded"], "planted_Pad", mode="edge")
    conv.input[0] = "padded"
    nodes.insert(list(nodes).index(conv), pad)


def pools_rounded_up(graph: Graph) -> None:
    """Sizes that are not a multiple of 32 get a row and a column of scores more."""
    for node in graph.model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "ceil_mode":
                attribute.i = 1


def mean_pool(graph: Graph) -> None:
    _node(graph, "pool4").op_type = "AveragePool"


def lrn_added(graph: Graph) -> None:
    _put_after(graph, "relu1_1", "LRN", alpha=5e-4, beta=0.75, bias=2.0, size=5)


def relu_dropped(graph: Graph) -> None:
    _node(graph, "relu3_1").op_type = "Identity"


def wrong_at(side: int) -> Callable[[Graph], None]:
    """Scores are halved where the shorter side is this one, as a kernel for one shape may do."""

    def plant(graph: Graph) -> None:
        nodes, fc8 = graph.model.graph.node, _node(graph, "fc8")
        fc8.output[0] = "score_map.right"
        shorter = _constant(graph, "planted.side", np.array([side], np.int64))
        half, one = (_constant(graph, f"planted.{v}", np.array(v, np.float32)) for v in (0.5, 1.0))
        bounds = [_constant(graph, f"planted.bound{i}", np.array([i], np.int64)) for i in (2, 4)]
        axes = _constant(graph, "planted.axes", np.array([0], np.int64))
        planted = [
            helper.make_node("Shape", ["image"], ["planted.shape"], "planted_Shape"),
            helper.make_node(
                "Slice", ["planted.shape", *bounds], ["planted.sides"], "planted_Slice"
            ),
            helper.make_node(
                "ReduceMin",
                ["planted.sides", axes],
                ["planted.shorter"],
                "planted_ReduceMin",
                keepdims=1,
            ),
            helper.make_node(
                "Equal", ["planted.shorter", shorter], ["planted.there"], "planted_Equal"
            ),
            helper.make_node(
                "Where", ["planted.there", half, one], ["planted.factor"], "planted_Where"
            ),
            helper.make_node(
                "Mul", ["score_map.right", "planted.factor"], ["score_map"], "planted_Mul"
            ),
        ]
        for node in reversed(planted):
            nodes.insert(list(nodes).index(fc8) + 1, node)

    return plant


def bicubic(spec: NetSpec) -> NetSpec:
    return replace(spec, preprocessing=replace(spec.preprocessing, filter="bicubic"))


def other_mean_described(spec: NetSpec) -> NetSpec:
    return replace(spec, preprocessing=replace(spec.preprocessing, mean=(123.68, 116.779, 103.939)))


def faults(side: int) -> list[Fault]:
    """All that can be planted into the graph of an A.

    Args:
        side: A Q at which one of them is wrong.
    """
    return [
        Fault("mean off by 0.1 grey levels", "pixels", mean_shifted(0.1)),
        Fault("mean off by 1 grey level", "pixels", mean_shifted(1)),
        Fault("mean off by 10 grey levels", "pixels", mean_shifted(10)),
        Fault("mean not subtracted", "pixels", no_mean),
        Fault("BGR instead of RGB", "pixels", bgr),
        Fault("pixels divided by 58 (standard deviation)", "pixels", pixels_times(1 / 58)),
        Fault("pixels divided by 255", "pixels", pixels_times(1 / 255)),
        Fault("bicubic instead of bilinear", "description", described=bicubic),
        Fault("another mean described", "description", described=other_mean_described),
        Fault("height and width swapped", "layout", transposed),
        Fault("every picture mirrored", "layout", mirrored),
        Fault("blind to mirroring", "layout", blind_to_mirroring),
        Fault("order of the batch reversed", "batch", batch_reversed),
        Fault("first picture of the batch for all", "batch", first_of_batch),
        Fault("two classes swapped in fc8", "classes", two_classes_swapped),
        Fault("all classes rolled in fc8", "classes", classes_rolled),
        Fault("labels rolled in the description", "classes", described=labels_rolled),
        Fault("fc8 bias + 0.5 in one class", "head", bias_of_one_class(0.5)),
        Fault("temperature x 3", "head", temperature(3)),
        Fault("temperature x 1.1", "head", temperature(1.1)),
        Fault("temperature x 1.01", "head", temperature(1.01)),
        Fault("softmax before the average", "head", softmax_first),
        Fault("sigmoid instead of softmax", "head", sigmoid),
        Fault("no softmax", "head", no_softmax),
        Fault("scores clipped at 5", "head", scores_clipped),
        Fault("dropout left on", "head", dropout_left_on),
        Fault("one convolution zeroed", "weights", zeroed("conv4_2")),
        Fault("two filters swapped", "weights", two_filters_swapped),
        Fault("conv4_2 without its bias", "weights", without_bias("conv4_2")),
        Fault(
            "conv2_1 without its bias, which is small",
            "weights",
            without_bias("conv2_1"),
            wanted="any",
        ),
        Fault("noise of 1 % on weights", "weights", noise(0.01)),
        Fault("noise of 0.1 % on weights", "weights", noise(0.001)),
        Fault("float16 weights called float32", "rounding", rounded_to_half),
        Fault("8-bit weights called float32", "rounding", eight_bits(1)),
        Fault("8-bit weights, one scale doubled", "rounding", eight_bits(2)),
        Fault("sign bit of one weight flipped", "damage", bit_flipped("conv3_1", 31)),
        Fault("exponent bit of one weight flipped", "damage", bit_flipped("conv3_1", 25)),
        Fault("top exponent bit of one weight flipped", "damage", bit_flipped("conv3_1", 30)),
        Fault("infinite bias", "damage", overflowing),
        Fault("padding shifted", "geometry", padding_shifted),
        Fault("border repeated instead of the mean", "geometry", edge_padding),
        Fault("pools rounded up", "geometry", pools_rounded_up),
        Fault("one mean pool for a maximum pool", "geometry", mean_pool),
        Fault("one ReLU missing", "layers", relu_dropped),
        Fault("LRN that the net does not have", "layers", lrn_added),
        Fault(f"wrong at Q = {side} only", "one size", wrong_at(side)),
    ]
