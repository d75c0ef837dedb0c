"""Weights of 4 bits in fc6 and fc7.

Oracles: ONNX's packing of two values to a byte written out, a loop over windows in float64, and a
search over scales by hand.
"""

import json

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from export.cli import main as export
from export.onnx import onnx_file
from export.quantize.four_bits import DAMPING, SHARES, round_weight
from export.quantize.second_moments import measure_moments
from export.release import ExportOptions, export_onnx
from export.settings.precision import PRECISIONS
from export.verify.lint import lint
from tests.support.layer_oracle import plain_forward
from tests.support.nets import photo_of, save_net, thin_net
from tests.support.run import run
from vgg_deploy.errors import CheckFailed
from vgg_deploy.runtimes import block_products, open_runtime
from vgg_deploy.runtimes.block_products import check_products, product_errors


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for i in range(16):
        photo_of("square", rng).resize((96, 80)).save(root / f"{i:02d}.png")
    return root


@pytest.fixture(scope="module")
def net():
    return thin_net("A", crop=64)  # fc6 has windows of 2x2


@pytest.fixture(scope="module")
def files(net, photos, tmp_path_factory):
    """By precision."""
    root = tmp_path_factory.mktemp("four_bits")
    source = save_net(net, root / "net.pt")
    options = ExportOptions(("int4-cpu", "int4"), calibration=photos)
    written = export_onnx(source, root / "out", options, None, 1, lambda text: None)
    return {file.artifact.precision: file for file in written}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(3).integers(0, 256, (2, 3, 97, 130), np.uint8)


def unpacked(tensor) -> np.ndarray:
    """int4 as the ONNX specification packs it: the first of two values in the lower half."""
    values = []
    for byte in tensor.raw_data:
        for half in (byte & 15, byte >> 4):
            values.append(half - 16 if half > 7 else half)
    return np.array(values[: np.prod(tensor.dims)]).reshape(tensor.dims)


def tapped(path, names, images) -> dict[str, np.ndarray]:
    """Values inside a file, computed node by node."""
    import onnxruntime as ort

    model = onnx.load(path)
    for name in names:
        model.graph.output.append(helper.make_empty_tensor_value_info(name))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return dict(zip(names, session.run(names, {"image": images}), strict=True))


@pytest.mark.parametrize("precision", ["int4-cpu", "int4"])
@pytest.mark.slow
def test_stored_blocks_over_a_loop_of_windows_are_the_layer(precision, files, net, images):
    path = files[precision].path
    model = onnx.load(path)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    producer = {node.name: node for node in model.graph.node}
    for name, side in (("fc6", 2), ("fc7", 1)):
        levels = unpacked(stored[f"{name}.weight.quantized"])
        scales = numpy_helper.to_array(stored[f"{name}.weight.scale"]).astype(np.float64)
        assert np.abs(levels).max() == 7 and scales.shape == (-(-len(levels) // 64), 256)
        assert (scales > 0).all()
        weight = levels * np.repeat(scales, 64, axis=0)[: len(levels)]
        before = producer[f"{name}.channels_last"].input[0]
        values = tapped(path, [before, f"{name}.out"], images)
        x = values[before].astype(np.float64)
        if values[before].dtype == np.uint8:
            x *= float(numpy_helper.to_array(stored["fc6.dequantize.scale"]))
        bias = numpy_helper.to_array(stored[f"{name}.add.bias"]).astype(np.float64)
        count, channels, height, width = x.shape
        found = values[f"{name}.out"].astype(np.float64)
        assert found.shape == (count, 256, height - side + 1, width - side + 1)
        weight = weight.reshape(side, side, channels, 256)  # column, row, channel
        largest = 0.0
        for n in range(count):
            for top in range(height - side + 1):
                for left in range(width - side + 1):
                    total = bias.copy()
                    for row in range(side):
                        for column in range(side):
                            total += x[n, :, top + row, left + column] @ weight[column, row]
                    largest = max(largest, np.abs(found[n, :, top, left] - total).max())
        assert largest < (1e-5 if precision == "int4-cpu" else 5e-3) * np.abs(found).max()


@pytest.mark.slow
def test_files_are_smaller_and_near_the_net(files, net, images):
    expected = plain_forward(net, images)["fc8"].mean((2, 3))
    for precision, file in files.items():
        found = open_runtime(file.path)(images).score_map.mean((2, 3))
        error = np.sqrt(((found - expected) ** 2).mean() / (expected**2).mean())
        assert error < 0.4  # as of 8-bit files of random thin nets
        weights = {t.name: t for t in onnx.load(file.path).graph.initializer}
        assert weights["fc6.weight.quantized"].data_type == TensorProto.INT4
        assert len(weights["fc6.weight.quantized"].raw_data) == 32 * 4 * 256 // 2
        manifest = json.loads(file.path.with_suffix(".json").read_text())
        assert manifest["quantization"]["four_bit_blocks"] == {"fc6": 64, "fc7": 64}
        assert manifest["quantization"]["kept"] == ["fc8"]
        assert manifest["opset"] == 21 and manifest["precision"] == precision


@pytest.mark.slow
def test_onnx_runtime_runs_each_layer_as_one_4_bit_kernel(files, tmp_path):
    """Read from the graph that ONNX Runtime makes of the file."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(files["int4-cpu"].path, options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(tmp_path / "optimised.onnx").graph.node
    kernels = [node for node in nodes if node.op_type == "MatMulNBits"]
    assert [{a.name: a.i for a in k.attribute}["bits"] for k in kernels] == [4, 4]
    assert sum(node.op_type == "QLinearConv" for node in nodes) == 8


def test_moments_are_those_of_a_loop_over_windows(net):
    images = np.random.default_rng(5).integers(0, 256, (2, 3, 97, 130), np.uint8)
    layers = plain_forward(net, images)
    moments = measure_moments(net, [images], ("fc6", "fc7"))
    pool, relu = layers["pool5"], layers["relu6"]
    window = [(row, column) for column in (0, 1) for row in (0, 1)]
    rows = [
        [pool[n, c, top + row, left + column] for row, column in window for c in range(32)]
        for n in range(2)
        for top in range(pool.shape[2] - 1)
        for left in range(pool.shape[3] - 1)
    ]  # fmt: skip
    matrix = np.array(rows)
    points = relu.transpose(0, 2, 3, 1).reshape(-1, 256)
    for name, inputs in (("fc6", matrix), ("fc7", points)):
        expected = inputs.T @ inputs / len(inputs)
        atol = 1e-5 * abs(expected).max()
        np.testing.assert_allclose(moments[name][0], expected, rtol=1e-3, atol=atol)


def test_scales_are_the_best_of_those_tried():
    """Inputs that do not go together have no feedback, so each block stands alone."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(48, 6, 1)
    squares = rng.uniform(0.1, 4, 48).astype(np.float32)
    stored = round_weight(layer, torch.diag(torch.from_numpy(squares))[None], 16)
    weight = layer.weight.detach().numpy()[:, :, 0, 0].T.astype(np.float64)
    for block in range(3):
        own = slice(16 * block, 16 * block + 16)
        costs = squares[own] + DAMPING * squares[own].mean()
        for output in range(6):
            values = weight[own, output]
            tried = {}
            for share in SHARES:
                scale = share * np.abs(values).max() / 7
                levels = np.clip(np.rint(values / scale), -7, 7)
                tried[scale] = float((costs * (levels * scale - values) ** 2).sum())
            best = min(tried, key=tried.get)
            assert stored.scales[block, output] == pytest.approx(best, rel=1e-5)
            nearest = np.clip(np.rint(values / best), -7, 7)
            assert (stored.levels[own, output].astype(int) == nearest).mean() > 0.9


def test_feedback_makes_up_for_errors_of_inputs_that_go_together():
    """Error of the outputs on other inputs of the same kind, against plain rounding by hand."""
    rng = np.random.default_rng(1)
    mixing = rng.normal(size=(12, 128))  # 12 causes behind 128 inputs
    inputs = np.maximum(rng.normal(size=(4000, 12)) @ mixing, 0).astype(np.float32)
    seen, others = inputs[:2000], inputs[2000:]
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(128, 32, 1)
    weight = layer.weight.detach().numpy()[:, :, 0, 0].T
    moments = torch.from_numpy(seen.T @ seen / len(seen))[None]
    stored = round_weight(layer, moments, 32)
    scales = np.abs(weight.reshape(4, 32, 32)).max(1) / 7
    plain = np.rint(weight / np.repeat(scales, 32, 0)) * np.repeat(scales, 32, 0)
    ours = stored.levels.astype(np.float32) * np.repeat(stored.scales, 32, 0)
    errors = [float(np.mean((others @ (w - weight)) ** 2)) for w in (ours, plain)]
    assert errors[0] < 0.4 * errors[1]


@pytest.mark.slow
def test_the_lint_and_the_checks_name_planted_faults(files, tmp_path):
    path = files["int4-cpu"].path
    quantized = {n.name for n in onnx.load(path).graph.node if n.op_type == "Conv"} - {"fc8"}
    quantized |= {"fc6", "fc7"}
    precision = PRECISIONS["int4-cpu"]

    def findings(change) -> list[str]:
        model = onnx.load(path)
        change({t.name: t for t in model.graph.initializer})
        return lint(model, precision, quantized, {})

    def replaced(name, how):
        def change(stored):
            array = how(numpy_helper.to_array(stored[name]))
            stored[name].CopyFrom(numpy_helper.from_array(array, name))

        return change

    assert findings(lambda stored: None) == []
    assert findings(replaced("fc6.weight.scale", lambda a: a[:1])) == [
        "fc6.weight: (1, 256) scales for 128 inputs in blocks of 64 and 256 outputs"
    ]
    assert findings(replaced("fc7.weight.scale", lambda a: 0 * a)) == [
        "fc7.weight: a scale is zero, negative or not finite in float32"
    ]
    wide = replaced("fc6.weight.quantized", lambda a: a.astype(np.int8))
    assert findings(wide) == ["fc6: its weights do not have 4 bits in blocks, but should"]
    assert lint(onnx.load(path), precision, quantized - {"fc7"}, {}) == [
        "fc7: is quantized, but should not be"
    ]


@pytest.mark.slow
def test_a_wrong_4_bit_kernel_is_named(files, images, monkeypatch):
    path = files["int4-cpu"].path
    errors = product_errors(path, images, "uint8", 1)
    assert set(errors) == {"fc6.product", "fc7.product"} and 0 <= max(errors.values()) < 2
    right = block_products._tapped

    def zeros(*given):
        return {
            name: 0 * v if name == "fc7.product.out" else v for name, v in right(*given).items()
        }

    monkeypatch.setattr(block_products, "_tapped", zeros)
    with pytest.raises(CheckFailed, match=r"D.onnx: .* compute fc7.product wrongly: .* 100.0 %"):
        check_products(path, images, "uint8", 1, "D.onnx")


@pytest.mark.nightly
@pytest.mark.slow
def test_weights_outside_features_and_kept_layers(net, photos, images, tmp_path):
    source = save_net(net, tmp_path / "net.pt")
    asked = {"keep": ("fc7",), "features": ("fc6", "fc7"), "external_data": True}
    options = ExportOptions(("int4-cpu",), calibration=photos, **asked)
    (file,) = export_onnx(source, tmp_path / "out", options, None, 1, lambda text: None)
    types = {t.name: t.data_type for t in onnx.load(file.path).graph.initializer}
    assert types["fc6.weight.quantized"] == TensorProto.INT4
    assert types["fc7.weight"] == TensorProto.FLOAT
    found = open_runtime(file.path).run(images, ("fc6", "fc7"))
    expected = plain_forward(net, images)
    for name, values in found.items():
        assert values.shape == expected[name].shape
        error = np.sqrt(((values - expected[name]) ** 2).mean() / (expected[name] ** 2).mean())
        assert error < 0.4


@pytest.mark.nightly
@pytest.mark.slow
def test_scales_as_large_as_those_of_full_width(net, photos, images, tmp_path, monkeypatch):
    """Values of a full-width file's scales stay in the file while it is checked; here all do."""
    monkeypatch.setattr(onnx_file, "SMALL", 1024)
    source = save_net(net, tmp_path / "net.pt")
    options = ExportOptions(("int4-cpu",), calibration=photos, features=("fc7",))
    (file,) = export_onnx(source, tmp_path / "out", options, None, 1, lambda text: None)
    assert open_runtime(file.path).run(images, ("fc7",))["fc7"].shape == (2, 256, 2, 3)


@pytest.mark.parametrize(
    "more",
    [("--keep", "fc6,fc7"), ("--features", "relu3_1"), ("--perceptual", "relu2_1")],
)
def test_files_without_4_bit_layers_are_refused(more, net, photos, tmp_path):
    source = save_net(net, tmp_path / "net.pt")
    words = (
        "--onnx",
        "--precision",
        "int4-cpu",
        "--calibration",
        photos,
        "--out",
        tmp_path / "out",
    )
    output = run(export, source, *words, *more, code=2)
    assert "--precision int4-cpu: fc6 and fc7 have 4 bits in it" in output
    assert "use int8-cpu" in output and not list(tmp_path.glob("out/*.onnx"))


@pytest.mark.slow
def test_sensitivity_measures_4_bit_layers(net, photos, tmp_path):
    source = save_net(net, tmp_path / "net.pt")
    words = (
        "--onnx",
        "--precision",
        "int4-cpu",
        "--calibration",
        photos,
        "--out",
        tmp_path / "out",
    )
    run(export, source, *words, "--sensitivity", "--threads", 1)
    rows = (tmp_path / "out" / "A.sensitivity.csv").read_text().splitlines()[1:]
    by_layer = {row.split(",")[0]: float(row.split(",")[3]) for row in rows}
    assert set(by_layer) >= {"fc6", "fc7", "conv1_1"} and 5 < by_layer["fc6"] < 60
