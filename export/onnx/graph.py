"""A net as an ONNX graph: one node a layer, named after it, sizes dynamic.

The graph is written layer by layer rather than traced: a VGG is a straight line of seven kinds of layer, so this gives
full control of names, types and memory. The tests hold it against torch.onnx.export's graph of the same net.
"""

from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper
from torch import nn

from export.quantize.rounding import LAST, Mapping, Quantization, quantize_weight, weight_scales
from export.settings.precision import FLOAT, Precision
from vgg_deploy.exported.metadata import KEPT, KEY, Artifact
from vgg_deploy.net.model import VGG
from vgg_deploy.net.spec import USUAL_MEAN, USUAL_STD

IR_VERSION = 10  # what ONNX Runtime and TensorRT of that opset's age read


class Graph(NamedTuple):
    """A model whose weights are not yet in it."""

    model: onnx.ModelProto
    weights: dict[str, np.ndarray]  # initialisers by name


class _Line:
    """Nodes in a row, each fed by the one before."""

    def __init__(self, value: str):
        self.value, self.dtype, self.nodes, self.weights = value, FLOAT, [], {}

    def add(self, op: str, name: str, output: str | None = None, **given) -> None:
        """Append `op`; arrays among `given` become inputs `<name>.<key>`, strings inputs, everything else attributes."""
        arrays = {
            f"{name}.{key}": value for key, value in given.items() if isinstance(value, np.ndarray)
        }
        inputs = [
            value if isinstance(value, str) else f"{name}.{key}"
            for key, value in given.items()
            if isinstance(value, str | np.ndarray)
        ]
        attributes = {
            key: value for key, value in given.items() if not isinstance(value, str | np.ndarray)
        }
        self.weights.update(arrays)
        output = output or f"{name}.out"
        self.nodes.append(helper.make_node(op, [self.value, *inputs], [output], name, **attributes))
        self.value = output

    def cast(self, dtype: np.dtype, name: str) -> None:
        """Go on in another type, if it is another."""
        if dtype != self.dtype:
            self.add("Cast", name, to=helper.np_dtype_to_tensor_dtype(dtype))
            self.dtype = dtype

    def dequantized(self, name: str, **arrays: np.ndarray) -> str:
        """A stored 8-bit array as a value of its own, beside the row."""
        self.weights.update({f"{name}.{key}": value for key, value in arrays.items()})
        axis = {"axis": 0} if arrays["scale"].ndim else {}
        self.nodes.append(
            helper.make_node(
                "DequantizeLinear",
                [f"{name}.{key}" for key in arrays],
                [f"{name}.out"],
                name,
                **axis,
            )
        )
        return f"{name}.out"


def onnx_graph(
    net: VGG, artifact: Artifact, precision: Precision, quantization: Quantization | None = None
) -> Graph:
    """Input `image` (N, 3, H, W); outputs `posterior` (N, classes) and `score_map` (N, classes, h, w), float32.

    Args: quantization, for a precision that has one.
    """
    line = _Line("image")
    _input(line, artifact)
    layers = [
        (name, module)
        for name, module in net.named_children()
        if not isinstance(module, nn.Dropout)
    ]
    mappings = quantization.mappings(precision) if quantization else {}
    for i, (name, module) in enumerate(layers):
        following = next((n for n, m in layers[i:] if isinstance(m, nn.Conv2d)), None)
        if isinstance(module, nn.MaxPool2d) and precision.fused and following in mappings:
            _quantize(line, following, mappings[following])
        match module:
            case nn.Conv2d() if name in mappings and name != LAST:
                _quantized_conv(
                    line, name, module, precision, mappings[name], quantization.per_channel
                )
            case nn.Conv2d():
                if name in mappings:
                    _rounded(line, name, precision, mappings[name])
                _conv(
                    line,
                    name,
                    module,
                    FLOAT if name == LAST else precision.trunk,
                    "score_map" if name == LAST else None,
                )
            case nn.ReLU():
                line.add("Relu", name)
            case nn.MaxPool2d():
                line.add(
                    "MaxPool",
                    name,
                    kernel_shape=[module.kernel_size] * 2,
                    strides=[module.stride] * 2,
                    ceil_mode=0,
                )
            case nn.LocalResponseNorm():  # ONNX divides alpha by the size, as torch does; squares overflow half precision
                line.cast(FLOAT, f"{name}.to_float")
                line.add(
                    "LRN",
                    name,
                    alpha=module.alpha,
                    beta=module.beta,
                    bias=module.k,
                    size=module.size,
                )
            case _:
                raise TypeError(
                    f"layer {name} is a {type(module).__name__}, which no VGG of Table 1 has"
                )
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
            helper.make_tensor_value_info(
                "score_map", TensorProto.FLOAT, ["batch", classes, "map_height", "map_width"]
            ),
        ],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", precision.opset)],
        ir_version=IR_VERSION,
        producer_name="vgg-deploy",
    )
    quantized = {name for name in mappings if name != LAST}
    kept = (
        [name for name, module in layers if isinstance(module, nn.Conv2d) and name not in quantized]
        if quantization
        else [LAST]
    )
    helper.set_model_props(model, {KEY: artifact.to_json(), KEPT: ",".join(kept)})
    return Graph(model, line.weights)


def _input(line: _Line, artifact: Artifact) -> None:
    """From what the caller feeds to RGB 0-255 minus the mean; zero padding then means the mean, as in training."""
    mean = np.array(artifact.spec.preprocessing.mean, np.float32).reshape(1, 3, 1, 1)
    if artifact.input == "uint8":
        line.add("Cast", "to_float", to=TensorProto.FLOAT)
    if artifact.input == "normalised":
        usual_mean, usual_std = (np.array(v).reshape(1, 3, 1, 1) for v in (USUAL_MEAN, USUAL_STD))
        line.add("Mul", "denormalise", std=(255 * usual_std).astype(np.float32))
        line.add(
            "Add",
            "move_mean",
            offset=(255 * usual_mean - mean.astype(np.float64)).astype(np.float32),
        )
    else:
        line.add("Sub", "subtract_mean", mean=mean)


def _conv(line: _Line, name: str, module: nn.Conv2d, dtype: np.dtype, output: str | None) -> None:
    line.cast(dtype, f"{name}.to_{dtype.name}")
    weight, bias = (_array(p).astype(dtype, copy=False) for p in (module.weight, module.bias))
    line.add("Conv", name, output, weight=weight, bias=bias, **_geometry(module))


def _quantized_conv(
    line: _Line,
    name: str,
    module: nn.Conv2d,
    precision: Precision,
    mapping: Mapping,
    per_channel: bool,
) -> None:
    """Q and DQ at the input, DQ at the stored weight, a bias in the trunk's type: what TensorRT takes as an 8-bit convolution."""
    _rounded(line, name, precision, mapping)
    weight = _array(module.weight)
    scales = weight_scales(weight, precision, per_channel)
    held = quantize_weight(weight, scales, precision)
    dequantized = line.dequantized(
        f"{name}.weight",
        quantized=held,
        scale=scales,
        zero_point=np.zeros(scales.shape, held.dtype),
    )
    line.add(
        "Conv",
        name,
        weight=dequantized,
        bias=_array(module.bias).astype(precision.trunk, copy=False),
        **_geometry(module),
    )


def _rounded(line: _Line, conv: str, precision: Precision, mapping: Mapping) -> None:
    """Q and DQ of a convolution's input."""
    if line.dtype != mapping.format.dtype:  # else its Q stands ahead of the pool
        line.cast(precision.trunk, f"{conv}.to_{precision.trunk.name}")
        _quantize(line, conv, mapping)
    scale, zero_point = _parameters(mapping, precision.trunk)
    line.add("DequantizeLinear", f"{conv}.dequantize", scale=scale, zero_point=zero_point)
    line.dtype = precision.trunk


def _quantize(line: _Line, conv: str, mapping: Mapping) -> None:
    """The Q of a convolution's input."""
    scale, zero_point = _parameters(mapping, line.dtype)
    line.add("QuantizeLinear", f"{conv}.quantize", scale=scale, zero_point=zero_point)
    line.dtype = mapping.format.dtype


def _parameters(mapping: Mapping, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    """Scale and zero point of rank 0: TensorRT takes a scale of shape (1,) without a word and computes in floats."""
    return np.array(mapping.scale, dtype), np.array(mapping.zero_point, mapping.format.dtype)


def _array(parameter: nn.Parameter) -> np.ndarray:
    return parameter.detach().cpu().contiguous().numpy()


def _geometry(module: nn.Conv2d) -> dict:
    return {
        "kernel_shape": module.kernel_size,
        "pads": [*module.padding, *module.padding],
        "strides": module.stride,
    }
