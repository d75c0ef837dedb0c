"""ncnn in bfloat16."""

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
from vgg_deploy.runtimes import open_runtime

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ncnn") is None, reason="ncnn is not installed: pip install ncnn"
)


def test_bfloat16_is_asked_for_by_name(tmp_path):
    """Oracle: the net in float64. Rounding to 8 bits shows, and nothing else."""
    net, onnx = thin_net("D", width=1 / 8), tmp_path / "D.fp32.onnx"
    artifact = Artifact(net.spec, "float32", "fp32", "net.pt", "0" * 64)
    write_onnx(onnx, onnx_graph(net, artifact, PRECISIONS["fp32"]))
    path = export_ncnn(onnx, 1, lambda text: None).path
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 96, 128), np.uint8)
    mean = torch.tensor(net.spec.preprocessing.mean).double().view(1, 3, 1, 1)
    with torch.inference_mode():
        expected = net.double()(torch.from_numpy(images).double() - mean).numpy()
    runtime = open_runtime(path, runtime="ncnn-bf16", threads=2)
    assert (runtime.name, runtime.precision) == ("ncnn-bf16", "bf16")
    error = runtime(images).score_map - expected
    assert 1e-3 < np.sqrt(np.mean(error**2) / np.mean(expected**2)) < 3e-2
    exact = open_runtime(path)
    assert (exact.name, exact.precision) == ("ncnn", "fp32")
    np.testing.assert_allclose(
        exact(images).score_map, expected, atol=2e-5 * np.abs(expected).max()
    )
