"""Times of layers: which layer a runtime's node belongs to, what it adds up to, how much work."""

import time

import numpy as np
import pytest
import torch

from bench.layers.contract import NotSeparable
from bench.layers.measure import Size, measure_layers
from bench.layers.measure_times import measure_times
from bench.layers.node_times import Node, part_times
from bench.layers.openvino_times import OpenVinoTimer
from bench.layers.parts import part_name
from bench.layers.tensorrt_times import engine_part_times
from bench.layers.timers import layer_timer
from bench.layers.watchers import layer_values
from export.python import export
from tests.support.nets import save_net, thin_net, thin_spec
from vgg_deploy.errors import InputError
from vgg_deploy.net.archs import ARCHS, macs_by_layer
from vgg_deploy.net.outputs import layer_names
from vgg_deploy.runtimes import open_runtime

IMAGES = np.random.default_rng(0).integers(0, 256, (1, 3, 48, 48), np.uint8)
CONVOLUTIONS = ("conv1_1", "conv2_1", "conv3_1", "conv3_2", "conv4_1", "conv4_2")
CONVOLUTIONS += ("conv5_1", "conv5_2")


def fused(name):
    """A convolution with its ReLU, as tables name them."""
    return f"{name} + {name.replace('conv', 'relu').replace('fc', 'relu')}"


@pytest.mark.parametrize("arch", ["A", "C"])
def test_the_work_of_each_layer_is_that_of_a_naive_count(arch):
    """Oracle: every output value of the real net times the weights that it is a sum of."""
    net, counted = thin_net(arch), {}

    def count(name):
        def hook(layer, _, output):
            counted[name] = output.numel() * layer.weight[0].numel()

        return hook

    for name, layer in net.convolutions().items():
        layer.register_forward_hook(count(name))
    net(torch.zeros(1, 3, 70, 101))
    assert macs_by_layer(ARCHS[arch], 70, 101, 4, 1 / 16, 32) == counted


def test_nodes_belong_to_the_layer_that_they_compute():
    """Names as ONNX Runtime writes them for float32, half precision and 8-bit files."""
    layers = ["conv1_1", "relu1_1", "pool1", "fc6", "relu6", "fc7", "relu7", "fc8"]
    nodes = [
        Node("subtract_mean", "Sub", 1.0),
        Node("relu1_1.out_nchwc", "Conv", 2.0),  # the name of the value that it ends in
        Node("InsertedPrecisionFreeCast_pool1.out_nchwc", "MaxPool", 4.0),
        Node("fc6.quantize", "QuantizeLinear", 8.0),
        Node("fc6_token_48", "QLinearConv", 16.0),
        Node("fc7", "Conv", 32.0),
        Node("relu7", "Relu", 64.0),  # not fused: a row of its own
        Node("ReorderOutput_token_3", "ReorderOutput", 100.0),
        Node("fc6/WithoutBiases_acdb_abcd_fc7", "Reorder", 28.0),  # as OpenVINO names it
        Node("score_map_nchwc", "Conv", 256.0),
        Node("softmax", "Softmax", 512.0),
    ]
    found = part_times([nodes, nodes], layers)
    assert {part_name(one.part): one.ms.tolist() for one in found} == {
        "input": [1.0, 1.0],
        "conv1_1 + relu1_1": [2.0, 2.0],
        "pool1": [4.0, 4.0],
        "fc6 + relu6": [24.0, 24.0],
        "fc7": [32.0, 32.0],
        "relu7": [64.0, 64.0],
        "fc8": [256.0, 256.0],
        "posterior": [512.0, 512.0],
        "layout": [128.0, 128.0],
    }


def test_layers_of_an_engine_list_the_nodes_in_them():
    layers = ("conv1_1", "relu1_1", "pool1", "fc6", "relu6", "fc8")
    calls = [
        {"subtract_mean + conv1_1.quantize": 2.0, "conv1_1 + relu1_1": 1.0, "pool1": 0.5},
        {"fc6 + relu6": 3.0, "score_map": 0.25, "Reformatting CopyNode for Input 0": 0.125},
    ]
    call = {name: ms for part in calls for name, ms in part.items()}
    found = engine_part_times([call], layers)
    assert {part_name(one.part): one.ms.tolist() for one in found} == {
        "conv1_1 + relu1_1": [3.0],
        "pool1": [0.5],
        "fc6 + relu6": [3.0],
        "fc8": [0.25],
        "layout": [0.125],
    }
    with pytest.raises(NotSeparable, match="no names of the net's layers"):
        engine_part_times([{"__myl_Fc_0x1": 1.0}], layers)


@pytest.mark.parametrize("name", ["A.pt", "A.fp32.onnx", "A.int8-cpu.onnx", "A.fp32.ncnn.param"])
def test_the_parts_are_all_layers_and_take_less_than_their_calls(opened, name):
    (model,) = opened(name)
    times = measure_times(model.runtime, layer_timer(model.runtime), IMAGES, 0.01)
    layers = [layer for one in times.parts for layer in one.part if layer[-1].isdigit()]
    assert tuple(layers) == layer_names(thin_spec("A"))
    named = {part_name(one.part) for one in times.parts}
    own = named >= {"conv1_1", "relu1_1"}
    assert own if name == "A.pt" else named >= {fused(c) for c in (*CONVOLUTIONS, "fc6", "fc7")}
    assert {"input", "posterior", "pool5", "fc8"} <= named
    sums = np.sum([one.ms for one in times.parts], axis=0)
    assert sums.shape == times.timed_ms.shape == times.whole_ms.shape and len(sums) >= 6
    assert (sums < times.timed_ms).all() and (sums > 0).all() and times.overhead_ms > 0


def test_a_slow_layer_is_the_one_that_takes_long(opened):
    """Oracle: a layer that sleeps 20 ms more."""
    (model,) = opened("A.pt")
    slow = model.runtime.net.get_submodule("conv3_1")
    slow.register_forward_hook(lambda *_: time.sleep(0.02))
    found = measure_layers([model], lambda _: Size(48, 2, 0.01), lambda _: [IMAGES], lambda _: None)
    rows = {row.layer: row for row in found.rows}
    assert rows["conv3_1"].ms >= 20 and rows["conv3_1"].share_pct > 40
    assert sum(row.share_pct for row in found.rows) == pytest.approx(100)
    work = 2 * macs_by_layer(ARCHS["A"], 48, 48, 4, 1 / 16, 32)["conv3_1"]  # two images
    assert rows["conv3_1"].gmacs == pytest.approx(work / 1e9, rel=1e-12)
    assert rows["conv3_1"].gflop_per_s == pytest.approx(2 * work / 1e6 / rows["conv3_1"].ms)
    (call,) = found.calls
    assert call.sum_ms == pytest.approx(sum(row.ms for row in found.rows))
    assert call.whole_ms > 20 and "float32 net itself" in call.not_measured
    assert set(found.samples.layer) == set(rows)


def test_openvino_counts_all_layers(layer_files, opened):
    """Its own counters; the runtime is stood in for by the file's description."""
    pytest.importorskip("openvino", reason="openvino is not installed")
    for name in ("A.fp32.onnx", "A.int8-cpu.onnx"):
        (model,) = opened(name)
        timer = OpenVinoTimer(model.runtime)
        for _ in range(3):
            timer(IMAGES)
        timer.forget()
        timer(IMAGES)
        found = {part_name(one.part): one.ms for one in timer.finish()}
        assert set(found) >= {fused(c) for c in (*CONVOLUTIONS, "fc6", "fc7")} | {"pool1", "fc8"}
        assert all(ms.shape == (1,) for ms in found.values())
        assert sum(float(ms[0]) for ms in found.values()) > 0


def test_a_compiled_net_says_why_its_layers_are_not_timed():
    class Compiled:
        name, device = "torch-compile", "cpu"

    from bench.layers.torch_times import TorchTimer

    with pytest.raises(NotSeparable, match="reach over layers"):
        TorchTimer(Compiled())


def test_a_folder_that_takes_no_profile_is_named(opened, monkeypatch, tmp_path):
    (model,) = opened("A.fp32.onnx")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(InputError, match="profile cannot be written"):
        layer_timer(model.runtime)


def test_graphs_of_another_interface_say_why_they_are_not_timed(tmp_path):
    net = save_net(thin_net("A"), tmp_path / "A.pt")
    (whole,) = export(net, tmp_path / "whole", whole_images=48)
    with pytest.raises(NotSeparable, match="its graph rescales too"):
        layer_timer(open_runtime(whole.path))
    (fixed,) = export(net, tmp_path / "fixed", fixed_shape=(2, 48, 48))
    for of_layers in (layer_timer, layer_values):
        with pytest.raises(NotSeparable, match="it takes 2x3x48x48 only"):
            of_layers(open_runtime(fixed.path))
