"""ncnn in parts: stages in bands, one head for the windows of several images, bfloat16."""

import importlib.util

import numpy as np
import pytest
import torch

from export.onnx.graph import onnx_graph
from export.onnx.onnx_file import write_onnx
from export.settings.precision import PRECISIONS
from export.write_ncnn import export_ncnn
from tests.support.nets import thin_net
from vgg_deploy.exported.metadata import Artifact
from vgg_deploy.exported.ncnn_files import ncnn_graph
from vgg_deploy.net.outputs import SCORES
from vgg_deploy.runtimes import ncnn_cut, ncnn_head, open_runtime
from vgg_deploy.runtimes.ncnn_bands import band_ends
from vgg_deploy.runtimes.pytorch import TorchRuntime

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ncnn") is None, reason="ncnn is not installed: pip install ncnn"
)


def artifact_of(net, layers=(), has_scores=True):
    outputs = (*SCORES, *layers) if has_scores else layers
    return Artifact(net.spec, "float32", "fp32", "net.pt", "0" * 64, outputs)


def exported(folder, net, layers=(), has_scores=True):
    path = folder / f"{net.spec.arch}.fp32.onnx"
    write_onnx(path, onnx_graph(net, artifact_of(net, layers, has_scores), PRECISIONS["fp32"]))
    return export_ncnn(path, 1, lambda text: None).path


def images_of(count, height, width):
    return np.random.default_rng(height).integers(0, 256, (count, 3, height, width), np.uint8)


def float64_scores(net, images):
    mean = torch.tensor(net.spec.preprocessing.mean).double().view(1, 3, 1, 1)
    with torch.inference_mode():
        return net.double()(torch.from_numpy(images).double() - mean).numpy()


@pytest.fixture
def narrow_bands(monkeypatch):
    """As many bands as there may be, in small images too."""
    for pool in ncnn_cut.IN_BANDS:
        monkeypatch.setitem(ncnn_cut.IN_BANDS, pool, 1)


@pytest.mark.usefixtures("narrow_bands")
@pytest.mark.parametrize("arch", ["A-LRN", "B", "C", "E"])
def test_bands_are_exact(tmp_path, arch):
    """Oracle: the net in float64. Stages of one to four convolutions, of 1x1 too, LRN, odd sides.

    Without the rows beside a band the error is more than 0.1 of the largest score.
    """
    net = thin_net(arch, **({"lrn": "alexnet"} if arch == "A-LRN" else {}))
    runtime = open_runtime(exported(tmp_path, net))
    for size in ((1, 131, 45), (2, 260, 33)):
        images = images_of(*size)
        expected = float64_scores(net, images)
        found = runtime(images).score_map
        np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max())


def test_bands_cover_a_stage_and_are_as_large_as_allowed():
    """Worked out by hand: conv1_2 of a full-width net at 512 x 512 has 64 inputs."""
    graph = ncnn_graph(artifact_of(thin_net("D", width=1)))
    first, second, third, fourth = ncnn_cut.cut(graph).stages
    assert [stage.halo for stage in (first, second, third, fourth)] == [2, 2, 4, 4]
    # 256 rows of output, 2 * 512 * 64 * 2.25 * 4 = 589,824 bytes each: 10 MiB hold 17
    ends = band_ends(first, 512, 512)
    assert len(ends) - 1 == 15 and (ends[0], ends[-1]) == (0, 256)
    assert max(np.diff(ends)) == 18 and min(np.diff(ends)) == 17
    assert band_ends(first, 64, 64) == [0, 32] and band_ends(third, 128, 128) == [0, 64]
    # never bands of less than 8 rows, however wide an image is
    assert min(np.diff(band_ends(second, 64, 10**6))) == 8


@pytest.mark.parametrize(
    ("layers", "stages"), [((), 4), (("conv1_1",), 0), (("pool2",), 1), (("relu4_3",), 3)]
)
def test_every_layer_is_in_one_part(layers, stages):
    """A stage that gives an output is no stage, and none behind it."""
    graph = ncnn_graph(artifact_of(thin_net("D"), layers))
    parts = ncnn_cut.cut(graph)
    assert len(parts.stages) == stages and parts.side == 1
    found = [*parts.stages, parts.body, parts.head]
    offset = 0
    for part in found:
        assert part.offset == offset
        offset += sum(array.bytes for layer in part.layers for array in layer.arrays)
    assert offset == graph.weight_bytes
    for before, after in zip(found, found[1:], strict=False):
        assert before.gives == after.reads
    names = [layer.name for part in found for layer in part.layers[1:]]
    assert names == [layer.name for layer in graph.layers[1:-2]]  # all but average and softmax


@pytest.mark.parametrize("windows", [1, 3, 7, 128])
def test_the_windows_of_several_images(tmp_path, monkeypatch, windows):
    """Oracle: the net in float64. One image's windows in strips, several images' together."""
    monkeypatch.setattr(ncnn_head, "WINDOWS", windows)
    net = thin_net("B", crop=64)
    runtime = open_runtime(exported(tmp_path, net, ("fc6", "relu7")))
    for size in ((1, 64, 64), (5, 64, 97), (3, 163, 130)):
        images = images_of(*size)
        expected = float64_scores(net, images)
        found = runtime.run(images, (*SCORES, "relu7", "fc6"))
        tolerance = 2e-5 * np.abs(expected).max()
        np.testing.assert_allclose(found["score_map"], expected, atol=tolerance)
        logits = expected.mean((2, 3))
        posterior = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        np.testing.assert_allclose(found["posterior"], posterior, atol=1e-5)
        torch_net = TorchRuntime(net.float())
        for name, values in torch_net.run(images, ("fc6", "relu7")).items():
            np.testing.assert_allclose(found[name], values, atol=2e-5 * np.abs(values).max())


@pytest.mark.usefixtures("narrow_bands")
@pytest.mark.parametrize(
    ("layers", "scores"),
    [(("pool1",), False), (("relu3_2",), False), (("pool5",), True), (("conv1_2", "fc7"), False)],
)
def test_features_of_all_parts(tmp_path, layers, scores):
    """Oracle: PyTorch's layers."""
    net = thin_net("D")
    runtime = open_runtime(exported(tmp_path, net, layers, scores))
    images = images_of(2, 70, 101)
    expected = TorchRuntime(net).run(images, layers)
    asked = [*layers, "score_map"] if scores else layers
    found = runtime.run(images, asked)
    for name in layers:
        tolerance = 2e-5 * np.abs(expected[name]).max()
        np.testing.assert_allclose(found[name], expected[name], atol=tolerance)


@pytest.mark.usefixtures("narrow_bands")
@pytest.mark.parametrize("bands", [True, False])
def test_bfloat16_is_asked_for_by_name(tmp_path, monkeypatch, bands):
    """Oracle: the net in float64. Rounding to 8 bits shows, and nothing else."""
    if not bands:
        monkeypatch.undo()
    net = thin_net("D", width=1 / 8)
    path = exported(tmp_path, net)
    images = images_of(2, 96, 128)
    expected = float64_scores(net, images)
    runtime = open_runtime(path, runtime="ncnn-bf16", threads=2)
    assert (runtime.name, runtime.precision) == ("ncnn-bf16", "bf16")
    found = runtime(images).score_map
    error = np.sqrt(np.mean((found - expected) ** 2) / np.mean(expected**2))
    assert 1e-3 < error < 3e-2
    exact = open_runtime(path)
    assert (exact.name, exact.precision) == ("ncnn", "fp32")
