"""8-bit products on CPUs without VNNI, where two of them are added in 16 bits."""

import json
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.onnx.graph import onnx_graph
from export.onnx.onnx_file import write_onnx
from export.quantize.ranges import clip, measure_ranges
from export.quantize.rounding import LAST, Quantization
from export.settings.precision import INT8, PRECISIONS
from export.verify.lint import lint, pair_sums
from tests.support.nets import CLASSES, photo_of, thin_net
from vgg_deploy.errors import CheckFailed
from vgg_deploy.exported.metadata import Artifact
from vgg_deploy.runtimes import OnnxRuntime, integer_kernels
from vgg_deploy.runtimes.integer_kernels import check_arithmetic, kernel_errors

WRITTEN = PRECISIONS["int8-cpu"]
EIGHT_BITS = replace(WRITTEN, weights=INT8)  # what saturates
QEMU = shutil.which("qemu-x86_64")
needs_qemu = pytest.mark.skipif(
    QEMU is None,
    reason="qemu-x86_64 is not installed, so no CPU without VNNI can be emulated: "
    "apt-get install qemu-user",
)


def photos(count: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    images = [photo_of(CLASSES[i % len(CLASSES)], rng).resize((64, 64)) for i in range(count)]
    return np.stack([np.asarray(image).transpose(2, 0, 1) for image in images])


def write(path, precision, arch="A", form="uint8"):
    """A thin quantized net and the convolutions that it quantizes."""
    net = thin_net(arch)
    thresholds = clip(measure_ranges(net, iter([photos(8)])), "mse", precision)
    inner = {name: t for name, t in thresholds.items() if name != LAST}
    artifact = Artifact(net.spec, form, "int8-cpu", "net.pt", "0" * 64)
    write_onnx(
        path, onnx_graph(net, artifact, precision, Quantization(inner, True, thresholds[LAST]))
    )
    return path, set(inner)


def saturating_products(activations: np.ndarray, weights: np.ndarray) -> int:
    """vpmaddubsw and vpmaddwd by hand: pairs saturate in 16 bits, then all is added in 32 bits."""
    pairs = activations.astype(int).reshape(-1, 2) * weights.astype(int).reshape(-1, 2)
    return int(np.clip(pairs.sum(1), -(2**15), 2**15 - 1).sum())


def test_no_pair_of_products_of_a_written_file_saturates(tmp_path):
    """Oracle: the instruction written out, in several orders of the weights.

    Activations are the largest ones, and those that favour one sign.
    """
    path, _ = write(tmp_path / "new.onnx", WRITTEN)
    rng, tried = np.random.default_rng(0), 0
    for tensor in onnx.load(path).graph.initializer:
        if not tensor.name.endswith(".weight.quantized"):
            continue
        for channel in numpy_helper.to_array(tensor).reshape(tensor.dims[0], -1):
            padded = np.append(channel, np.zeros(len(channel) % 2, np.int8))
            for weights in (padded, np.sort(padded), rng.permutation(padded)):
                for activations in (
                    np.full(len(weights), 255),
                    255 * (weights > 0),
                    255 * (weights < 0),
                ):
                    exact = int(np.sum(activations.astype(int) * weights.astype(int)))
                    assert saturating_products(activations, weights) == exact
                    tried += 1
    assert tried > 1000
    eight = np.array([127, 127], np.int8)
    assert saturating_products(np.array([255, 255]), eight) == 32767 != 255 * 254


def test_the_lint_finds_weights_whose_products_may_saturate(tmp_path):
    def findings(path, quantized):
        return lint(onnx.load(path), WRITTEN, quantized, {})

    assert findings(*write(tmp_path / "new.onnx", WRITTEN)) == []
    found = findings(*write(tmp_path / "old.onnx", EIGHT_BITS))
    assert len(found) == 10
    assert all("saturates in the 16 bits of CPUs without VNNI" in text for text in found)
    assert found[0].startswith("conv1_1: two products of its weights and 255 sum to")


@pytest.mark.parametrize(
    "weight, sums",
    [
        ([[64, 64, 0]], (32640, 0)),  # the most that fits
        ([[65, 1, 64]], (255 * 129, 0)),  # two of one channel, wherever they are
        ([[-64, 3, -65]], (765, -255 * 129)),
        ([[127, -127]], (255 * 127, -255 * 127)),  # of two signs: each may meet a zero
        ([[100, 0], [0, 100]], (25500, 0)),  # of two channels: never in one sum
        ([[127]], (255 * 127, 0)),
    ],
)
def test_pairs_are_any_two_weights_of_a_channel(weight, sums):
    array = np.array(weight, np.int8)
    assert pair_sums(array.reshape(*array.shape, 1, 1)) == sums


@pytest.mark.parametrize("arch, form", [("A", "uint8"), ("A-LRN", "float32"), ("C", "normalised")])
def test_fused_kernels_are_right_to_a_level_on_this_cpu(arch, form, tmp_path):
    path, quantized = write(tmp_path / "new.onnx", WRITTEN, arch, form)
    errors = kernel_errors(path, photos(2), form, 1)
    assert set(errors) == quantized and max(errors.values()) <= 1


def test_a_wrong_kernel_is_named_with_the_cpu(tmp_path, monkeypatch):
    """One value of one fused output is changed by two levels, as a wrong kernel would."""
    path, _ = write(tmp_path / "new.onnx", WRITTEN)
    right = integer_kernels._fused

    def wrong(*given):
        values = right(*given)
        values["conv3_1.quantize.out"][0, 0, 0, 0] ^= 2
        return values

    check_arithmetic(path, photos(1), "uint8", 1, "A.int8-cpu.onnx")
    monkeypatch.setattr(integer_kernels, "_fused", wrong)
    monkeypatch.setattr(integer_kernels, "cpu_instructions", lambda: ["avx2", "fma"])
    message = (
        r"A.int8-cpu.onnx: .*this CPU \(avx2, fma\) compute 1 of 10 convolutions wrongly, "
        "conv2_1 first"
    )
    with pytest.raises(CheckFailed, match=message):
        check_arithmetic(path, photos(1), "uint8", 1, "A.int8-cpu.onnx")


ON_ANOTHER_CPU = textwrap.dedent("""
    import json, sys
    import numpy as np
    import onnxruntime as ort
    images, found = np.load(sys.argv[1]), []
    for path in sys.argv[2:]:
        for level in ("ORT_ENABLE_ALL", "ORT_DISABLE_ALL"):
            options = ort.SessionOptions()
            options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
            options.intra_op_num_threads, options.log_severity_level = 1, 4
            session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            found.append(session.run(None, {session.get_inputs()[0].name: images})[0].tolist())
    print(json.dumps(found))
""")


def emulated(cpu: str, images: np.ndarray, *paths) -> list[np.ndarray]:
    """The first output of every file, fused and as written, on an emulated CPU.

    Only ONNX Runtime runs there.
    """
    stored = paths[0].parent / "images.npy"
    np.save(stored, images)
    command = [QEMU, "-cpu", cpu, sys.executable, "-c", ON_ANOTHER_CPU, stored, *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return [np.array(values) for values in json.loads(done.stdout.splitlines()[-1])]


def one_convolution(path, weight: int):
    """Write uint8 (1, 16, 8, 8) -> quantized 3x3 convolution in a form that ONNX Runtime fuses.

    All weights are the same.
    """
    arrays = {
        "in.scale": np.float32(1),
        "in.zero": np.uint8(0),
        "w": np.full((4, 16, 3, 3), weight, np.int8),
        "w.scale": np.ones(4, np.float32),
        "w.zero": np.zeros(4, np.int8),
        "b": np.zeros(4, np.float32),
        "out.scale": np.float32(2**15),
        "out.zero": np.uint8(0),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["image", "in.scale", "in.zero"], ["x"]),
        helper.make_node("DequantizeLinear", ["w", "w.scale", "w.zero"], ["v"], axis=0),
        helper.make_node("Conv", ["x", "v", "b"], ["y"], kernel_shape=[3, 3]),
        helper.make_node("QuantizeLinear", ["y", "out.scale", "out.zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "out.scale", "out.zero"], ["result"]),
    ]
    inputs = [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 16, 8, 8])]
    outputs = [helper.make_tensor_value_info("result", TensorProto.FLOAT, [1, 4, 6, 6])]
    stored = [numpy_helper.from_array(np.asarray(values), name) for name, values in arrays.items()]
    graph = helper.make_graph(nodes, "one", inputs, outputs, stored)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path
    )
    return path


@needs_qemu
@pytest.mark.parametrize("cpu", ["Haswell", "Skylake-Server"])
@pytest.mark.slow
def test_the_worst_case_by_hand_without_vnni(cpu, tmp_path):
    """144 products of 255 and the largest weight.

    With 127 the emulated CPU saturates: 72 pairs of 32,767.
    """
    old = one_convolution(tmp_path / "old.onnx", 127)
    new = one_convolution(tmp_path / "new.onnx", 64)
    images = np.full((1, 16, 8, 8), 255, np.uint8)
    fused_old, written_old, fused_new, written_new = (
        values.max() / 2**15 for values in emulated(cpu, images, old, new)
    )
    assert written_old == np.rint(144 * 255 * 127 / 2**15)
    assert fused_old == np.rint(72 * 32767 / 2**15)
    assert fused_new == written_new == np.rint(144 * 255 * 64 / 2**15)


@needs_qemu
@pytest.mark.slow
def test_a_net_without_vnni(tmp_path):
    """8-bit weights go wrong there, so the emulation has the fault; files of ours do not."""
    old, _ = write(tmp_path / "old.onnx", EIGHT_BITS)
    new, _ = write(tmp_path / "new.onnx", WRITTEN)
    images = photos(4)
    fused_old, written_old, fused_new, written_new = emulated("Haswell", images, old, new)

    def moved(fused, written):
        return np.abs(fused - written).max()

    here = OnnxRuntime(new)(images).posterior
    assert np.abs(fused_new - here).max() < 1e-5  # the same integers as on this CPU, whatever it is
    assert moved(fused_old, written_old) > 3 * moved(fused_new, written_new)
