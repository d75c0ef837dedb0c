"""Writes a distance of two images as an ONNX graph.

Both batches are joined, run through the convolutions together, and compared layer by layer. So the
weights are there once. Everything behind the convolutions is float32 in every precision; the names
of its nodes begin with `distance.`.
"""

import numpy as np
import onnx
from onnx import TensorProto, helper

from export.distance.heads import Heads
from export.onnx.describe import PRODUCER
from export.onnx.graph import IR_VERSIONS, Graph, onnx_graph
from export.onnx.nodes import Nodes
from export.quantize.rounding import Quantization
from export.settings.precision import Precision
from vgg_deploy.exported.distance_metadata import (
    DISTANCE_KEY,
    INPUTS,
    KINDS,
    OUTPUT,
    DistanceArtifact,
)
from vgg_deploy.exported.metadata import INPUT_FORMS, KEPT, Artifact
from vgg_deploy.net.model import VGG

EPSILON = 1e-10  # that lpips adds to the norm of a feature
JOINED = "image"  # the input of the convolutions, (2N, 3, H, W)
END = np.array([np.iinfo(np.int64).max], np.int64)


def convolutions_of(artifact: DistanceArtifact) -> Artifact:
    """Describe the convolutions of a distance file as a file of features.

    Bytes are cast before both batches are joined, so its input is never uint8.
    """
    return Artifact(
        spec=artifact.spec,
        input="float32" if artifact.input == "uint8" else artifact.input,
        precision=artifact.precision,
        source=artifact.source,
        source_sha256=artifact.source_sha256,
        outputs=artifact.layers,
    )


def distance_graph(
    net: VGG,
    artifact: DistanceArtifact,
    precision: Precision,
    quantization: Quantization | None,
    heads: Heads | None,
) -> Graph:
    """Write a distance in a precision.

    Args:
        net: The convolutions, in evaluation mode.
        artifact: Description of the file.
        precision: What the convolutions compute in.
        quantization: For a precision that has one.
        heads: Of lpips.

    Returns:
        The graph. Inputs `image0` and `image1` (N, 3, H, W); output `distance` (N,) float32.
    """
    trunk = onnx_graph(net, convolutions_of(artifact), precision, quantization)
    joined, compared = Nodes(), Nodes()
    _join(joined, artifact.input)
    parts = []
    for index, term in enumerate(artifact.terms):
        match artifact.kind:
            case "lpips":
                assert heads is not None  # lpips is never written without them
                part = _lpips(compared, term.layer, heads.weights[index])
            case "perceptual":
                part = _perceptual(compared, term.layer)
            case "gram":
                part = _gram(compared, term.layer)
            case _:
                raise ValueError(f"distance {artifact.kind} is unknown")
        if term.weight != 1:
            weight = compared.stored(f"distance.{term.layer}.weight", np.float32(term.weight))
            part = compared.add("Mul", f"distance.{term.layer}.weighted", [part, weight])
        parts.append(part)
    _sum(compared, parts)
    pixels = TensorProto.UINT8 if artifact.input == "uint8" else TensorProto.FLOAT
    images: list[str | int | None] = ["batch", 3, "height", "width"]
    graph = helper.make_graph(
        [*joined.nodes, *trunk.model.graph.node, *compared.nodes],
        f"vgg-{net.spec.arch}-{artifact.kind}",
        [helper.make_tensor_value_info(name, pixels, images) for name in INPUTS],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch"])],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", precision.opset)],
        ir_version=IR_VERSIONS[precision.opset],
        **PRODUCER,
    )
    model.doc_string = _in_words(artifact)
    properties = {prop.key: prop.value for prop in trunk.model.metadata_props}
    helper.set_model_props(model, {DISTANCE_KEY: artifact.to_json(), KEPT: properties[KEPT]})
    return Graph(model, {**joined.weights, **trunk.weights, **compared.weights}, trunk.types)


def _in_words(artifact: DistanceArtifact) -> str:
    """What goes in and what comes out."""
    first, second = INPUTS
    return (
        f"Distance of two images ({KINDS[artifact.kind]}) by VGG net {artifact.spec.arch}. "
        f"Inputs {first} and {second}: (N, 3, H, W) RGB, {INPUT_FORMS[artifact.input]}. "
        f"Output {OUTPUT}: (N,) float32, smaller is more similar."
    )


def only_convolutions(model: onnx.ModelProto, artifact: DistanceArtifact) -> onnx.ModelProto:
    """The convolutions of a distance file as a file of features, for checks.

    Args:
        model: Of a whole file; it is not changed. Its weights may lie elsewhere.
        artifact: Its description.

    Returns:
        Input `image` (N, 3, H, W) float32; outputs are the layers, (N, C, h, w) float32.
    """
    own = {f"{name}.to_float" for name in INPUTS} | {"join"}
    layers = artifact.layers
    last = f"{layers[-1]}.feature"
    kept: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if node.name not in own:
            kept.append(node)
        if node.name == last:
            break
    read = {name for node in kept for name in node.input}
    image: list[str | int | None] = ["batch", 3, "height", "width"]
    found = onnx.ModelProto()
    found.CopyFrom(model)
    found.graph.CopyFrom(
        helper.make_graph(
            kept,
            model.graph.name,
            [helper.make_tensor_value_info(JOINED, TensorProto.FLOAT, image)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in layers],
            [tensor for tensor in model.graph.initializer if tensor.name in read],
        )
    )
    return found


def _join(nodes: Nodes, form: str) -> None:
    """Join both batches, and count the first."""
    images = list(INPUTS)
    if form == "uint8":  # TensorRT takes bytes as inputs and nowhere else
        to = {"to": int(TensorProto.FLOAT)}
        images = [nodes.add("Cast", f"{name}.to_float", [name], to) for name in images]
    nodes.add("Concat", "join", images, {"axis": 0}, JOINED)


def _split(nodes: Nodes, layer: str, value: str) -> tuple[str, str]:
    """Both halves of a joined batch, by the size of the first.

    So batches of different sizes are never mixed up.
    """
    if not any(node.name == "distance.count" for node in nodes.nodes):
        nodes.add("Shape", "distance.count", [INPUTS[0]], {"start": 0, "end": 1})
        nodes.stored("distance.count.zero", np.zeros(1, np.int64))
        nodes.stored("distance.count.end", END)
        nodes.stored("distance.count.axis", np.zeros(1, np.int64))
    first = nodes.add(
        "Slice",
        f"distance.{layer}.first",
        [value, "distance.count.zero", "distance.count.out", "distance.count.axis"],
    )
    second = nodes.add(
        "Slice",
        f"distance.{layer}.second",
        [value, "distance.count.out", "distance.count.end", "distance.count.axis"],
    )
    return first, second


def _difference(nodes: Nodes, layer: str, value: str) -> str:
    first, second = _split(nodes, layer, value)
    return nodes.add("Sub", f"distance.{layer}.difference", [first, second])


def _reduced(nodes: Nodes, op: str, name: str, value: str, axes: list[int], keep: int = 0) -> str:
    stored = nodes.stored(f"{name}.axes", np.array(axes, np.int64))
    return nodes.add(op, name, [value, stored], {"keepdims": keep})


def _lpips(nodes: Nodes, layer: str, head: np.ndarray) -> str:
    """Spatial mean of the head's sum of squared differences of features of unit length."""
    norm = _reduced(nodes, "ReduceL2", f"distance.{layer}.norm", layer, [1], keep=1)
    epsilon = nodes.stored(f"distance.{layer}.epsilon", np.float32(EPSILON))
    above_zero = nodes.add("Add", f"distance.{layer}.above_zero", [norm, epsilon])
    unit = nodes.add("Div", f"distance.{layer}.unit", [layer, above_zero])
    difference = _difference(nodes, layer, unit)
    square = nodes.add("Mul", f"distance.{layer}.square", [difference, difference])
    weights = nodes.stored(f"distance.{layer}.head", head.reshape(1, -1, 1, 1))
    weighted = nodes.add("Mul", f"distance.{layer}.by_head", [square, weights])
    summed = _reduced(nodes, "ReduceSum", f"distance.{layer}.sum", weighted, [1])
    return _reduced(nodes, "ReduceMean", f"distance.{layer}.mean", summed, [1, 2])


def _perceptual(nodes: Nodes, layer: str) -> str:
    """Mean of the squared differences of features."""
    difference = _difference(nodes, layer, layer)
    square = nodes.add("Mul", f"distance.{layer}.square", [difference, difference])
    return _reduced(nodes, "ReduceMean", f"distance.{layer}.mean", square, [1, 2, 3])


def _gram(nodes: Nodes, layer: str) -> str:
    """Sum of the squared differences of Gram matrices."""
    rows = nodes.stored(f"distance.{layer}.rows", np.array([0, 0, -1], np.int64))
    flat = nodes.add("Reshape", f"distance.{layer}.flat", [layer, rows])
    turned = nodes.add("Transpose", f"distance.{layer}.turned", [flat], {"perm": [0, 2, 1]})
    products = nodes.add("MatMul", f"distance.{layer}.products", [flat, turned])
    shape = nodes.add("Shape", f"distance.{layer}.shape", [layer], {"start": 1})
    count = _reduced(nodes, "ReduceProd", f"distance.{layer}.count", shape, [0])
    divisor = nodes.add(
        "Cast", f"distance.{layer}.count.to_float", [count], {"to": int(TensorProto.FLOAT)}
    )
    matrix = nodes.add("Div", f"distance.{layer}.gram", [products, divisor])
    difference = _difference(nodes, layer, matrix)
    return _reduced(nodes, "ReduceSumSquare", f"distance.{layer}.sum", difference, [1, 2])


def _sum(nodes: Nodes, parts: list[str]) -> None:
    """The sum of all parts, as the output."""
    total = parts[0]
    for index, part in enumerate(parts[1:], 1):
        output = OUTPUT if index == len(parts) - 1 else f"distance.sum_{index}.out"
        total = nodes.add("Add", f"distance.sum_{index}", [total, part], output=output)
    if len(parts) == 1:
        nodes.add("Identity", "distance.sum", [total], output=OUTPUT)
