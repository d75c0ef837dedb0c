"""Classes and inputs stated on the command line, from other projects' files to the tables."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from bench.cli import main as vgg_bench
from export.cli import main as vgg_export
from tests.support.nets import CLASSES, save_net, thin_net
from tests.support.run import run

NAMES = ("English springer", "French horn", "gas mask", "gas pump")  # sorted, as folders are
ORDER = ("gas pump", "French horn", "English springer", "gas mask")  # of the net's scores


def arrays_of(net) -> dict[str, np.ndarray]:
    """Caffe-layout arrays of a net, for BGR input."""
    arrays = {
        name.replace(".weight", "_W").replace(".bias", "_b"): tensor.numpy()
        for name, tensor in net.state_dict().items()
    }
    return {**arrays, "conv1_1_W": arrays["conv1_1_W"][:, ::-1]}


@pytest.fixture
def named_photos(photos, tmp_path):
    """The validation images, in folders whose names contain spaces."""
    for folder, name in zip(CLASSES, NAMES, strict=True):
        shutil.copytree(photos / "val" / folder, tmp_path / "sp" / "val" / name)
    return tmp_path / "sp"


@pytest.fixture
def net_files(here):
    """B.npz with scores in ORDER, and plain lists of that order and of another."""
    np.savez(here / "B.npz", **arrays_of(thin_net("B")))
    (here / "order.txt").write_text("\n".join(ORDER) + "\n")
    (here / "other.txt").write_text("\n".join(reversed(ORDER)) + "\n")
    return here


def score(here, *models, data, code=0, more=()) -> str:
    """Measure the accuracy at Q 32, and return the output."""
    options = ["--scales", "32", "--data", data, "--measure", "accuracy", "--no-flips"]
    return run(vgg_bench, *models, *options, "--threads", "1", *more, code=code)


def top1_error(here) -> float:
    return float(pd.read_csv(here / "results" / "accuracy.csv").top1_error_pct.iloc[0])


def expected_error(data, order, best: dict[str, int]) -> float:
    """Error in per cent if score i belongs to order[i].

    Args:
        data: Folder of the images.
        order: Names of the classes in the order of the scores.
        best: Index of the best score of every image, by its folder and name.
    """
    correct = [order[best[name]] == name.split("/")[0] for name in best]
    return 100 * (1 - np.mean(correct))


def best_scores(net, data) -> dict[str, int]:
    """Index of the best score of every image, by its folder and name.

    The oracle: PyTorch, with images rescaled by Pillow.
    """
    mean = torch.tensor((123.68, 116.779, 103.939)).view(3, 1, 1)
    found = {}
    for path in sorted((data / "val").glob("*/*")):
        image = Image.open(path).convert("RGB")
        w, h = image.size
        size = tuple(32 if v == min(w, h) else int(32 * v / min(w, h) + 0.5) for v in (w, h))
        pixels = np.asarray(image.resize(size, Image.Resampling.BILINEAR)).transpose(2, 0, 1)
        with torch.inference_mode():
            score_map = net((torch.from_numpy(pixels.copy()).float() - mean)[None])
        found[f"{path.parent.name}/{path.name}"] = int(score_map.mean((2, 3)).argmax())
    return found


@pytest.mark.slow
def test_plain_names_from_the_list_to_the_score(net_files, named_photos):
    """A list of names ships whole labels, and its file is scored on folders of these names."""
    export = ["B.npz", "--onnx", "--classes", "order.txt", "--triton", "models"]
    output = run(vgg_export, *export)
    assert "input BGR, x - mean with mean 123.68, 116.779, 103.939" in output
    labels = (net_files / "models" / "B_fp32_onnx" / "labels.txt").read_text().splitlines()
    assert tuple(labels) == ORDER
    manifest = json.loads((net_files / "exported" / "B.fp32.json").read_text())
    assert tuple(manifest["spec"]["classes"]) == ORDER and manifest["class_order"] == "class list"
    assert manifest["source_input"].startswith("BGR, x - mean with mean 123.68")
    output = score(net_files, "exported/B.fp32.onnx", data=named_photos)
    assert "names no classes" not in output
    best = best_scores(thin_net("B"), named_photos)
    assert top1_error(net_files) == pytest.approx(expected_error(named_photos, ORDER, best))


def test_an_order_that_is_not_stated_is_reported_and_stored(net_files, named_photos):
    output = score(net_files, "B.npz", data=named_photos)
    order = ", ".join(NAMES[:3])
    line = f"B.npz names no classes: taken in the order {order}, ... of {named_photos}"
    assert f"{line}; --classes FILE if that is not its order" in output
    convention = "BGR, x - mean with mean 123.68, 116.779, 103.939 (R, G, B of 0-255)"
    assert f"{convention} (that of caffe;" in output
    stored = json.loads((net_files / "results" / "environment.json").read_text())["assumed"]
    assert any(text.startswith(line) for text in stored)
    assert line in (net_files / "results" / "report.md").read_text()
    best = best_scores(thin_net("B"), named_photos)
    assert top1_error(net_files) == pytest.approx(expected_error(named_photos, NAMES, best))


def test_the_order_is_stated_for_all_models_or_for_one(net_files, named_photos):
    """Two files of one net, the head of the second turned: with both orders they agree entirely."""
    arrays = arrays_of(thin_net("B"))
    turned = {name: arrays[name][::-1] for name in ("fc8_W", "fc8_b")}
    np.savez(net_files / "turned.npz", **{**arrays, **turned})
    best = best_scores(thin_net("B"), named_photos)
    output = score(net_files, "B.npz", data=named_photos, more=["--classes", "order.txt"])
    assert "names no classes" not in output
    assert top1_error(net_files) == pytest.approx(expected_error(named_photos, ORDER, best))
    both = ["--classes", "order.txt", "--classes", "turned.npz=other.txt"]
    score(net_files, "B.npz", "turned.npz", data=named_photos, more=both)
    comparisons = pd.read_csv(net_files / "results" / "comparisons.csv")
    assert (comparisons.agreement_pct == 100).all()
    twice = ["--classes", "order.txt", "--classes", "other.txt"]
    output = score(net_files, "B.npz", data=named_photos, more=twice, code=2)
    assert "a second list for all models" in output


def test_a_list_that_contradicts_a_file_is_refused(net_files, named_photos):
    run(vgg_export, "B.npz", "--onnx", "--classes", "order.txt")
    other = ["--classes", "other.txt"]
    output = score(net_files, "exported/B.fp32.onnx", data=named_photos, more=other, code=2)
    assert "names its own classes, and its class 0 is gas pump, not gas mask" in output
    score(net_files, "exported/B.fp32.onnx", data=named_photos, more=["--classes", "order.txt"])
    (net_files / "short.txt").write_text("a\nb\n")
    output = score(net_files, "B.npz", data=named_photos, more=["--classes", "short.txt"], code=2)
    assert "scores 4 classes, the class list has 2" in output


def test_numbered_folders_need_a_statement(net_files, photos, tmp_path):
    """ILSVRC ids count from 1; with a list that says so each meets its score."""
    for folder, name in zip(CLASSES, ("1", "2", "3", "4"), strict=True):
        shutil.copytree(photos / "val" / folder, tmp_path / "ids" / "val" / name)
    output = score(net_files, "B.npz", data=tmp_path / "ids", code=2)
    assert "are numbers (1, 2, 3, ...) but not 0 to 3" in output
    assert output.endswith("--classes FILE lists them in the order of its scores")
    (tmp_path / "ids.txt").write_text("1\n2\n3\n4\n")
    score(net_files, "B.npz", data=tmp_path / "ids", more=["--classes", tmp_path / "ids.txt"])
    best = best_scores(thin_net("B"), tmp_path / "ids")
    wanted = expected_error(tmp_path / "ids", ("1", "2", "3", "4"), best)
    assert top1_error(net_files) == pytest.approx(wanted)


def test_another_input_is_another_cell(net_files, named_photos):
    """The same file with another input does not reuse the stored scores."""
    score(net_files, "B.npz", data=named_photos)
    first = len(list((net_files / "cells").glob("*.npy")))
    stated = ["--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5", "--channel-order", "RGB"]
    output = score(net_files, "B.npz", data=named_photos, more=stated)
    assert "with mean 0.5, 0.5, 0.5 and std 0.5, 0.5, 0.5 (R, G, B of 0-1) (as stated;" in output
    assert len(list((net_files / "cells").glob("*.npy"))) == 2 * first


def test_an_input_is_stated_for_foreign_weights_only(net_files, named_photos):
    run(vgg_export, "B.npz", "--onnx")
    stated = ["--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5"]
    output = score(net_files, "exported/B.fp32.onnx", data=named_photos, more=stated, code=2)
    assert "are for weights of other projects, and B.fp32.onnx know their own input" in output
    checkpoint = save_net(thin_net("A"), net_files / "A.pt")
    output = run(vgg_export, checkpoint, "--onnx", *stated, code=2)
    assert "A.pt: a checkpoint knows its own input and crop; state none" in output
    output = run(vgg_export, "exported/B.fp32.onnx", "--ncnn", *stated, code=2)
    assert "describe weights; add --onnx" in output
    output = run(vgg_export, "B.npz", "--onnx", "--mean", "0.5,0.5", code=2)
    assert "'0.5,0.5' is not three numbers; write R,G,B" in output
    output = run(vgg_export, "B.npz", "--onnx", "--mean", "0.5,116,103", "--out", "none", code=2)
    assert "has values of 0-1 and of 0-255" in output and not (net_files / "none").exists()


@pytest.mark.slow
def test_calibration_is_not_shared_between_inputs(net_files, named_photos):
    """The ranges of a net on one input do not fit another input."""
    export = ["B.npz", "--onnx", "--precision", "fp16", "--calibration", named_photos]
    export += ["--calibration-images", "4", "--threads", "1"]
    run(vgg_export, *export)
    before = (net_files / "exported" / "B.calibration.json").read_text()
    assert "using the calibration in" in run(vgg_export, *export)
    output = run(vgg_export, *export, "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5")
    assert "calibrating on 2" in output
    assert (net_files / "exported" / "B.calibration.json").read_text() != before


def test_a_numbered_export_says_so(net_files):
    output = run(vgg_export, "B.npz", "--onnx")
    assert "names no classes, so they are numbered from 0 in the order of its scores" in output
    manifest = json.loads((net_files / "exported" / "B.fp32.json").read_text())
    assert manifest["class_order"] == "numbered"
    assert any("--classes FILE names them" in line for line in manifest["assumed"])
