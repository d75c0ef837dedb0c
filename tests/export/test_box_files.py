"""Files of localisers, against Table 1 written as plain functions in float64."""

import json

import numpy as np
import onnx
import pytest
import torch

from bench.cli import main as bench
from export.cli import main as export
from export.joined_release import export_joined
from export.onnx import joined_graph
from export.release import ExportOptions, export_onnx
from export.tensorrt.triton import write_repository
from export.write_ncnn import export_ncnn
from tests.support.layer_oracle import plain_forward
from tests.support.nets import CLASSES, photo_of, save_net, thin_net
from tests.support.run import run
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.net.spec import Preprocessing
from vgg_deploy.predict.model import load
from vgg_deploy.runtimes import open_runtime

PRECISIONS = ("fp32", "fp16", "bf16", "int8", "int8-cpu", "fp8")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for i in range(16):
        photo_of("square", rng).resize((64, 64)).save(root / f"{i:02d}.png")
    return root


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(3).integers(0, 256, (2, 3, 71, 96), np.uint8)


def written(folder, boxes, *precisions, **settings):
    net = thin_net("D", seed=3, boxes=boxes)
    options = ExportOptions(precisions or ("fp32",), **settings)
    source = save_net(net, folder / "net.pt")
    return net, export_onnx(source, folder / "out", options, None, 1, lambda text: None)


@pytest.mark.parametrize(("boxes", "numbers"), [("shared", 4), ("per-class", 4 * len(CLASSES))])
@pytest.mark.slow
def test_boxes_are_those_of_the_net_in_every_precision(boxes, numbers, photos, images, tmp_path):
    net, files = written(tmp_path, boxes, *PRECISIONS, calibration=photos)
    assert [f.path.name for f in files] == [f"D.boxes.{p}.onnx" for p in PRECISIONS]
    expected = plain_forward(net, images)["fc8"]
    assert expected.shape == (2, numbers, 2, 3)
    limits = {"fp32": 1e-5, "fp16": 5e-3, "bf16": 4e-2}
    for file in files:
        manifest = json.loads(file.path.with_suffix(".json").read_text())
        assert manifest["outputs"] == ["boxes"] and manifest["spec"]["boxes"] == boxes
        found = open_runtime(file.path).run(images, ("boxes",)) if _runs(file) else None
        precision = file.artifact.precision
        if precision in limits:
            assert max(r.error for r in file.features) < limits[precision]
            if found:
                error = np.linalg.norm(found["boxes"] - expected) / np.linalg.norm(expected)
                assert error < limits[precision]
        else:
            (cost,) = file.feature_costs
            assert cost.layer == "boxes" and 0 < cost.error_pct < 40


def _runs(file):
    return file.artifact.precision != "bf16"  # which ONNX Runtime has no CPU kernels for


def test_ncnn_and_triton_take_boxes(images, tmp_path):
    net, (file,) = written(tmp_path, "per-class")
    exported = export_ncnn(file.path, 1, lambda text: None)
    expected = plain_forward(net, images)["fc8"]
    found = open_runtime(exported.path).run(images, ("boxes",))["boxes"]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    write_repository(tmp_path / "models", [file.path], 8, lambda text: None)
    config = (tmp_path / "models" / "D_boxes_fp32_onnx" / "config.pbtxt").read_text()
    assert '{ name: "boxes", data_type: TYPE_FP32, dims: [ 16, -1, -1 ] }' in config


def test_boxes_stand_beside_layers(images, tmp_path):
    net, (file,) = written(tmp_path, "shared", features=("fc8", "relu7"), with_scores=True)
    runtime = open_runtime(file.path)
    assert runtime.outputs == ("boxes", "relu7", "fc8")
    found, expected = runtime.run(images, runtime.outputs), plain_forward(net, images)
    np.testing.assert_array_equal(found["boxes"], found["fc8"])
    np.testing.assert_allclose(found["relu7"], expected["relu7"], rtol=1e-3, atol=1e-4)
    weights = load(tmp_path / "net.pt", threads=1).runtime
    assert weights.outputs[0] == "boxes" and "posterior" not in weights.outputs
    again = weights.run(images, ("boxes",))["boxes"]
    np.testing.assert_allclose(again, expected["fc8"], rtol=1e-3, atol=1e-4)


def test_a_localiser_is_no_classifier(photos, tmp_path):
    _, (file,) = written(tmp_path, "shared")
    for path in (file.path, tmp_path / "net.pt"):
        with pytest.raises(InputError, match="is a localiser, which states boxes"):
            load(path, threads=1).predict(np.zeros((64, 64, 3), np.uint8))
        assert "is a localiser" in run(bench, path, "--data", photos, code=2)


def pair(folder, tuned, **more):
    """A classifier and a localiser whose layers from `tuned` on differ."""
    classifier, localiser = thin_net("D", seed=1), thin_net("D", seed=2, **more)
    layers = list(classifier.convolutions())
    kept = layers[: layers.index(tuned)]
    with torch.no_grad():
        for name in kept:
            for part in ("weight", "bias"):
                source = getattr(classifier.convolution(name), part)
                getattr(localiser.convolution(name), part).copy_(source)
    paths = [
        save_net(net, folder / f"{name}.pt")
        for name, net in (("classifier", classifier), ("localiser", localiser))
    ]
    return classifier, localiser, paths


@pytest.mark.parametrize(
    ("tuned", "own", "precisions"),
    [("conv1_1", 16, ("fp32",)), ("fc6", 3, ("fp32", "bf16", "int8-cpu"))],
    ids=["all layers tuned", "fully connected layers tuned"],
)
@pytest.mark.slow
def test_scores_and_boxes_in_one_file(tuned, own, precisions, photos, images, tmp_path):
    classifier, localiser, paths = pair(tmp_path, tuned, boxes="per-class")
    options = ExportOptions(precisions, calibration=photos)
    files = export_joined(*paths, tmp_path / "out", options, None, 1, lambda text: None)
    assert [f.path.name for f in files] == [f"D.scores-boxes.{p}.onnx" for p in precisions]
    scores, boxes = plain_forward(classifier, images)["fc8"], plain_forward(localiser, images)
    for file in files:
        model = onnx.load(file.path)
        convolutions = [node.name for node in model.graph.node if node.op_type == "Conv"]
        assert len(convolutions) == 16 + own
        manifest = json.loads(file.path.with_suffix(".json").read_text())
        assert max(manifest["differences_from_separate_files"].values()) <= 1e-4
        if file.artifact.precision != "fp32":
            continue
        runtime = open_runtime(file.path)
        found = runtime.run(images, ("score_map", "boxes"))
        np.testing.assert_allclose(found["score_map"], scores, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(found["boxes"], boxes["fc8"], rtol=1e-3, atol=1e-4)
        assert load(file.path, threads=1).predict(np.zeros((64, 64, 3), np.uint8)).posterior.any()
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_a_joined_file_that_mixes_nets_up_is_not_released(tmp_path, monkeypatch):
    _, _, paths = pair(tmp_path, "conv1_1", boxes="per-class")
    monkeypatch.setattr(joined_graph, "_equal", lambda array, other: array.shape == other.shape)
    with pytest.raises(CheckFailed, match="its boxes differs from that of the separate file"):
        export_joined(*paths, tmp_path / "out", ExportOptions(), None, 1, lambda text: None)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"classes": ("a", "b", "c", "d")}, "has other classes than classifier.pt"),
        ({"preprocessing": Preprocessing()}, "has another preprocessing than classifier.pt"),
    ],
)
def test_nets_of_other_input_or_classes_are_not_joined(more, said, tmp_path):
    _, _, paths = pair(tmp_path, "conv1_1", boxes="shared", **more)
    with pytest.raises(InputError, match=said):
        export_joined(*paths, tmp_path / "out", ExportOptions(), None, 1, lambda text: None)


def test_the_command_writes_both(photos, tmp_path):
    _, _, (classifier, localiser) = pair(tmp_path, "fc6", boxes="shared")
    out = tmp_path / "out"
    said = run(
        export, classifier, "--onnx", "--boxes-by", localiser, "--external-data", "--out", out
    )
    assert "boxes" in said
    assert open_runtime(out / "D.scores-boxes.fp32.onnx").outputs[-1] == "boxes"
    assert json.loads((out / "export.json").read_text())[0]["outputs"][-1] == "boxes"
    run(export, out / "D.scores-boxes.fp32.onnx", "--ncnn", "--out", out, code=2)
    said = run(export, classifier, "--onnx", "--boxes-by", classifier, "--out", out, code=2)
    assert "is a classifier, which scores classes and states no boxes" in said
    run(export, localiser, "--onnx", "--boxes-by", localiser, "--out", out, code=2)
