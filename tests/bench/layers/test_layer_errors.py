"""Errors of layers: decibels, each precision against arithmetic that is written down here."""

import math

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from torch.nn import functional as F

from bench.layers.measure import Size, measure_layers
from bench.layers.parts import part_name
from bench.layers.reference import float_net
from bench.layers.sqnr import decibels, part_errors
from bench.layers.watchers import layer_values
from tests.support.layer_oracle import plain_forward
from vgg_deploy.net.open_net import open_net


def errors_of(models, model, images):
    found = part_errors(layer_values(model.runtime), float_net(models, model), images)
    return {part_name(error.part): error for error in found}


def test_decibels():
    assert decibels(1000, 1) == pytest.approx(30) and decibels(1, 0) == math.inf
    assert decibels(4, 1) - decibels(1, 1) == pytest.approx(6.0206, abs=1e-4)
    assert decibels(0, 1) == -math.inf


def test_the_float32_net_shows_the_values_of_all_its_layers(opened, squares_of_photos, layer_files):
    """Oracle: Table 1 in float64, written as functions."""
    net, image = open_net(layer_files["A.pt"]), squares_of_photos[0]
    exact = plain_forward(net, image)
    for name in ("A.pt", "A.fp32.onnx", "A.fp32.ncnn.param"):
        (model,) = opened(name)
        values = layer_values(model.runtime)
        for part, found in zip(values.parts, values.all_values(image), strict=True):
            largest = np.abs(exact[part[-1]]).max()
            np.testing.assert_allclose(found, exact[part[-1]], atol=2e-5 * largest)
            taken = net.get_submodule(part[0])
            before = list(exact)[list(exact).index(part[0]) - 1] if part[0] != "conv1_1" else None
            if before and isinstance(taken, torch.nn.Conv2d):
                alone = values.alone(part, exact[before].astype(np.float32))
                np.testing.assert_allclose(alone, exact[part[-1]], atol=2e-5 * largest)
        assert values.note == ""


def test_half_precision_adds_the_errors_of_its_roundings(opened, squares_of_photos, layer_files):
    """Oracle: a convolution of rounded values in float64, rounded at the end."""
    models = opened("A.pt", precisions=("fp32", "bf16"))
    found = errors_of(models, models[1], squares_of_photos)
    net = open_net(layer_files["A.pt"])
    noise = 0.0
    conv = net.convolution("conv3_1")
    for image in squares_of_photos:
        exact = plain_forward(net, image)
        taken = torch.from_numpy(exact["pool2"]).bfloat16().double()
        weight, bias = conv.weight.bfloat16().double(), conv.bias.bfloat16().double()
        rounded = F.conv2d(taken, weight, bias, padding=1).bfloat16().double().numpy()
        noise += float(np.sum((rounded - exact["conv3_1"]) ** 2))
    rms = math.sqrt(noise / sum(exact["conv3_1"].size for _ in squares_of_photos))
    assert found["conv3_1"].added_rms == pytest.approx(rms, rel=0.02)


@pytest.mark.parametrize("name", ["A.int8.onnx", "A.int8-cpu.onnx"])
def test_8_bits_add_the_errors_of_their_roundings(opened, squares_of_photos, layer_files, name):
    """Oracle: the file's own scales and integers, in NumPy and float64."""
    models = opened("A.pt", name)
    found = errors_of(models, models[1], squares_of_photos)["conv4_1 + relu4_1"]
    stored = {
        tensor.name: numpy_helper.to_array(tensor).astype(np.float64)
        for tensor in onnx.load(layer_files[name]).graph.initializer
    }
    scale, zero = (stored[f"conv4_1.dequantize.{key}"] for key in ("scale", "zero_point"))
    low, high = (0, 255) if name == "A.int8-cpu.onnx" else (-128, 127)
    weight = stored["conv4_1.weight.quantized"] * stored["conv4_1.weight.scale"].reshape(
        -1, 1, 1, 1
    )
    net = open_net(layer_files["A.pt"])
    noise = count = 0.0
    for image in squares_of_photos:
        exact = plain_forward(net, image)
        levels = np.clip(np.rint(exact["pool3"] / scale) + zero, low, high)
        taken = torch.from_numpy((levels - zero) * scale)
        bias = torch.from_numpy(stored["conv4_1.bias"])
        given = F.conv2d(taken, torch.from_numpy(weight), bias, padding=1).relu().numpy()
        noise += np.sum((given - exact["relu4_1"]) ** 2)
        count += given.size
    assert found.added_rms == pytest.approx(math.sqrt(noise / count), rel=0.02)


def test_errors_add_up_as_in_onnx_own_evaluator(opened, squares_of_photos, layer_files):
    """Oracle: onnx's reference evaluator, which fuses nothing, on the quantized values."""
    models = opened("A.pt", "A.int8-cpu.onnx")
    found = errors_of(models, models[1], squares_of_photos[:1])
    model = onnx.load(layer_files["A.int8-cpu.onnx"])
    quantizers = {node.name: node for node in model.graph.node if node.op_type == "QuantizeLinear"}
    node = quantizers["conv3_1.quantize"]  # behind relu2_1, ahead of pool2
    model.graph.output.append(
        onnx.helper.make_tensor_value_info(node.output[0], onnx.TensorProto.UINT8, None)
    )
    feeds = {"image": squares_of_photos[0]}
    (levels,) = ReferenceEvaluator(model).run([node.output[0]], feeds)
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    scale, zero = (stored[name].astype(np.float64) for name in node.input[1:])
    exact = plain_forward(open_net(layer_files["A.pt"]), squares_of_photos[0])["relu2_1"]
    difference = (levels.astype(np.float64) - zero) * scale - exact
    expected = decibels(np.sum(exact**2), np.sum(difference**2))
    assert found["conv2_1 + relu2_1"].total_db == pytest.approx(expected, abs=0.1)
    assert found["fc8"].total_db < found["conv1_1 + relu1_1"].total_db
    assert found["pool2"].added_db == math.inf  # a maximum rounds nothing


def test_without_a_float32_net_errors_are_missing_and_the_reason_is_said(opened, squares_of_photos):
    models = opened("A.int8-cpu.onnx")
    found = measure_layers(
        models, lambda _: Size(48, 1, 0.01), lambda _: squares_of_photos, lambda _: None
    )
    assert all(math.isnan(row.total_sqnr_db) for row in found.rows)
    assert "no float32 net of its weights" in found.calls[0].not_measured
    assert found.calls[0].reference == "" and found.calls[0].images == 0


def test_a_float32_file_serves_as_the_float32_net(opened, squares_of_photos):
    models = opened("A.fp32.onnx", "A.int8-cpu.onnx")
    with_checkpoint = opened("A.pt", "A.int8-cpu.onnx")
    one = errors_of(models, models[1], squares_of_photos)["fc8"].total_db
    other = errors_of(with_checkpoint, with_checkpoint[1], squares_of_photos)["fc8"].total_db
    assert one == pytest.approx(other, abs=1e-3)
