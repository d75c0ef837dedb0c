"""The ONNX graph of a net against PyTorch, torch.onnx.export and onnx's own helpers."""

import warnings

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from export.onnx.graph import onnx_graph
from export.onnx.onnx_file import write_onnx
from export.settings.precision import PRECISIONS
from tests.support.nets import thin_net
from vgg_deploy.exported.metadata import KEY, Artifact
from vgg_deploy.net.archs import ARCHS
from vgg_deploy.net.model import posterior
from vgg_deploy.net.spec import USUAL_MEAN, USUAL_STD


def written(net, path, form="uint8"):
    artifact = Artifact(net.spec, form, "fp32", "net.pt", "0" * 64)
    write_onnx(path, onnx_graph(net, artifact, PRECISIONS["fp32"]))
    return path


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def run(path, images):
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["posterior", "score_map"], {"image": images})


@torch.inference_mode()
def pytorch(net, images):
    mean = torch.tensor(net.spec.preprocessing.mean).view(1, 3, 1, 1)
    score_map = net(torch.from_numpy(images).float() - mean)
    return posterior(score_map).numpy(), score_map.numpy()


SIZES = [(1, 32, 32), (2, 64, 64), (3, 33, 95), (1, 127, 40), (2, 224, 160), (5, 50, 63)]


@pytest.mark.parametrize("arch", ARCHS)
def test_every_net_at_many_sizes_equals_pytorch(arch, tmp_path):
    net = thin_net(arch)
    path = written(net, tmp_path / "net.onnx")
    for size in SIZES:
        images = pixels(size[0], 3, *size[1:])
        for found, expected in zip(run(path, images), pytorch(net, images), strict=True):
            assert found.shape == expected.shape
            np.testing.assert_allclose(
                found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max()
            )


@pytest.mark.parametrize("lrn", ["alexnet", "caffe"])
def test_both_readings_of_lrn_reach_the_file(lrn, tmp_path):
    net = thin_net("A-LRN", lrn=lrn)
    images = pixels(1, 3, 64, 64)
    found, expected = run(written(net, tmp_path / "net.onnx"), images)[1], pytorch(net, images)[1]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_input_forms_are_the_same_net(tmp_path):
    """Oracle for the normalised form: pixels normalised as torchvision does it."""
    net, images = thin_net(), pixels(2, 3, 50, 70)
    expected = run(written(net, tmp_path / "u.onnx"), images)[1]
    as_float = run(written(net, tmp_path / "f.onnx", "float32"), images.astype(np.float32))[1]
    np.testing.assert_array_equal(as_float, expected)
    mean, std = (np.array(v, np.float32).reshape(3, 1, 1) for v in (USUAL_MEAN, USUAL_STD))
    normalised = (images.astype(np.float32) / 255 - mean) / std
    as_normalised = run(written(net, tmp_path / "n.onnx", "normalised"), normalised)[1]
    np.testing.assert_allclose(as_normalised, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
def test_the_graph_is_the_one_that_torch_onnx_export_traces(tmp_path):
    """Oracle: PyTorch's own exporter, operator by operator."""
    net = thin_net("C")

    class Deployed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, image):
            score_map = self.net(image - torch.tensor(net.spec.preprocessing.mean).view(1, 3, 1, 1))
            return posterior(score_map), score_map

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dims = {
            "image": {
                0: torch.export.Dim("batch"),
                2: torch.export.Dim("h", min=64, max=512),
                3: torch.export.Dim("w", min=64, max=512),
            }
        }
        traced = torch.onnx.export(
            Deployed().eval(),
            (torch.zeros(2, 3, 96, 128),),
            dynamo=True,
            opset_version=20,
            dynamic_shapes=dims,
            input_names=["image"],
            verbose=False,
        ).model_proto
    own = onnx.load(written(net, tmp_path / "net.onnx", "float32"))

    def operators(model):
        return [node.op_type for node in model.graph.node if node.op_type != "Constant"]

    assert operators(own) == operators(traced)
    images = pixels(2, 3, 80, 110).astype(np.float32)
    reference = ort.InferenceSession(
        traced.SerializeToString(), providers=["CPUExecutionProvider"]
    ).run(None, {"image": images})
    for found, expected in zip(run(tmp_path / "net.onnx", images), reference, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_names_and_shapes_are_clean(tmp_path):
    model = onnx.load(written(thin_net("D"), tmp_path / "net.onnx"))
    onnx.checker.check_model(model, full_check=True)
    assert [(i.version, i.domain) for i in model.opset_import] == [(20, "")]
    names = [node.name for node in model.graph.node]
    assert names[:6] == ["to_float", "subtract_mean", "conv1_1", "relu1_1", "conv1_2", "relu1_2"]
    assert names[-7:] == ["fc6", "relu6", "fc7", "relu7", "fc8", "mean_score", "softmax"]
    shapes = {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {
        "image": ["batch", 3, "height", "width"],
        "posterior": ["batch", 4],
        "score_map": ["batch", 4, "map_height", "map_width"],
    }
    assert {t.name for t in model.graph.initializer} >= {
        "conv1_1.weight",
        "conv5_3.bias",
        "fc8.weight",
    }
    assert "Dropout" not in {node.op_type for node in model.graph.node}


def test_the_streamed_file_is_what_protobuf_itself_would_write(tmp_path):
    """Oracle: the same model put together in memory by onnx's own helpers."""
    net = thin_net("A-LRN")
    graph = onnx_graph(
        net, Artifact(net.spec, "uint8", "fp32", "net.pt", "0" * 64), PRECISIONS["fp32"]
    )
    write_onnx(tmp_path / "net.onnx", graph)
    whole = onnx.ModelProto()
    whole.CopyFrom(graph.model)
    whole.graph.initializer.extend(
        onnx.numpy_helper.from_array(array, name) for name, array in graph.weights.items()
    )
    streamed = onnx.load(tmp_path / "net.onnx")
    assert streamed == whole
    assert len((tmp_path / "net.onnx").read_bytes()) == whole.ByteSize()


def test_metadata_has_everything_needed_to_feed_the_net(tmp_path):
    net = thin_net("B", names=("Scheibe", "Quadrat", "Streifen", "Dreieck"))
    model = onnx.load(written(net, tmp_path / "net.onnx"))
    entries = {entry.key: entry.value for entry in model.metadata_props}
    assert entries["vgg_deploy.kept"] == "fc8"
    artifact = Artifact.from_json(entries[KEY], "net.onnx")
    assert artifact.spec == net.spec
    assert (artifact.input, artifact.precision, artifact.source, artifact.source_sha256) == (
        "uint8",
        "fp32",
        "net.pt",
        "0" * 64,
    )
