"""What a quantized file costs on held-out images, and what a failed file leaves behind."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from export import preparation, release
from export.cli import main as vgg_export
from export.onnx.graph import onnx_graph
from export.quantize.calibration import calibrate
from export.quantize.calibration_images import (
    FEW,
    open_calibration_images,
    split,
    warn_of_few,
)
from export.quantize.cost import measure_cost
from export.quantize.ranges import clip
from export.release import PartlyExported, export_onnx
from export.settings.export_options import ExportOptions
from tests.support.nets import CLASSES, photo_of, save_net, thin_net
from tests.support.run import run
from vgg_deploy.data.built_in import built_in
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.runtimes import Scores, open_runtime


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """24 images, the one at position 4 n + 2 a triangle."""
    root, rng = tmp_path_factory.mktemp("calibration"), np.random.default_rng(0)
    for i in range(24):
        photo_of(CLASSES[i % 4], rng).save(root / f"{i:02d}.png")
    return root


def export(tmp_path, folder, *precisions, log=lambda text: None, net=None, **settings):
    source = save_net(net or thin_net("A", classes=CLASSES), tmp_path / "net.pt")
    options = ExportOptions(precisions, calibration=folder, **settings)
    return export_onnx(source, tmp_path / "out", options, None, 1, log)


def scored(maps: np.ndarray) -> list[Scores]:
    means = maps.mean((2, 3))
    powers = np.exp(means - means.max(1, keepdims=True))
    return [
        Scores((powers / powers.sum(1, keepdims=True)).astype(np.float32), maps.astype(np.float32))
    ]


@pytest.mark.parametrize(
    "total, count", [(2, 1), (3, 1), (15, 7), (16, 8), (64, 8), (80, 10), (512, 64), (1000, 64)]
)
@pytest.mark.slow
def test_images_are_held_out_evenly_and_never_shared(total, count):
    images = split(built_in("train", total))
    assert (len(images.held_out), len(images.for_ranges)) == (count, total - count)
    assert not set(images.held_out.files) & set(images.for_ranges.files)
    order = {file: i for i, file in enumerate(built_in("train", total).files)}
    steps = np.diff([order[file] for file in images.held_out.files])
    assert count == 1 or steps.max() - steps.min() <= 1


def test_the_figures_are_those_of_a_naive_loop():
    rng = np.random.default_rng(0)
    reference = rng.normal(0, 2, (9, 5, 2, 3))
    found = reference + rng.normal(0, 0.5, reference.shape)
    cost = measure_cost(scored(found), scored(reference))
    above = below = variation = largest = 0.0
    agree = 0
    for i in range(9):
        f, w = [[float(np.mean(m[i, c])) for c in range(5)] for m in (found, reference)]
        above += sum((a - b) ** 2 for a, b in zip(f, w, strict=True))
        below += sum(b**2 for b in w)
        p, q = ([np.exp(v) / sum(np.exp(s)) for v in s] for s in (f, w))
        moved = [abs(a - b) for a, b in zip(p, q, strict=True)]
        variation, largest = variation + sum(moved) / 2, max(largest, *moved)
        agree += f.index(max(f)) == w.index(max(w))
    assert cost.score_error_pct == pytest.approx(100 * (above / below) ** 0.5, rel=1e-5)
    assert cost.largest_posterior_difference == pytest.approx(largest, rel=1e-4)
    assert cost.mean_total_variation == pytest.approx(variation / 9, rel=1e-4)
    assert (cost.images, cost.agree, cost.broken) == (9, agree, "")


def test_the_rating_follows_the_error_and_broken_is_useless():
    rng = np.random.default_rng(1)
    reference = rng.normal(0, 2, (40, 5, 1, 1))

    def rating(found):
        return measure_cost(scored(found), scored(reference))

    assert rating(reference * 1.29).rating == "usual"
    assert rating(reference * 1.31).rating == "high"
    assert rating(reference * 1.31).broken == ""
    assert "zero would be nearer" in rating(-reference).broken
    assert rating(-reference).rating == "broken"
    spoilt = reference.copy()
    spoilt[3, 2] = np.nan
    assert "not finite" in rating(spoilt).broken
    # so that an error of 100 % is far
    biased = reference + np.array([3, 0, 0, 0, 0]).reshape(1, 5, 1, 1)
    constant = np.broadcast_to(biased.mean(0), biased.shape)
    assert "same scores for every image" in measure_cost(scored(constant), scored(biased)).broken
    # of one class only, nothing can be said against it: its scores differ little
    alike = np.array([9, 0, 0, 0, 0]).reshape(1, 5, 1, 1) + rng.normal(0, 0.01, reference.shape)
    near = alike + rng.normal(0, 0.02, reference.shape)
    assert measure_cost(scored(near), scored(alike)).broken == ""


@pytest.mark.slow
def test_the_cost_is_of_the_held_out_images_and_in_the_manifest(tmp_path, folder):
    """Oracle: the file and the net, opened as anyone would, on the held-out files by name."""
    log = []
    (f,) = export(tmp_path, folder, "int8-cpu", log=log.append)
    manifest = json.loads(f.path.with_suffix(".json").read_text())
    held_out = [folder / f"{i:02d}.png" for i in range(1, 24, 3)]
    assert manifest["quantization"]["calibration"]["images"] == 16
    assert manifest["held_out"]["images"] == 8
    net, file = open_runtime(tmp_path / "net.pt"), open_runtime(f.path)
    above = below = agree = 0.0
    for path in held_out:
        with Image.open(path) as image:
            shorter = min(image.size)
            size = tuple(
                48 if side == shorter else int(np.floor(side * 48 / shorter + 0.5))
                for side in image.size
            )
            resized = image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
        pixels = np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1)[None])
        reference, found = (runtime(pixels).score_map.mean((2, 3)) for runtime in (net, file))
        above += ((found - reference) ** 2).sum()
        below += (reference**2).sum()
        agree += found.argmax() == reference.argmax()
    error_pct = 100 * (above / below) ** 0.5
    assert manifest["held_out"]["score_error_pct"] == pytest.approx(error_pct, rel=1e-3)
    assert manifest["held_out"]["agree"] == agree
    assert manifest["cost"] == ("high" if error_pct > 30 else "usual")
    assert any(text.startswith("Warning: 24 calibration images are few") for text in log)


def costly(*args):
    """Activations are clipped to a third: expensive, not useless."""
    return {name: t / 3 for name, t in clip(*args).items()}


def test_a_high_cost_is_written_with_a_warning_and_a_mark(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(preparation, "clip", costly)
    log = []
    (f,) = export(tmp_path, folder, "int8", log=log.append)
    assert 30 < f.cost.score_error_pct < 100
    assert json.loads(f.path.with_suffix(".json").read_text())["cost"] == "high"
    warning = "Warning: A.int8.onnx has a high cost: on 8 held-out images"
    assert any(text.startswith(warning) for text in log)


@pytest.mark.slow
def test_max_cost_makes_it_an_error(tmp_path, folder):
    (f,) = export(tmp_path, folder, "int8", max_cost=99.0)
    older = f.path.read_bytes()
    message = r"A.int8.onnx was not written: on 8 held-out images .*; --max-cost allows 0.1 %"
    with pytest.raises(CheckFailed, match=message) as failed:
        export(tmp_path, folder, "int8", max_cost=0.1, per_channel=False)
    assert failed.value.exit_code == 1
    assert f.path.read_bytes() == older


@pytest.mark.slow
def test_a_failed_file_does_not_take_the_others_with_it(tmp_path, folder, monkeypatch):
    """One precision's weights are spoilt; the others are written, and the error names them."""

    def faulty(net, artifact, precision, quantization):
        graph = onnx_graph(net, artifact, precision, quantization)
        if precision.name == "int8-cpu":
            weights = graph.weights["conv3_1.weight.quantized"]
            graph.weights["conv3_1.weight.quantized"] = np.roll(weights, 1, axis=3)
        return graph

    monkeypatch.setattr(release, "onnx_graph", faulty)
    message = (
        r"A.int8.onnx, A.fp8.onnx were written; "
        r"A.int8-cpu.onnx was not written: conv3_1 differs from PyTorch"
    )
    with pytest.raises(PartlyExported, match=message) as failed:
        export(tmp_path, folder, "int8", "int8-cpu", "fp8")
    assert failed.value.exit_code == 1
    assert [e.path.name for e in failed.value.exported] == ["A.int8.onnx", "A.fp8.onnx"]
    out = {p.name for p in (tmp_path / "out").iterdir()}
    assert out == {"A.calibration.json", "A.int8.onnx", "A.int8.json", "A.fp8.onnx", "A.fp8.json"}

    args = ("--onnx", "--precision", "int8,int8-cpu", "--calibration", folder)
    folders = ("--out", tmp_path / "cli", "--triton", tmp_path / "models")
    output = run(vgg_export, tmp_path / "net.pt", *args, *folders, code=1)
    assert "A.int8.onnx was written; A.int8-cpu.onnx was not written: conv3_1 differs" in output
    rows = json.loads((tmp_path / "cli" / "export.json").read_text())
    assert [row["file"] for row in rows] == ["A.int8.onnx"]
    assert [p.name for p in (tmp_path / "models").iterdir()] == ["A_int8_onnx"]


@pytest.mark.slow
def test_keeping_every_layer_is_refused_and_fc8_is_named_once(tmp_path, folder):
    layers = thin_net("A").named_children()
    names = tuple(name for name, layer in layers if isinstance(layer, torch.nn.Conv2d))
    with pytest.raises(InputError, match="--keep conv1_1,.*: leaves no layer to quantize"):
        export(tmp_path, folder, "int8", keep=names)
    assert not (tmp_path / "out").exists()
    (f,) = export(tmp_path, folder, "int8", keep=("fc8", "conv1_1"))
    assert f.kept == ("conv1_1", "fc8")


@pytest.mark.slow
def test_few_images_bring_a_warning():
    log = []
    warn_of_few(built_in("train", FEW - 1), log.append)
    assert len(log) == 1 and log[0].startswith(f"Warning: {FEW - 1} calibration images are few")
    warn_of_few(built_in("train", FEW), log.append)
    assert len(log) == 1


def test_one_image_is_refused(folder):
    with pytest.raises(InputError, match="calibration has 1 image; give at least 2"):
        split(open_calibration_images(folder, 1, thin_net("A")))


def test_images_without_content_are_refused_or_counted(tmp_path, folder):
    def calibrated(images):
        log, root = [], tmp_path / f"{len(list(tmp_path.iterdir()))}"
        root.mkdir()
        for i, image in enumerate(images):
            image.save(root / f"{i}.png")
        net = thin_net("A", classes=CLASSES)
        opened = open_calibration_images(root, 99, net)
        calibrate(net, "a" * 64, opened, root / "calibration.json", 1, log.append)
        return log

    for colour in ("black", (90, 120, 30)):
        with pytest.raises(InputError, match="all 5 calibration images show a single colour"):
            calibrated([Image.new("RGB", (50, 60), colour)] * 5)
    rng = np.random.default_rng(0)
    some = [photo_of("disc", rng) for _ in range(3)]
    log = calibrated([*some, Image.new("RGB", (50, 60)), some[0]])
    assert "Warning: 1 of 5 calibration images show a single colour" in log[-2]
    assert "only 4 of 5" in log[-1]


@pytest.mark.slow
def test_unreadable_calibration_images(tmp_path, folder):
    """The message names an option of this command, and with it the images are named and counted."""
    bad = shutil.copytree(folder, tmp_path / "bad")
    (bad / "00.png").write_bytes(b"\x89PNG\r\n\x1a\nno")  # for the ranges
    (bad / "04.png").write_text("text")  # held out
    source = save_net(thin_net("A", classes=CLASSES), tmp_path / "net.pt")
    args = (source, "--onnx", "--precision", "int8", "--calibration", bad)
    args += ("--out", tmp_path / "out")
    output = run(vgg_export, *args, code=2)
    assert "00.png" in output and "--on-error skip" in output and "check --data" not in output
    for _ in range(2):  # measured, then from the stored calibration
        output = run(vgg_export, *args, "--on-error", "skip")
        assert f"skipped 1 of 16 calibration images, unreadable: {bad}/00.png" in output
        assert f"skipped 1 of 8 held-out images, unreadable: {bad}/04.png" in output
    manifest = json.loads((tmp_path / "out" / "A.int8.json").read_text())
    assert manifest["quantization"]["calibration"]["skipped"] == [f"{bad}/00.png", f"{bad}/04.png"]
    assert manifest["held_out"]["images"] == 7
    # the stored calibration skipped an image, which is an error now
    assert "00.png" in run(vgg_export, *args, code=2)
    for path in bad.iterdir():
        path.write_text("text")
    output = run(vgg_export, *args, "--on-error", "skip", code=2)
    assert "none of the 16 calibration images can be read" in output


def test_a_calibration_folder_that_is_none(tmp_path, folder):
    source = save_net(thin_net("A"), tmp_path / "net.pt")
    for path, found in ((tmp_path / "nowhere", "does not exist"), (folder / "00.png", "is a file")):
        args = (source, "--onnx", "--precision", "int8", "--calibration", path)
        output = run(vgg_export, *args, code=2)
        assert f"--calibration {path}: {found}" in output and "--data" not in output


def test_max_cost_must_be_a_percentage(tmp_path):
    for value in ("nan", "0", "-3", "much"):
        assert "--max-cost" in run(vgg_export, "--onnx", "--max-cost", value, code=2)
