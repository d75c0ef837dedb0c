"""ncnn in parts: stages in bands, fc6 from sums of rows for a whole batch; bfloat16."""

import importlib.util

import numpy as np
import pytest
import torch

from export.onnx.graph import onnx_graph
from export.onnx.onnx_file import write_onnx
from export.settings.precision import PRECISIONS
from export.write_ncnn import export_ncnn
from tests.support.nets import thin_net, thin_spec
from vgg_deploy.errors import InputError
from vgg_deploy.exported.metadata import Artifact, weights_path
from vgg_deploy.exported.ncnn_files import find_ncnn, ncnn_graph
from vgg_deploy.net.outputs import SCORES
from vgg_deploy.runtimes import ncnn as ncnn_runtime
from vgg_deploy.runtimes import ncnn_cut, open_runtime
from vgg_deploy.runtimes.ncnn_bands import band_ends
from vgg_deploy.runtimes.ncnn_rows import OF_INPUTS, OF_KERNELS, OF_PRODUCTS, sums_of_rows
from vgg_deploy.runtimes.pytorch import TorchRuntime

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ncnn") is None, reason="ncnn is not installed: pip install ncnn"
)


def artifact_of(net, layers=(), has_scores=True, form="float32"):
    outputs = (*SCORES, *layers) if has_scores else layers
    return Artifact(net.spec, form, "fp32", "net.pt", "0" * 64, outputs)


def exported(folder, net, layers=(), has_scores=True, form="float32"):
    path, artifact = folder / f"{net.spec.arch}.onnx", artifact_of(net, layers, has_scores, form)
    write_onnx(path, onnx_graph(net, artifact, PRECISIONS["fp32"]))
    return export_ncnn(path, 1, lambda text: None).path


def images_of(count, height, width):
    return np.random.default_rng(height).integers(0, 256, (count, 3, height, width), np.uint8)


def float64_scores(net, images):
    mean = torch.tensor(net.spec.preprocessing.mean).double().view(1, 3, 1, 1)
    with torch.inference_mode():
        return net.double()(torch.from_numpy(images).double() - mean).numpy()


def assert_close(found, expected):
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


@pytest.fixture
def parts(monkeypatch):
    """A thin net is cut like a wide one, into as many bands as there may be."""
    monkeypatch.setattr(ncnn_cut, "LEAST_CHANNELS", 1)
    monkeypatch.setattr(ncnn_cut, "LEAST_BYTES", 1)
    for pool in ncnn_cut.IN_BANDS:
        monkeypatch.setitem(ncnn_cut.IN_BANDS, pool, 1)


def test_sums_give_two_rows_exactly():
    """Oracle: NumPy's correlation, in float64."""
    rng = np.random.default_rng(0)
    values, kernel = rng.normal(size=8), rng.normal(size=7)
    found = OF_PRODUCTS @ ((OF_KERNELS @ kernel) * (OF_INPUTS @ values))
    np.testing.assert_allclose(found, np.correlate(values, kernel), rtol=0, atol=1e-13)


@pytest.mark.parametrize("height", [7, 8, 9, 14])
def test_rows_of_inputs(height):
    """Oracle: the matrix on each block of 8 rows, 2 apart, zeros below the last row."""
    values = np.random.default_rng(height).normal(size=(3, height, 5)).astype(np.float32)
    padded = np.concatenate([values, np.zeros((3, 1, 5), np.float32)], 1)
    pairs = -(-(height - 6) // 2)
    expected = [
        np.einsum("pr,crw->pcw", OF_INPUTS, padded[:, 2 * i : 2 * i + 8]) for i in range(pairs)
    ]
    np.testing.assert_allclose(sums_of_rows(values), np.stack(expected, 2), atol=1e-5)


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("columns", [1, 3, 128])
def test_rows_of_several_images(tmp_path, monkeypatch, columns):
    """Oracle: the net in float64. Score maps of 1 x 1, odd and even heights, several images."""
    monkeypatch.setattr(ncnn_runtime, "COLUMNS", columns)
    net = thin_net("B", crop=224)
    runtime = open_runtime(exported(tmp_path, net, ("fc6", "relu7")))
    assert [len(runtime._stages), runtime._head is not None] == [2, True]
    for size in ((1, 224, 224), (2, 257, 230), (3, 224, 300), (2, 300, 331)):
        images = images_of(*size)
        found = runtime.run(images, (*SCORES, "relu7", "fc6"))
        expected = float64_scores(net, images)
        assert_close(found["score_map"], expected)
        logits = expected.mean((2, 3))
        posterior = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        np.testing.assert_allclose(found["posterior"], posterior, atol=1e-5)
        for name, values in TorchRuntime(net.float()).run(images, ("fc6", "relu7")).items():
            assert_close(found[name], values)


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("arch", ["A-LRN", "B", "C", "E"])
def test_bands_are_exact(tmp_path, arch):
    """Oracle: the net in float64. Stages of one and two convolutions, LRN, odd sides, kernel of 1.

    Without the rows beside a band the error is more than 0.1 of the largest score.
    """
    net = thin_net(arch, **({"lrn": "alexnet"} if arch == "A-LRN" else {}))
    runtime = open_runtime(exported(tmp_path, net))
    assert len(runtime._stages) == 2 and runtime._head is None
    for size in ((1, 131, 45), (2, 260, 33)):
        images = images_of(*size)
        assert_close(runtime(images).score_map, float64_scores(net, images))


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize(
    ("layers", "scores", "stages"),
    [
        (("pool1",), False, 1),
        (("relu3_2",), False, 2),
        (("pool5",), True, 2),
        (("conv1_2", "fc7"), False, 0),
        (("pool2", "relu6"), True, 1),
    ],
)
def test_features_of_all_parts(tmp_path, layers, scores, stages):
    """Oracle: PyTorch's layers. A stage that gives an output is no stage, and none behind it."""
    net = thin_net("D", crop=224)
    runtime = open_runtime(exported(tmp_path, net, layers, scores))
    assert len(runtime._stages) == stages
    images = images_of(2, 230, 261)
    asked = [*layers, "score_map"] if scores else layers
    found = runtime.run(images, asked)
    for name, values in TorchRuntime(net).run(images, layers).items():
        assert_close(found[name], values)
    if scores:
        assert_close(found["score_map"], float64_scores(net, images))


@pytest.mark.usefixtures("parts")
def test_usual_input_and_boxes(tmp_path):
    """Oracles: PyTorch's boxes; the net in float64 for an input that is normalised."""
    boxes = thin_net("A", crop=224, boxes="per-class")
    path = tmp_path / "boxes.onnx"
    artifact = Artifact(boxes.spec, "float32", "fp32", "net.pt", "0" * 64, ("boxes",))
    write_onnx(path, onnx_graph(boxes, artifact, PRECISIONS["fp32"]))
    images = images_of(2, 224, 260)
    runtime = open_runtime(export_ncnn(path, 1, lambda text: None).path)
    assert runtime._head is not None
    found = runtime.run(images, ("boxes",))["boxes"]
    assert_close(found, TorchRuntime(boxes).run(images, ("boxes",))["boxes"])
    net = thin_net("A", crop=224)
    runtime = open_runtime(exported(tmp_path, net, form="normalised"))
    assert_close(runtime(images).score_map, float64_scores(net, images))


def test_wide_nets_are_cut_and_thin_ones_are_not():
    """Worked out by hand: conv1_2 of full width at 512 x 512 gives 64 values a pixel."""
    wide = Artifact(thin_spec("D", width=1, crop=224), "float32", "fp32", "net.pt", "0" * 64)
    parts = ncnn_cut.cut(ncnn_graph(wide))
    first, second = parts.stages
    assert (first.halo, second.halo, parts.head is not None) == (2, 2, True)
    # 256 rows of output, 2 * 512 * 64 * 4 = 262,144 bytes each: 4 MiB hold 16
    assert band_ends(first, 512, 512) == list(range(0, 257, 16))
    assert band_ends(second, 128, 128) == [0, 64]  # 128 * 128 * 128 * 4 bytes are 8 MiB
    # never bands of less than 8 rows, however wide an image is
    assert min(np.diff(band_ends(second, 64, 10**6))) == 8
    graph = ncnn_graph(artifact_of(thin_net("D", crop=224)))
    thin = ncnn_cut.cut(graph)
    assert (thin.stages, thin.head) == ((), None)
    assert len(thin.body.layers) == len(graph.layers)


@pytest.mark.usefixtures("parts")
def test_weights_that_end_while_they_are_read(tmp_path):
    """A file that shrinks after it was compared is refused, in one sentence."""
    path = exported(tmp_path, thin_net("A", crop=224))
    files, whole = find_ncnn(path), weights_path(path).read_bytes()
    for part in (0.5, 0.01):  # in the middle of fc6, and of the convolutions
        weights_path(path).write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(InputError, match=r"ncnn .* does not load it"):
            ncnn_runtime.NcnnRuntime(files)
    weights_path(path).unlink()
    with pytest.raises(InputError, match="cannot be read"):
        ncnn_runtime.NcnnRuntime(files)


def test_bfloat16_is_asked_for_by_name(tmp_path):
    """Oracle: the net in float64. Rounding to 8 bits shows, and nothing else."""
    net = thin_net("D", width=1 / 8)
    path, images = exported(tmp_path, net), images_of(2, 96, 128)
    expected = float64_scores(net, images)
    runtime = open_runtime(path, runtime="ncnn-bf16", threads=2)
    assert (runtime.name, runtime.precision) == ("ncnn-bf16", "bf16")
    error = runtime(images).score_map - expected
    assert 1e-3 < np.sqrt(np.mean(error**2) / np.mean(expected**2)) < 3e-2
    exact = open_runtime(path)
    assert (exact.name, exact.precision) == ("ncnn", "fp32")
    assert_close(exact(images).score_map, expected)
