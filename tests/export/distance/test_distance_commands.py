"""The options of vgg-export for distances, as a user gives them."""

import json

import pytest

from export.cli import main as vgg_export
from export.distance import pairs
from tests.support.nets import save_net, thin_net
from tests.support.run import run
from vgg_deploy.newest import LAST_EXPORT


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setattr(pairs, "BUILT_IN_PHOTOS", 1)
    return save_net(thin_net("B", seed=1), tmp_path / "net.pt")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--onnx", "--lpips", "--gram", "relu1_1"], "--lpips and --gram: a file gives one"),
        (["--onnx", "--lpips", "--features", "relu1_1"], "--features: does not go with --lpips"),
        (["--onnx", "--gram", "relu1_1", "--ncnn"], "--ncnn: does not go with --gram"),
        (["--onnx", "--gram", "relu1_1", "--sensitivity"], "--sensitivity: does not go with"),
        (["--onnx", "--gram", "relu1_1:x"], "'relu1_1:x' is not LAYER:WEIGHT"),
        (["--onnx", "--gram", "relu1_1:"], "'relu1_1:' is not LAYER:WEIGHT"),
        (["--onnx", "--gram", ","], "names no layer"),
        (["--onnx", "--gram", "relu1_1:-1"], "with a weight above 0 and up to 1,000,000"),
        (["--onnx", "--gram", "relu1_1:1,relu1_1:2"], "names the layer relu1_1 twice"),
        (["--onnx", "--gram", "fc6"], "net B has no layer 'fc6' ahead of fc6"),
        (["--onnx", "--lpips"], "is net B; the linear heads of LPIPS belong to"),
        (["--onnx", "--gram", "relu1_1", "--precision", "int8"], "--calibration DIR is missing"),
        (["--onnx", "--gram", "relu1_1", "--keep", "conv9"], "--keep conv9: net B has no such"),
    ],
)
def test_what_does_not_fit_is_one_sentence(words, message, source, tmp_path):
    if message.startswith("is net B"):
        pytest.importorskip("lpips")
    text = run(vgg_export, source, *words, "--out", tmp_path / "out", code=2)
    assert message in text
    assert not (tmp_path / "out").exists()


def test_a_distance_is_written_as_onnx():
    text = run(vgg_export, "--trt", "--lpips", code=2)
    assert "--lpips says what ONNX files give; add --onnx" in text


def test_the_table_and_the_list_say_what_was_measured(source, tmp_path):
    out = tmp_path / "out"
    text = run(
        vgg_export,
        *(source, "--onnx", "--gram", "relu2_2:0.5,relu1_1", "--name", "style", "--out", out),
        *("--input", "normalised", "--threads", "2"),
    )
    assert "Distances, against PyTorch in float32" in text
    (row,) = json.loads((out / LAST_EXPORT).read_text())
    assert row["file"] == "style.gram.normalised.fp32.onnx" and (out / row["file"]).is_file()
    assert row["terms"] == [["relu1_1", 1.0], ["relu2_2", 0.5]]
    assert row["spearman"] == 1 and row["pairs"] == 15 and row["sizes_checked"] == 5
    other = save_net(thin_net("B", seed=2), tmp_path / "other.pt")
    words = (other, "--onnx", "--gram", "relu1_1", "--name", "style", "--out", out)
    text = run(vgg_export, *words, "--input", "normalised", "--threads", "2")
    assert "a distance by another net, net.pt, will be replaced" in text
