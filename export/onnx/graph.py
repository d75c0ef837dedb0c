"""Writes a net as an ONNX graph: one node per layer, named after it, with dynamic sizes.

The graph is written layer by layer rather than traced. A VGG is a straight line of seven kinds of
layer, so this gives full control of names, types and memory. The tests compare it with
torch.onnx.export's graph of the same net.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper
from torch import Tensor, nn

from export.onnx.chain import Attribute, Input, NodeChain
from export.onnx.describe import describe
from export.onnx.rescale import rescale_nodes
from export.quantize.convolve import bias_of, layers_for, padding_of, whole_name
from export.quantize.four_bits import BlockWeight
from export.quantize.rounding import LAST, Quantization, quantize_weight, weight_scales
from export.quantize.rounding import Mapping as Rounding
from export.settings.precision import FLOAT, Precision
from vgg_deploy.exported.interface import PIXELS, WHOLE
from vgg_deploy.exported.metadata import Artifact
from vgg_deploy.net.model import VGG
from vgg_deploy.net.outputs import layer_of, map_name, output_shape
from vgg_deploy.net.spec import USUAL_MEAN, USUAL_STD, NetSpec

# By opset: the version of the file format that came with it, so that runtimes of its age read it
IR_VERSIONS = {17: 8, 18: 8, 19: 9, 20: 9, 21: 10, 22: 10, 23: 11}
AXES_ARE_INPUTS = 18  # of the mean, from this opset on


class Graph(NamedTuple):
    """A model whose weights are not yet in it.

    Attributes:
        model: Without initialisers.
        weights: Initialisers by name.
        types: Of those that are converted when they are written, by name. Converted at once, those
            of a full-width net would be in memory twice.
    """

    model: onnx.ModelProto
    weights: dict[str, np.ndarray]
    types: Mapping[str, np.dtype] = MappingProxyType({})

    def type_of(self, name: str) -> np.dtype:
        """Type that an initialiser is stored in."""
        return self.types.get(name, self.weights[name].dtype)


def onnx_graph(
    net: VGG, artifact: Artifact, precision: Precision, quantization: Quantization | None = None
) -> Graph:
    """Write a net in a precision, no further than the last output needs.

    A feature is what its layer gives before it is rounded for the next layer, as float32.

    Args:
        net: In evaluation mode.
        artifact: Description of the file, with the form of its input and its outputs.
        precision: What the graph computes in.
        quantization: For a precision that has one.

    Returns:
        The graph. Input `image` (N, 3, H, W), of whole images (N, H, W, 3); outputs as
        `artifact.outputs` names them, float32: `posterior` (N, classes), or `logits` in its place,
        `score_map` (N, classes, h, w), `boxes` (N, numbers, h, w), layers (N, C, h, w).
    """
    writer = _NetWriter(precision, quantization, artifact)
    writer.write_input()
    layers = layers_for(net, artifact.outputs)
    writer.write_layers(layers)
    if artifact.has_scores:
        writer.write_posterior()
    model = helper.make_model(
        _with_interface(writer.chain, artifact, net),
        opset_imports=[helper.make_opsetid("", precision.opset)],
        ir_version=IR_VERSIONS[precision.opset],
    )
    describe(model, artifact, writer.kept_convolutions(layers))
    return Graph(model, writer.chain.weights, writer.chain.types)


class _NetWriter:
    """Appends the layers of a net to a chain of nodes."""

    def __init__(self, precision: Precision, quantization: Quantization | None, artifact: Artifact):
        self.chain = NodeChain("image", FLOAT)
        self.precision, self.artifact = precision, artifact
        self.is_quantized = quantization is not None
        self.mappings = quantization.mappings(precision) if quantization else {}
        self.blocks = quantization.blocks if quantization else {}
        self.per_channel = quantization is None or quantization.per_channel

    def write_input(self) -> None:
        """From what the caller feeds to RGB 0-255 minus the mean.

        Zero padding then means the mean, as in training.
        """
        artifact = self.artifact
        mean = _per_channel(artifact.spec.preprocessing.mean).astype(np.float32)
        if artifact.input == WHOLE:
            self.rescale()
        if artifact.input in ("uint8", WHOLE):
            self.chain.add("Cast", "to_float", attributes={"to": TensorProto.FLOAT})
        if artifact.input != "normalised":
            self.chain.add("Sub", "subtract_mean", {"mean": mean})
            return
        scale = (255 * _per_channel(USUAL_STD)).astype(np.float32)
        offset = (255 * _per_channel(USUAL_MEAN) - mean.astype(np.float64)).astype(np.float32)
        self.chain.add("Mul", "denormalise", {"std": scale})
        self.chain.add("Add", "move_mean", {"offset": offset})

    def rescale(self) -> None:
        """From whole images to what the convolutions see."""
        spec, interface = self.artifact.spec, self.artifact.interface
        assert interface.side is not None  # the form says so
        crop = spec.crop if interface.view == "centre" else None
        nodes = rescale_nodes("image", interface.side, spec.preprocessing.filter, crop)
        self.chain.nodes += nodes.nodes
        self.chain.weights |= nodes.weights
        self.chain.value = PIXELS

    def write_layers(self, layers: list[tuple[str, nn.Module]]) -> None:
        """Layers from conv1_1 on."""
        for i, (name, layer) in enumerate(layers):
            is_feature = whole_name(name) in self.artifact.layers
            if isinstance(layer, nn.MaxPool2d) and self.precision.fused and not is_feature:
                self._quantize_ahead_of_pool(layers[i:])
            self._write_layer(name, layer)
            if is_feature:
                self.chain.show(whole_name(name))

    def write_posterior(self) -> None:
        """Softmax of the spatial mean of the scores (section 3.2 of the paper)."""
        interface = self.artifact.interface
        mean = interface.graph_name("posterior") if interface.logits else None
        if self.precision.opset < AXES_ARE_INPUTS:
            attributes: dict[str, Attribute] = {"axes": [2, 3], "keepdims": 0}
            self.chain.add("ReduceMean", "mean_score", None, attributes, mean)
        else:
            axes = np.array([2, 3], np.int64)
            self.chain.add("ReduceMean", "mean_score", {"axes": axes}, {"keepdims": 0}, mean)
        if not interface.logits:
            self.chain.add("Softmax", "softmax", attributes={"axis": 1}, output="posterior")

    def kept_convolutions(self, layers: list[tuple[str, nn.Module]]) -> list[str]:
        """Convolutions in another type than the precision's."""
        convolutions = [name for name, layer in layers if isinstance(layer, nn.Conv2d)]
        if not self.is_quantized:
            return [name for name in convolutions if name == LAST]
        quantized = {*self.mappings, *self.blocks}
        return [name for name in convolutions if name == LAST or name not in quantized]

    def _write_layer(self, name: str, layer: nn.Module) -> None:
        match layer:
            case nn.Conv2d():
                self._write_convolution(name, layer)
            case nn.ReLU():
                self.chain.add("Relu", name)
            case nn.MaxPool2d():
                self._write_pool(name, layer)
            case nn.LocalResponseNorm():
                self._write_lrn(name, layer)
            case _:
                kind = type(layer).__name__
                raise TypeError(f"layer {name} is a {kind}, which no VGG of Table 1 has")

    def _write_pool(self, name: str, layer: nn.MaxPool2d) -> None:
        side, stride = layer.kernel_size, layer.stride
        assert isinstance(side, int) and isinstance(stride, int)  # a VGG's windows are square
        self.chain.add(
            "MaxPool",
            name,
            attributes={
                "kernel_shape": [side, side],
                "strides": [stride, stride],
                "ceil_mode": 0,
            },
        )

    def _write_lrn(self, name: str, layer: nn.LocalResponseNorm) -> None:
        """In float32, because squares overflow half precision.

        ONNX divides alpha by the size of the window, as torch does.
        """
        self.chain.cast(FLOAT, f"{name}.to_float")
        self.chain.add(
            "LRN",
            name,
            attributes={
                "alpha": layer.alpha,
                "beta": layer.beta,
                "bias": layer.k,
                "size": layer.size,
            },
        )

    def _write_convolution(self, name: str, layer: nn.Conv2d) -> None:
        mapping = self.mappings.get(name)
        if name == LAST:
            if mapping:
                self._round_input(name, mapping)
            output = map_name(self.artifact.spec) if self.artifact.is_whole else None
            self._write_float_convolution(name, layer, FLOAT, output)
        elif name in self.blocks:
            self._write_block_product(name, layer, self.blocks[name])
        elif mapping:
            self._write_quantized_convolution(name, layer, mapping)
        else:
            self._write_float_convolution(name, layer, self.precision.trunk)

    def _write_float_convolution(
        self, name: str, layer: nn.Conv2d, dtype: np.dtype, output: str | None = None
    ) -> None:
        self.chain.cast(dtype, f"{name}.to_{dtype.name}")
        weight = _array(layer.weight)
        bias = _array(bias_of(layer)).astype(dtype, copy=False)
        self.chain.add("Conv", name, {"weight": weight, "bias": bias}, _geometry(layer), output)
        self.chain.types[f"{name}.weight"] = dtype

    def _write_quantized_convolution(self, name: str, layer: nn.Conv2d, mapping: Rounding) -> None:
        """What TensorRT takes as an 8-bit convolution.

        QuantizeLinear and DequantizeLinear at the input, DequantizeLinear at the stored weight,
        and a bias in the trunk's type.
        """
        self._round_input(name, mapping)
        weight = _array(layer.weight)
        scales = weight_scales(weight, self.precision, self.per_channel)
        stored = quantize_weight(weight, scales, self.precision)
        zero_point = np.zeros(scales.shape, stored.dtype)
        dequantized = self.chain.add_dequantized(f"{name}.weight", stored, scales, zero_point)
        bias = _array(bias_of(layer)).astype(self.precision.trunk, copy=False)
        self.chain.add("Conv", name, {"weight": dequantized, "bias": bias}, _geometry(layer))

    def _write_block_product(self, name: str, layer: nn.Conv2d, stored: BlockWeight) -> None:
        """A convolution without padding as a product of its windows and 4-bit weights.

        Runtimes take 4-bit weights in matrix products only. The windows are a row for each position
        of the map: first the rows of pixels that a window spans stand side by side, then its
        columns. In float32 the rows take less than half of the memory of the net's first map.
        """
        trunk, mapping = self.precision.trunk, self.mappings.get(name)
        height, width = layer.kernel_size
        if mapping:
            if self.chain.dtype != mapping.format.dtype:
                self.chain.cast(trunk, f"{name}.to_{trunk.name}")
                self._quantize(name, mapping)
        else:
            self.chain.cast(trunk, f"{name}.to_{trunk.name}")
        self.chain.add("Transpose", f"{name}.channels_last", attributes={"perm": [0, 2, 3, 1]})
        if height > 1:
            self.chain.join_shifted(f"{name}.rows", 1, height)
        if (
            mapping
        ):  # ahead of the second step: ONNX Runtime fuses a product of one DequantizeLinear
            self.chain.add("DequantizeLinear", f"{name}.dequantize", _parameters(mapping, trunk))
            self.chain.dtype = trunk
        if width > 1:
            self.chain.join_shifted(f"{name}.columns", 2, width)
        weight = self.chain.add_dequantized_blocks(
            f"{name}.weight", stored.levels, stored.scales_as(trunk), stored.block
        )
        self.chain.add("MatMul", f"{name}.product", {"weight": weight})
        bias = _array(bias_of(layer)).astype(trunk, copy=False)
        self.chain.add("Add", f"{name}.add", {"bias": bias})
        self.chain.add("Transpose", name, attributes={"perm": [0, 3, 1, 2]})

    def _quantize_ahead_of_pool(self, following: list[tuple[str, nn.Module]]) -> None:
        """Quantize the input of the next convolution here, if it is quantized."""
        conv = next((name for name, layer in following if isinstance(layer, nn.Conv2d)), None)
        if conv in self.mappings:
            self._quantize(conv, self.mappings[conv])

    def _round_input(self, conv: str, mapping: Rounding) -> None:
        """QuantizeLinear, unless it stands ahead of the pool, and DequantizeLinear."""
        trunk = self.precision.trunk
        if self.chain.dtype != mapping.format.dtype:
            self.chain.cast(trunk, f"{conv}.to_{trunk.name}")
            self._quantize(conv, mapping)
        self.chain.add("DequantizeLinear", f"{conv}.dequantize", _parameters(mapping, trunk))
        self.chain.dtype = trunk

    def _quantize(self, conv: str, mapping: Rounding) -> None:
        parameters = _parameters(mapping, self.chain.dtype)
        self.chain.add("QuantizeLinear", f"{conv}.quantize", parameters)
        self.chain.dtype = mapping.format.dtype


def _with_interface(chain: NodeChain, artifact: Artifact, net: VGG) -> onnx.GraphProto:
    """The nodes with their input and outputs."""
    pixels = TensorProto.UINT8 if artifact.input in ("uint8", WHOLE) else TensorProto.FLOAT
    interface = artifact.interface
    image: list[str | int | None] = ["batch", 3, "height", "width"]
    if artifact.input == WHOLE:
        image = ["batch", "height", "width", 3]
    return helper.make_graph(
        chain.nodes,
        f"vgg-{net.spec.arch}",
        [helper.make_tensor_value_info("image", pixels, interface.input_shape() or image)],
        [
            helper.make_tensor_value_info(
                interface.graph_name(name), TensorProto.FLOAT, _shape(name, artifact)
            )
            for name in artifact.outputs
        ],
    )


def _shape(output: str, artifact: Artifact) -> list[str | int | None]:
    """Shape of an output, in numbers where the input has one shape or the map one position."""
    spec, interface = artifact.spec, artifact.interface
    if interface.shape is not None:
        count, height, width = interface.shape
        return [*output_shape(spec, output, interface.seen((count, 3, height, width), spec.crop))]
    symbolic = _symbolic_shape(output, spec)
    if interface.side and interface.view == "centre" and len(symbolic) == 4:
        return [*symbolic[:2], *output_shape(spec, output, (1, 3, spec.crop, spec.crop))[2:]]
    return symbolic


def _symbolic_shape(output: str, spec: NetSpec) -> list[str | int | None]:
    """Shape of an output. Sides that are equal for every image have one name."""
    if output == "posterior":
        return ["batch", len(spec.classes)]
    layer = layer_of(spec, output)
    if layer.is_head:
        return ["batch", layer.channels, "map_height", "map_width"]
    if layer.pools == 0:
        return ["batch", layer.channels, "height", "width"]
    scale = 2**layer.pools
    return ["batch", layer.channels, f"height_{scale}", f"width_{scale}"]


def _per_channel(values: tuple[float, float, float]) -> np.ndarray:
    """(1, 3, 1, 1) float64."""
    return np.array(values).reshape(1, 3, 1, 1)


def _parameters(mapping: Rounding, dtype: np.dtype) -> dict[str, Input]:
    """Scale and zero point of rank 0.

    TensorRT accepts a scale of shape (1,) silently and then computes in floats.
    """
    return {
        "scale": np.array(mapping.scale, dtype),
        "zero_point": np.array(mapping.zero_point, mapping.format.dtype),
    }


def _array(parameter: Tensor) -> np.ndarray:
    array: np.ndarray = parameter.detach().cpu().contiguous().numpy()
    return array


def _geometry(layer: nn.Conv2d) -> dict[str, Attribute]:
    vertical, horizontal = padding_of(layer)
    return {
        "kernel_shape": list(layer.kernel_size),
        "pads": [vertical, horizontal, vertical, horizontal],
        "strides": list(layer.stride),
    }
