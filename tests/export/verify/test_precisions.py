"""Files of every precision: what is in them, and what the lint and the twin find."""

import json

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from export import preparation, release
from export.onnx.graph import onnx_graph
from export.quantize.ranges import Range, clip
from export.release import ExportOptions, export_onnx
from export.settings.precision import PRECISIONS
from export.verify.lint import lint
from tests.support.nets import photo_of, save_net, thin_net
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.runtimes import open_runtime

REDUCED = ("fp16", "bf16", "int8", "int8-cpu", "fp8")
QUANTIZED = ("int8", "int8-cpu", "fp8")


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("calibration"), np.random.default_rng(0)
    for i in range(16):
        photo_of("square", rng).save(root / f"{i}.png")
    return root


def export(tmp_path, folder, *precisions, net=None, **settings):
    source = save_net(net or thin_net("D"), tmp_path / "net.pt")
    options = ExportOptions(precisions, calibration=folder, **settings)
    return export_onnx(source, tmp_path / "out", options, None, 1, lambda text: None)


@pytest.mark.parametrize("arch", ["A-LRN", "C", "D"])
@pytest.mark.slow
def test_every_precision_is_released_and_described(arch, tmp_path, folder):
    files = export(tmp_path, folder, "fp32", *REDUCED, net=thin_net(arch), keep=("conv1_1",))
    assert [f.path.name for f in files] == [f"{arch}.{p}.onnx" for p in ("fp32", *REDUCED)]
    largest = {"fp32": 1e-5, "fp16": 5e-3, "bf16": 4e-2}
    for f in files:
        precision = f.artifact.precision
        if precision in QUANTIZED:
            assert f.cost.images == 8 and f.cost.score_error_pct < 40
        else:
            assert max(c.score_error for c in f.comparisons) < largest[precision]
        manifest = json.loads(f.path.with_suffix(".json").read_text())
        assert manifest["precision"] == precision
        assert ("ranges" in manifest) == (precision != "fp32")
        assert ("quantization" in manifest) == (precision in QUANTIZED)
        model = onnx.load(f.path)
        types = {t.name: t.data_type for t in model.graph.initializer}
        for name in ("fc8.weight", "fc8.bias", "subtract_mean.mean"):
            assert types[name] == TensorProto.FLOAT
        stored = {
            "fp32": "FLOAT",
            "fp16": "FLOAT16",
            "bf16": "BFLOAT16",
            "int8": "INT8",
            "int8-cpu": "INT8",
            "fp8": "FLOAT8E4M3FN",
        }[precision]
        weight = types["conv3_1.weight.quantized" if precision in QUANTIZED else "conv3_1.weight"]
        assert TensorProto.DataType.Name(weight) == stored
        outputs = {value.name: value.type.tensor_type.elem_type for value in model.graph.output}
        assert outputs == {"posterior": TensorProto.FLOAT, "score_map": TensorProto.FLOAT}
    manifest = json.loads((tmp_path / "out" / f"{arch}.int8.json").read_text())
    quantization = manifest["quantization"]
    assert quantization["kept"] == ["conv1_1", "fc8"]
    assert "conv1_1" not in quantization["thresholds"]
    assert quantization["calibration"]["images"] == 8
    assert not [p for p in (tmp_path / "out").iterdir() if "partial" in p.name or "twin" in p.name]


@pytest.mark.parametrize("precision", QUANTIZED)
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.slow
def test_scales_stand_as_tensorrt_wants_them(precision, per_channel, tmp_path, folder):
    """Read with onnx alone."""
    (f,) = export(tmp_path, folder, precision, per_channel=per_channel)
    model = onnx.load(f.path)
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    largest = {"fp8": 448, "int8": 127, "int8-cpu": 64}[precision]
    zero_type = {"int8": np.int8, "int8-cpu": np.uint8, "fp8": ml_dtypes.float8_e4m3fn}[precision]
    convs = [n.name for n in model.graph.node if n.op_type == "Conv"]
    assert len(convs) == 16
    for conv in convs[:-1]:
        scale = stored[f"{conv}.quantize.scale"]
        assert scale.shape == () == stored[f"{conv}.dequantize.scale"].shape
        assert scale == stored[f"{conv}.dequantize.scale"] > 0
        weight, weight_scale = stored[f"{conv}.weight.quantized"], stored[f"{conv}.weight.scale"]
        assert weight_scale.shape == (weight.shape[:1] if per_channel else ())
        assert float(np.abs(weight.astype(np.float32)).max()) == largest
        bias_type = np.float32 if precision == "int8-cpu" else np.float16
        assert stored[f"{conv}.bias"].dtype == bias_type
        zero = stored[f"{conv}.quantize.zero_point"]
        middle = 128 if (precision, conv) == ("int8-cpu", "conv1_1") else 0
        assert (zero.shape, zero.dtype, float(zero)) == ((), zero_type, middle)


@pytest.mark.slow
def test_onnx_runtime_fuses_the_cpu_form(tmp_path, folder):
    """Every convolution but fc8 runs as QLinearConv, and pools on bytes.

    Read from the graph that ONNX Runtime makes of it.
    """
    import onnxruntime as ort

    (f,) = export(tmp_path, folder, "int8-cpu")
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    ort.InferenceSession(f.path, options, providers=["CPUExecutionProvider"])
    ops = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert ops.count("QLinearConv") == 15 and sum(op.endswith("Conv") for op in ops) == 16
    assert ops.count("QuantizeLinear") == 1 and ops.count("DequantizeLinear") <= 2
    assert "Relu" not in ops


def graph_of(tmp_path, folder, precision):
    (f,) = export(tmp_path, folder, precision)
    model = onnx.load(f.path)
    convolutions = {node.name for node in model.graph.node if node.op_type == "Conv"}
    quantized = convolutions - {"fc8"} if precision in QUANTIZED else set()
    assert lint(model, PRECISIONS[precision], quantized, {}) == []
    return model, PRECISIONS[precision], quantized


def change(model, name: str, how) -> None:
    tensor = next(t for t in model.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(how(numpy_helper.to_array(tensor)), name))


@pytest.mark.slow
def test_the_lint_names_every_planted_fault(tmp_path, folder):
    def found(fault, precision="int8", quantized=None):
        model, p, asked = graph_of(tmp_path, folder, precision)
        fault(model)
        return "; ".join(lint(model, p, asked if quantized is None else quantized, {}))

    assert "conv2_1.quantize: activation scale of shape (1,)" in found(
        lambda m: change(m, "conv2_1.quantize.scale", lambda a: a.reshape(1))
    )
    assert "conv2_1.dequantize: zero point 3" in found(
        lambda m: change(m, "conv2_1.dequantize.zero_point", lambda a: np.array(3, np.int8))
    )
    assert "conv2_1.weight: a scale is zero" in found(
        lambda m: change(m, "conv2_1.weight.scale", lambda a: a * 0)
    )
    assert "not finite" in found(
        lambda m: change(m, "conv2_1.quantize.scale", lambda a: np.array(np.inf, a.dtype))
    )
    assert "weight scales for 8 output channels" in found(
        lambda m: change(m, "conv2_1.weight.scale", lambda a: a[:3])
    )
    assert "conv2_1: its bias is no stored float" in found(
        lambda m: change(m, "conv2_1.bias", lambda a: a.astype(np.int32))
    )
    assert "conv4_1: is quantized, but should not be" in found(
        lambda m: None, quantized=_all_but("conv4_1")
    )
    assert "conv9_9: is no convolution" in found(lambda m: None, quantized=_all_but() | {"conv9_9"})

    def unquantized(model):
        conv = next(n for n in model.graph.node if n.name == "conv3_2")
        conv.input[0] = "relu3_1.out"

    assert "conv3_2: is not quantized, but should be" in found(unquantized)

    def half_head(model):
        node = next(n for n in model.graph.node if n.name == "fc8.to_float32")
        node.attribute[0].i = TensorProto.FLOAT16
        for name in ("fc8.weight", "fc8.bias"):
            change(model, name, lambda a: a.astype(np.float16))

    text = found(half_head, "fp16")
    assert (
        "fc8: computes in FLOAT16, expected FLOAT" in text
        and "softmax: computes in FLOAT16" in text
    )


def _all_but(*names: str) -> set[str]:
    convs = [
        f"conv{s}_{i}" for s, n in enumerate((2, 2, 3, 3, 3), start=1) for i in range(1, n + 1)
    ] + ["fc6", "fc7"]
    return set(convs) - set(names)


@pytest.mark.slow
def test_half_precision_needs_headroom(tmp_path, folder):
    """A net that reaches 40,000 before ReLU would overflow on other images.

    It runs fine on a CPU, which computes in float32.
    """
    net = thin_net("A")
    with torch.no_grad():
        net.conv2_1.bias += 40_000
        net.conv3_1.weight /= 1000
    message = r"reaches 40,\d+ on the images seen, half precision ends at 65,504 .*use bf16"
    with pytest.raises(CheckFailed, match=f"conv2_1: {message}"):
        export(tmp_path, None, "fp16", net=net)
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())
    (f,) = export(tmp_path, None, "bf16", net=net)
    assert f.path.is_file()
    seen = {"conv1_1": Range(input_max=150, output_max=32_000), "fc8": Range(input_max=9e9)}
    model, p, _ = graph_of(tmp_path, folder, "fp16")
    assert lint(model, p, set(), seen) == []


def wrong_scale(graph):
    scale = graph.weights["conv3_1.dequantize.scale"]
    graph.weights["conv3_1.dequantize.scale"] = np.asarray(
        scale * 1.01, graph.weights["conv3_1.bias"].dtype
    )


def moved_weights(graph):
    graph.weights["conv3_1.weight.quantized"] = np.roll(
        graph.weights["conv3_1.weight.quantized"], 1, axis=3
    )


def swapped_weight_scales(graph):
    graph.weights["conv3_1.weight.scale"] = np.roll(graph.weights["conv3_1.weight.scale"], 1)


def zeroed_bias(graph):
    graph.weights["conv3_1.bias"] = np.zeros_like(graph.weights["conv3_1.bias"])


def padded_otherwise(graph):
    node = next(n for n in graph.model.graph.node if n.name == "conv3_1")
    next(a for a in node.attribute if a.name == "pads").ints[:] = [2, 2, 0, 0]


@pytest.mark.parametrize("precision", QUANTIZED)
@pytest.mark.parametrize(
    "fault", [wrong_scale, moved_weights, swapped_weight_scales, zeroed_bias, padded_otherwise]
)
@pytest.mark.slow
def test_the_twin_names_the_convolution_with_a_planted_fault(
    fault, precision, tmp_path, folder, monkeypatch
):
    """Faults of one per cent of a scale, which next to float32 look like quantization."""

    def faulty(net, artifact, *how):
        graph = onnx_graph(net, artifact, *how)
        fault(graph)
        return graph

    monkeypatch.setattr(release, "onnx_graph", faulty)
    with pytest.raises(
        CheckFailed, match=f"D.{precision}.onnx was not written: conv3_1 differs from PyTorch"
    ):
        export(tmp_path, folder, precision)
    assert not (tmp_path / "out" / f"D.{precision}.onnx").exists()


def one_weight_of_conv1_2(graph):
    """One of 144: the first column of one input of one output."""
    weights = graph.weights["conv1_2.weight.quantized"].copy()
    weights[3, 1, 2, 0] += 60 if weights[3, 1, 2, 0] < 0 else -60
    graph.weights["conv1_2.weight.quantized"] = weights


def fewer_rows_of_conv1_2(graph):
    node = next(n for n in graph.model.graph.node if n.name == "conv1_2")
    next(a for a in node.attribute if a.name == "pads").ints[:] = [0, 1, 0, 1]


def upside_down_conv1_2(graph):
    """Its padding is all above: right in the middle, wrong at both borders."""
    node = next(n for n in graph.model.graph.node if n.name == "conv1_2")
    next(a for a in node.attribute if a.name == "pads").ints[:] = [2, 1, 0, 1]


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        (one_weight_of_conv1_2, "differs from PyTorch"),
        (fewer_rows_of_conv1_2, r"gives \(1, 4, 30, 32\), PyTorch \(1, 4, 32, 32\)"),
        (upside_down_conv1_2, "differs from PyTorch"),
    ],
)
def test_the_twin_finds_faults_in_maps_of_which_it_compares_some_rows(
    fault, found, tmp_path, folder, monkeypatch
):
    def faulty(net, artifact, *how):
        graph = onnx_graph(net, artifact, *how)
        fault(graph)
        return graph

    monkeypatch.setattr(release, "onnx_graph", faulty)
    with pytest.raises(CheckFailed, match=f"conv1_2 {found}"):
        export(tmp_path, folder, "int8")


def test_outputs_of_whom_the_manifest_says(tmp_path, folder):
    """Files of half precision are compared as twins, and so are quantized files for GPUs."""
    files = export(tmp_path, folder, "fp32", *REDUCED)
    said = {
        f.artifact.precision: json.loads(f.path.with_suffix(".json").read_text()) for f in files
    }
    assert {name: manifest["check_of"] for name, manifest in said.items()} == {
        "fp32": "file",
        "fp16": "float32 twin",
        "bf16": "float32 twin",
        "int8": "float32 twin",
        "int8-cpu": "file",
        "fp8": "float32 twin",
    }


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_softmax_before_the_average_is_found_in_reduced_files(precision, tmp_path, monkeypatch):
    def faulty(net, artifact, *how):
        graph = onnx_graph(net, artifact, *how)
        nodes = {node.name: node for node in graph.model.graph.node}
        mean, softmax = nodes["mean_score"], nodes["softmax"]
        softmax.input[0], softmax.output[0] = "score_map", "softmax.out"
        mean.input[0], mean.output[0] = "softmax.out", "posterior"
        del graph.model.graph.node[-2:]
        graph.model.graph.node.extend([softmax, mean])
        return graph

    monkeypatch.setattr(release, "onnx_graph", faulty)
    with pytest.raises(CheckFailed, match="softmax of the file's own"):
        export(tmp_path, None, precision)


@pytest.mark.slow
def test_ranges_that_fit_nothing_are_found_by_their_cost(tmp_path, folder, monkeypatch):
    """The file is as it should be, but useless: everything is clipped to nothing."""

    def clip_to_nothing(*args):
        return {name: threshold / 1000 for name, threshold in clip(*args).items()}

    monkeypatch.setattr(preparation, "clip", clip_to_nothing)
    message = r"on 8 held-out images .* it is useless, because .*--sensitivity"
    with pytest.raises(CheckFailed, match=f"D.int8.onnx was not written: {message}"):
        export(tmp_path, folder, "int8")
    assert not (tmp_path / "out" / "D.int8.onnx").exists()


def test_bfloat16_on_a_cpu_is_refused_with_the_reason(tmp_path):
    (f,) = export(tmp_path, None, "bf16")
    with pytest.raises(InputError, match="no CPU kernels for its types") as refused:
        open_runtime(f.path)
    assert refused.value.about == "cuda or precision"


def test_layers_to_keep_must_exist(tmp_path, folder):
    with pytest.raises(
        InputError, match="--keep conv9_9: net D has no such layer; choose from conv1_1"
    ):
        export(tmp_path, folder, "int8", keep=("conv9_9",))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_pytorch_in_the_same_precision_has_the_same_scores(precision, tmp_path):
    """The runtime of half precision against float32: as near as the type allows."""
    net = thin_net("A-LRN")
    source = save_net(net, tmp_path / "net.pt")
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 80), np.uint8)
    reference = open_runtime(source)(images).score_map
    found = open_runtime(source, precision=precision)(images)
    error = np.sqrt(np.mean((found.score_map - reference) ** 2) / np.mean(reference**2))
    assert error <= {"fp32": 0, "fp16": 3e-3, "bf16": 3e-2}[precision]
    assert found.posterior.dtype == np.float32
    assert precision == "fp32" or error > 0


def test_helper_types():
    """ml_dtypes and onnx mean the same types."""
    for precision, kind in (("bf16", TensorProto.BFLOAT16), ("fp16", TensorProto.FLOAT16)):
        assert helper.np_dtype_to_tensor_dtype(PRECISIONS[precision].trunk) == kind
    fp8 = PRECISIONS["fp8"].weights.dtype
    assert helper.np_dtype_to_tensor_dtype(fp8) == TensorProto.FLOAT8E4M3FN
