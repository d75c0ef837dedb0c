"""8-bit products on CPUs without VNNI, where two of them are added in 16 bits."""

import json
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace
from functools import partial

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
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.exported import onnx_outline
from vgg_deploy.exported.metadata import Artifact
from vgg_deploy.exported.onnx_outline import read_outline, value_range
from vgg_deploy.runtimes import OnnxRuntime, integer_kernels
from vgg_deploy.runtimes.integer_kernels import check_arithmetic, kernel_errors
from vgg_deploy.runtimes.quantized_convolutions import quantized_convolutions

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
def test_integer_kernels_are_right_on_this_cpu(arch, form, tmp_path):
    path, quantized = write(tmp_path / "new.onnx", WRITTEN, arch, form)
    in_floats = {"conv1_1"} if arch == "A-LRN" else set()  # normalised before it has 8 bits again
    errors = kernel_errors(path, 1)
    assert set(errors) == quantized - in_floats
    assert 0.49 < max(errors.values()) <= integer_kernels.ROUNDING


def by_hand(add, graph, images, threads):
    """The graph of the check in NumPy's integers, with another way to add products.

    Args:
        add: Makes sums of products (N, h, w, rows, products) of int64; those of adjacent channels
            lie beside each other.
        graph: As `_found` gets it.
        images: As `_found` gets them.
        threads: Not used.
    """
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found = {}
    for node in graph.node:
        of = node.name.split(".")[0]
        attributes = {a.name: list(a.ints) for a in node.attribute}
        if node.op_type == "Conv":
            zero = int(stored[f"{of}.x.zero"])
            values, weights = (
                np.moveaxis(v, 1, -1).astype(np.int64)
                for v in (images[f"{of}.image"], stored[f"{of}.integers"])
            )
            top, left, bottom, right = attributes["pads"]
            around = ((0, 0), (top, bottom), (left, right), (0, 0))
            values = np.pad(values, around, constant_values=zero)
            windows = np.lib.stride_tricks.sliding_window_view(values, weights.shape[1:3], (1, 2))
            windows = np.moveaxis(windows, 3, -1)
            windows = windows.reshape(*windows.shape[:3], 1, -1)
            rows = weights.reshape(len(weights), -1)
            sums = add(windows * rows) - zero * rows.sum(1)
            scaled = sums * stored[f"{of}.w.scale"].astype(float) + stored[f"{of}.bias"]
            levels = np.rint(scaled).clip(0, 255).astype(np.uint8)
            found[f"{of}.levels"] = np.moveaxis(levels, -1, 1)
        if node.op_type == "MaxPool":
            assert attributes["kernel_shape"] == attributes["strides"] == [2, 2]
            levels = found[f"{of}.levels"][..., :4]
            halves = np.maximum(levels[..., 0::2], levels[..., 1::2])
            found[f"{of}.pooled"] = np.maximum(halves[:, :, 0::2], halves[:, :, 1::2])
    return found


def exact(products: np.ndarray) -> np.ndarray:
    return products.sum(-1)


def by_vpmaddubsw(products: np.ndarray) -> np.ndarray:
    """Pairs are added in 16 bits and saturate."""
    if products.shape[-1] % 2:
        products = np.concatenate([products, 0 * products[..., :1]], -1)
    pairs = products.reshape(*products.shape[:-1], -1, 2).sum(-1)
    return pairs.clip(-(2**15), 2**15 - 1).sum(-1)


def without_the_last(products: np.ndarray) -> np.ndarray:
    return products[..., :-1].sum(-1)


def one_too_many(products: np.ndarray) -> np.ndarray:
    """One sum of each convolution is off by one."""
    sums = products.sum(-1)
    sums[0, 0, 1, 1] += 1
    return sums


@pytest.mark.parametrize(
    "precision, add, is_right",
    [
        (WRITTEN, exact, True),
        (WRITTEN, by_vpmaddubsw, True),  # 7 bits fit
        (EIGHT_BITS, exact, True),
        (EIGHT_BITS, by_vpmaddubsw, False),
        (WRITTEN, without_the_last, False),
        (WRITTEN, one_too_many, False),
    ],
)
def test_planted_kernels(precision, add, is_right, tmp_path, monkeypatch):
    """Oracle: the check's own graph computed in NumPy, as it should be and wrongly."""
    path, quantized = write(tmp_path / "net.onnx", precision)
    monkeypatch.setattr(integer_kernels, "_found", partial(by_hand, add))
    errors = kernel_errors(path, 1)
    assert set(errors) == quantized
    assert {name for name, off in errors.items() if off > 0.501} == (
        set() if is_right else quantized
    )


@pytest.mark.parametrize("output", ["2.levels", "2.pooled"])
def test_a_wrong_kernel_is_named_with_the_cpu(output, tmp_path, monkeypatch):
    """One value of one output is changed by two levels."""
    path, _ = write(tmp_path / "new.onnx", WRITTEN)
    right = integer_kernels._found

    def wrong(*given):
        values = right(*given)
        values[output][0, 0, 0, 0] ^= 2
        return values

    check_arithmetic(path, 1, "A.int8-cpu.onnx")
    monkeypatch.setattr(integer_kernels, "_found", wrong)
    monkeypatch.setattr(integer_kernels, "cpu_instructions", lambda: ["avx2", "fma"])
    message = (
        r"A.int8-cpu.onnx: .*this CPU \(avx2, fma\) compute 1 of 10 convolutions wrongly, "
        "conv2_1 first"
    )
    with pytest.raises(CheckFailed, match=message):
        check_arithmetic(path, 1, "A.int8-cpu.onnx")


def test_weights_have_the_range_of_all_convolutions_of_a_kind(tmp_path, monkeypatch):
    """Oracle: the stored weights as onnx reads them."""
    path, _ = write(tmp_path / "net.onnx", WRITTEN, "D")
    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    tried = []

    def noted(ranges, threads):
        tried.append(ranges)
        return dict.fromkeys(ranges, 0.0)

    monkeypatch.setattr(integer_kernels, "_errors", noted)
    kernel_errors(path, 1)
    found = quantized_convolutions(read_outline(path).graph)
    of_kind = {kind: [one.name for one in found if one.kind == kind] for kind in tried[0]}
    assert ["conv4_2", "conv5_1", "conv5_2"] in of_kind.values()
    assert ["conv4_3", "conv5_3"] in of_kind.values()  # before a pooling
    for kind, names in of_kind.items():
        values = np.concatenate([stored[f"{name}.weight.quantized"].ravel() for name in names])
        assert tried[0][kind] == (values.min(), values.max())


@pytest.mark.parametrize("external_data", [False, True])
def test_an_outline_is_the_graph_without_its_weights(external_data, tmp_path, monkeypatch):
    """Oracle: onnx.load."""
    most = 4096
    monkeypatch.setattr(onnx_outline, "MOST_BYTES", most)
    path, _ = write(tmp_path / "net.onnx", WRITTEN)
    if external_data:
        options = {"location": "net.data", "size_threshold": most + 1}
        onnx.save(onnx.load(path), path, save_as_external_data=True, **options)
    model, outline = onnx.load(path), read_outline(path)
    assert list(outline.graph.node) == list(model.graph.node)
    found = outline.tensors()
    assert list(found) == [tensor.name for tensor in model.graph.initializer]
    for tensor in model.graph.initializer:
        array, own = numpy_helper.to_array(tensor), found[tensor.name]
        assert (tuple(own.dims), own.data_type) == (array.shape, tensor.data_type)
        values = b"" if array.nbytes > most else tensor.raw_data
        assert own.raw_data == values or own.data_location == TensorProto.EXTERNAL
        if array.dtype == np.int8:
            assert value_range(outline, tensor.name) == (array.min(), array.max())
    in_file = {"fc6.weight.quantized", "fc7.weight.quantized"} & set(outline.spans)
    assert bool(in_file) != external_data


def test_a_damaged_file_has_no_outline(tmp_path):
    path, _ = write(tmp_path / "net.onnx", WRITTEN)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match="net.onnx: not a model that ONNX Runtime can load"):
        read_outline(path)


def test_a_file_without_quantized_convolutions_has_no_integer_kernels(tmp_path):
    net = thin_net("A")
    artifact = Artifact(net.spec, "uint8", "fp32", "net.pt", "0" * 64)
    write_onnx(tmp_path / "net.onnx", onnx_graph(net, artifact, PRECISIONS["fp32"], None))
    assert kernel_errors(tmp_path / "net.onnx", 1) == {}


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


THE_CHECK = textwrap.dedent("""
    import sys
    import numpy as np
    import onnxruntime as ort
    model, images, outputs = sys.argv[1:]
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    np.savez(outputs, **dict(zip(names, session.run(names, dict(np.load(images))))))
""")


def found_on(cpu, folder, graph, images, threads):
    """The outputs of the check's graph on an emulated CPU. Only ONNX Runtime runs there."""
    paths = [folder / name for name in ("graph.onnx", "images.npz", "outputs.npz")]
    opset = helper.make_opsetid("", integer_kernels.OPSET)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=10), paths[0])
    np.savez(paths[1], **images)
    command = [QEMU, "-cpu", cpu, sys.executable, "-c", THE_CHECK, *paths]
    subprocess.run(command, check=True, timeout=300)
    return dict(np.load(paths[2]))


@needs_qemu
@pytest.mark.slow
def test_the_check_without_vnni(tmp_path, monkeypatch):
    """All convolutions with weights of 8 bits are found wrong there."""
    old, quantized = write(tmp_path / "old.onnx", EIGHT_BITS)
    monkeypatch.setattr(integer_kernels, "_found", partial(found_on, "Haswell", tmp_path))
    errors = kernel_errors(old, 1)
    assert set(errors) == quantized and min(errors.values()) > 100
