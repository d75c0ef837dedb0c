"""One contract for all runtimes, and files that no runtime may open."""

import importlib.util
import json
import shutil
from importlib.metadata import PackageNotFoundError

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from export.onnx.graph import onnx_graph
from export.onnx.onnx_file import write_onnx
from export.settings.precision import PRECISIONS
from export.tensorrt.build import build_engine
from export.write_ncnn import export_ncnn
from tests.support.faulty_outputs import behind, twice_the_rows
from tests.support.nets import save_net, thin_net
from vgg_deploy.errors import InputError
from vgg_deploy.exported.metadata import KEY, Artifact, manifest_path
from vgg_deploy.exported.trt_manifest import InputShape, Profile
from vgg_deploy.exported.trt_packages import FLAVOURS
from vgg_deploy.files import sha256
from vgg_deploy.net import fully_connected
from vgg_deploy.net.outputs import SCORES
from vgg_deploy.runtimes import (
    PACKAGES,
    OnnxRuntime,
    WrongOutputs,
    open_runtime,
    packages,
    runtime_version,
)
from vgg_deploy.runtimes.contract import checked, page_locked
from vgg_deploy.runtimes.cuda_graphs import GraphedRuntime

needs_ncnn = pytest.mark.skipif(
    importlib.util.find_spec("ncnn") is None, reason="ncnn is not installed: pip install ncnn"
)
needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None,
    reason="openvino is not installed: pip install openvino",
)
PROFILE = Profile(InputShape(1, 32, 32), InputShape(2, 64, 96), InputShape(4, 160, 160))


@pytest.fixture
def checkpoint(tmp_path):
    return save_net(thin_net("B"), tmp_path / "B.pt")


def write(tmp_path, form="uint8", net=None):
    net = net or thin_net("B")
    path = tmp_path / f"{net.spec.arch}.{form}.onnx"
    write_onnx(
        path,
        onnx_graph(net, Artifact(net.spec, form, "fp32", "B.pt", "0" * 64), PRECISIONS["fp32"]),
    )
    return path


def on_gpu(*modules: str):
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    reason = (
        f"{', '.join(missing)} is not installed" if missing else "PyTorch sees no CUDA GPU here"
    )
    return pytest.mark.skipif(bool(missing) or not torch.cuda.is_available(), reason=reason)


@pytest.fixture(
    params=[
        ("torch", "cpu", None),
        pytest.param(
            ("torch-compile", "cpu", None),
            marks=pytest.mark.skipif(
                shutil.which("g++") is None, reason="torch.compile needs a C++ compiler"
            ),
        ),
        ("onnxruntime", "cpu", "uint8"),
        ("onnxruntime", "cpu", "float32"),
        ("onnxruntime", "cpu", "normalised"),
        pytest.param(("openvino", "cpu", "uint8"), marks=needs_openvino),
        pytest.param(("openvino", "cpu", "float32"), marks=needs_openvino),
        pytest.param(("openvino", "cpu", "normalised"), marks=needs_openvino),
        pytest.param(("ncnn", "cpu", "uint8"), marks=needs_ncnn),
        pytest.param(("ncnn", "cpu", "normalised"), marks=needs_ncnn),
        pytest.param(("torch", "cuda", None), marks=on_gpu()),
        pytest.param(("torch-compile", "cuda", None), marks=on_gpu()),
        pytest.param(("graphs", "cuda", None), marks=on_gpu()),
        pytest.param(("onnxruntime", "cuda", "uint8"), marks=on_gpu()),
        pytest.param(("onnxruntime-tensorrt", "cuda", "uint8"), marks=on_gpu("tensorrt")),
        pytest.param(
            ("onnxruntime-rtx", "cuda", "uint8"), marks=on_gpu("onnxruntime_ep_nv_tensorrt_rtx")
        ),
        pytest.param(("tensorrt", "cuda", "uint8"), marks=on_gpu("tensorrt")),
        pytest.param(("tensorrt-rtx", "cuda", "uint8"), marks=on_gpu("tensorrt_rtx")),
    ],
    ids=lambda way: "-".join(filter(None, way)),
)
def runtime(request, tmp_path, checkpoint):
    """Every runtime on every device, opened as a user would.

    Those that this machine lacks are skipped with the reason.
    """
    name, device, form = request.param
    if name == "graphs":
        return GraphedRuntime(open_runtime(checkpoint, device, 2))
    if form is None:
        return open_runtime(checkpoint, device, 2, name)
    path = write(tmp_path, form)
    if name.startswith(("onnxruntime", "openvino")):
        return open_runtime(path, device, 2, name)
    if name == "ncnn":
        return open_runtime(export_ncnn(path, 1, lambda text: None).path, device, 2)
    flavour = {"tensorrt": "tensorrt", "tensorrt-rtx": "rtx"}[name]
    return open_runtime(
        build_engine(path, FLAVOURS[flavour], [PROFILE], (), lambda text: None).path, device, 2
    )


@pytest.mark.parametrize("size", [(1, 32, 32), (3, 64, 97), (2, 130, 45)])
@pytest.mark.slow
def test_contract(runtime, size):
    """Oracle: the net's convolutions in float64; average and softmax written out in NumPy."""
    images = np.random.default_rng(1).integers(0, 256, (size[0], 3, *size[1:]), np.uint8)
    before = images.copy()
    scores = runtime(images)
    net = thin_net("B").double()
    mean = np.array(net.spec.preprocessing.mean).reshape(1, 3, 1, 1)
    with torch.inference_mode():
        score_map = net(torch.from_numpy(images - mean)).numpy()
    logits = score_map.sum((2, 3)) / (score_map.shape[2] * score_map.shape[3])
    posterior = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert scores.score_map.dtype == scores.posterior.dtype == np.float32
    assert scores.score_map.shape == (size[0], 4, size[1] // 32, size[2] // 32)
    np.testing.assert_allclose(scores.score_map, score_map, atol=2e-5 * np.abs(score_map).max())
    np.testing.assert_allclose(scores.posterior, posterior, atol=1e-4)
    np.testing.assert_allclose(scores.posterior.sum(1), 1, atol=1e-6)
    np.testing.assert_array_equal(images, before)
    assert runtime.spec == thin_net("B").spec
    assert (runtime.threads, runtime.precision) == (2, "fp32") and runtime.name in PACKAGES
    if runtime.device == "cuda":
        on_device = runtime.on_device(torch.from_numpy(images).cuda())
        np.testing.assert_array_equal(on_device[0].cpu().numpy(), scores.posterior)
        np.testing.assert_array_equal(on_device[1].cpu().numpy(), scores.score_map)


def refused(path, **more) -> InputError:
    with pytest.raises(InputError) as caught:
        open_runtime(path, **more)
    assert caught.value.exit_code == 2
    return caught.value


def refusal(path, **more) -> str:
    return refused(path, **more).message


@pytest.mark.skipif(
    torch.cuda.is_available(), reason="this machine has the GPU whose absence is tested"
)
def test_a_device_that_is_not_there_is_an_error_not_another_device(tmp_path, checkpoint):
    error = refused(checkpoint, device="cuda")
    assert "PyTorch sees no CUDA GPU; run on the CPU" in error.message and error.about == "device"
    error = refused(write(tmp_path), device="cuda")
    assert "device cuda" in error.message and "run it on the CPU" in error.message
    assert error.about == "device"


def test_files_that_are_no_model(tmp_path):
    path = tmp_path / "text.onnx"
    path.write_text("hello")
    assert "not a model that ONNX Runtime can load" in refusal(path)
    path.write_bytes(write(tmp_path).read_bytes()[:-1000])
    assert str(path) in refusal(path)
    assert "no such file" in refusal(tmp_path / "gone.onnx")


def test_a_file_with_damaged_bytes_is_refused_or_loads(tmp_path):
    """300 random damages of the graph's own bytes: never an exception without a message."""
    path, rng = write(tmp_path), np.random.default_rng(0)
    whole = path.read_bytes()
    refused = 0
    for _ in range(300):
        spoilt = bytearray(whole)
        for at in rng.integers(0, 6000, 4):
            spoilt[at] = rng.integers(0, 256)
        path.write_bytes(spoilt)
        try:
            open_runtime(path)
        except InputError as error:
            refused += "export it again" in error.message or "vgg-export" in error.message
    assert refused > 100


def test_an_onnx_file_of_somebody_else_has_no_preprocessing(tmp_path):
    model = onnx.load(write(tmp_path))
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "other.onnx")
    assert "its preprocessing is unknown" in refusal(tmp_path / "other.onnx")


def with_metadata(tmp_path, **changes):
    model = onnx.load(write(tmp_path))
    metadata = json.loads(model.metadata_props[0].value)
    helper.set_model_props(model, {KEY: json.dumps({**metadata, **changes})})
    onnx.save(model, tmp_path / "changed.onnx")
    return tmp_path / "changed.onnx"


def test_metadata_that_does_not_fit_the_graph_is_refused(tmp_path):
    assert "promises input" in refusal(with_metadata(tmp_path, input="float32"))
    spec = json.loads(thin_net("B", classes=("a", "b", "c")).spec.to_json())
    assert "promises posterior of 3 channels" in refusal(with_metadata(tmp_path, spec=spec))
    assert "metadata version 9" in refusal(with_metadata(tmp_path, version=9))
    assert "input form 'yuv'" in refusal(with_metadata(tmp_path, input="yuv"))
    assert "spec is 3, expected: object; export it again" in refusal(
        with_metadata(tmp_path, spec=3)
    )


def test_a_file_changed_since_its_export_is_refused(tmp_path):
    path = write(tmp_path)
    manifest_path(path).write_text(json.dumps({"sha256": sha256(path)}))
    open_runtime(path)
    model = onnx.load(path)
    model.graph.initializer[3].raw_data = bytes(len(model.graph.initializer[3].raw_data))
    onnx.save(model, path)
    assert "changed since it was exported" in refusal(path)
    manifest_path(path).write_text("[]")
    assert f"is not a JSON object; export {path.name} again" in refusal(path)
    manifest_path(path).write_text("{}")
    assert f"has no 'sha256'; export {path.name} again" in refusal(path)


def test_two_onnxruntime_wheels_are_named(tmp_path, monkeypatch):
    """Two distributions as pip would leave them; the real search finds them."""
    for name in ("onnxruntime", "onnxruntime_gpu"):
        folder = tmp_path / "site" / f"{name}-1.0.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n"
        )
    path = write(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    both = "onnxruntime 1.0 and onnxruntime-gpu .* are both installed"
    with pytest.raises(InputError, match=both) as caught:
        OnnxRuntime(path)
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in caught.value.message


@pytest.mark.parametrize("package", ["onnxruntime", "onnxruntime-gpu"])
def test_either_onnxruntime_wheel_is_found(package, monkeypatch):
    """The one without a GPU is the only one for macOS and for Linux on ARM."""
    monkeypatch.setattr(packages, "version", only(package))
    assert packages.runtime_package("onnxruntime") == package
    assert packages.runtime_package("onnxruntime-tensorrt") == package
    assert runtime_version("onnxruntime") == "1.31"


def test_a_runtime_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(packages, "version", only("torch"))
    missing = "onnxruntime is not installed; pip install onnxruntime or onnxruntime-gpu"
    with pytest.raises(InputError, match=missing):
        runtime_version("onnxruntime")


def only(installed: str):
    """`importlib.metadata.version` on a machine with one package."""

    def version(package: str) -> str:
        if package != installed:
            raise PackageNotFoundError(package)
        return "1.31"

    return version


@pytest.mark.parametrize(
    ("count", "height", "width"), [(1, 7, 7), (3, 7, 9), (2, 30, 23), (40, 8, 8)]
)
def test_fc6_as_products_is_its_convolution(count, height, width, monkeypatch):
    """Oracle: the convolution in float64. Also if one map is more than is multiplied at once."""
    monkeypatch.setattr(fully_connected, "ROWS", 100)
    torch.manual_seed(0)
    fc = torch.nn.Conv2d(12, 20, 7).to(memory_format=torch.channels_last)
    maps = torch.randn(count, 12, height, width).to(memory_format=torch.channels_last)
    with torch.no_grad():
        found = fully_connected.fc_channels_last(fc, maps)
        expected = fc.double()(maps.double())
    assert found.shape == expected.shape
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch sees no CUDA GPU here")
def test_page_locked_memory_stays_page_locked_as_an_array():
    pixels = page_locked((2, 3, 40, 50))
    assert pixels.shape == (2, 3, 40, 50) and pixels.dtype == np.uint8
    assert torch.from_numpy(pixels).is_pinned() and torch.from_numpy(pixels[:1]).is_pinned()


def rewritten(tmp_path, name, change):
    """An ONNX file of ours whose graph another program has changed."""
    model = onnx.load(write(tmp_path))
    change(model.graph)
    onnx.save(model, tmp_path / name)
    return tmp_path / name


def declared(graph, output, kind, shape):
    """Let the graph declare another type and shape of an output."""
    value = next(value for value in graph.output if value.name == output)
    value.CopyFrom(helper.make_tensor_value_info(output, kind, shape))


def constant(graph, name, values):
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(values, np.int64), name))
    return name


def one_row(graph):
    behind(graph, "posterior", "Slice", constant(graph, "zero", [0]), constant(graph, "one", [1]))


def empty_map(graph):
    ends = [constant(graph, "from", [0]), constant(graph, "to", [0]), constant(graph, "axis", [2])]
    behind(graph, "score_map", "Slice", *ends)


def more_of_the_map(graph):
    behind(graph, "score_map", "Concat", "score_map.before", axis=3)


@pytest.mark.parametrize(
    ("change", "name", "found"),
    [
        (one_row, "posterior", r"\(1, 4\)"),
        (twice_the_rows, "posterior", r"\(6, 4\)"),
        (empty_map, "score_map", r"\(3, 4, 0, 3\)"),
        (more_of_the_map, "score_map", r"\(3, 4, 2, 6\)"),
    ],
)
def test_outputs_of_other_shapes_are_a_fault_of_the_file(tmp_path, change, name, found):
    """They need not be what the graph declares, so each call is checked."""
    runtime = open_runtime(rewritten(tmp_path, "evil.onnx", change))
    images = np.zeros((3, 3, 64, 96), np.uint8)
    message = (
        f"evil.onnx: its {name} for 3 images of 64x96 is float32 {found} and should be float32"
    )
    with pytest.raises(WrongOutputs, match=message) as failed:
        runtime(images)
    assert failed.value.exit_code == 1


@pytest.mark.parametrize("kind", ["INT64", "DOUBLE", "FLOAT16", "BOOL", "STRING"])
def test_outputs_of_another_type_are_refused_at_opening(tmp_path, kind):
    number = getattr(onnx.TensorProto, kind)

    def change(graph):
        behind(graph, "posterior", "Cast", to=number)
        declared(graph, "posterior", number, ["batch", 4])

    assert "the graph gives" in refusal(rewritten(tmp_path, "evil.onnx", change))


@pytest.mark.parametrize(
    ("output", "shape"),
    [("posterior", ["batch", 4, 1]), ("posterior", [4]), ("score_map", ["batch", 4])],
)
def test_outputs_of_another_rank_are_refused_at_opening(tmp_path, output, shape):
    def change(graph):
        kept = {"posterior": [0, 4, 1], "score_map": [0, 4]}[output] if len(shape) > 1 else [-1]
        behind(graph, output, "Reshape", constant(graph, "shape", kept))
        declared(graph, output, onnx.TensorProto.FLOAT, shape)

    assert "the graph gives" in refusal(rewritten(tmp_path, "evil.onnx", change))


@pytest.mark.parametrize(
    ("outputs", "found"),
    [
        ((np.zeros((2, 4)), np.zeros((2, 4, 1, 2), np.float32)), "float64"),
        (
            (np.zeros((2, 4, 1), np.float32), np.zeros((2, 4, 1, 2), np.float32)),
            r"float32 \(2, 4, 1\)",
        ),
        ((np.full((2, 4), "a", object), np.zeros((2, 4, 1, 2), np.float32)), "object"),
        (([[0.25] * 4] * 2, np.zeros((2, 4, 1, 2), np.float32)), "a list"),
        (
            (np.zeros((2, 4), np.float32), np.zeros((2, 4, 1, 0), np.float32)),
            r"float32 \(2, 4, 1, 0\)",
        ),
        (
            (np.zeros((2, 4), np.float32), np.zeros((2, 4), np.float32)),
            r"score_map for 2 images of 32x64 is float32 \(2, 4\)",
        ),
    ],
)
def test_every_output_is_checked_before_it_becomes_scores(outputs, found):
    images, spec = np.zeros((2, 3, 32, 64), np.uint8), thin_net("B").spec
    with pytest.raises(WrongOutputs, match=f"file: its .*{found}"):
        checked(dict(zip(SCORES, outputs, strict=True)), images, spec, "file")
    sound = {
        "posterior": np.zeros((2, 4), np.float32),
        "score_map": np.zeros((2, 4, 1, 2), np.float32),
    }
    assert checked(sound, images, spec, "file") == sound


def test_errors_of_onnxruntime_in_a_call_name_the_file(tmp_path):
    """A description with a smaller crop than the net's: fc6 has no window on such an image."""
    spec = json.loads(thin_net("B", crop=32).spec.to_json())
    net = thin_net("B", crop=64)
    model = onnx.load(write(tmp_path, net=net))
    metadata = json.loads(model.metadata_props[0].value)
    helper.set_model_props(model, {KEY: json.dumps({**metadata, "spec": spec})})
    onnx.save(model, tmp_path / "small.onnx")
    with pytest.raises(
        InputError, match="small.onnx: ONNX Runtime cannot run it on 2 images of 32x48"
    ) as failed:
        open_runtime(tmp_path / "small.onnx")(np.zeros((2, 3, 32, 48), np.uint8))
    assert failed.value.exit_code == 2 and "\n" not in failed.value.message
