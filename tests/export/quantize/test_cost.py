"""What a quantized file costs, on images that were not calibrated on; and what a failed file leaves behind."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from export import release
from export.cli import main as vgg_export
from export.quantize.calibration import FEW, calibrate, open_calibration_images, split, warn_of_few
from export.quantize.cost import measure_cost
from export.release import PartlyExported, export_onnx
from export.settings.export_options import ExportOptions
from tests.support.nets import CLASSES, picture, save_net, thin_net
from tests.support.run import run
from vgg_deploy.data.built_in import built_in
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.runtimes import Scores, open_runtime


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """24 images, the one at position 4 n + 2 a triangle."""
    root, rng = tmp_path_factory.mktemp("calibration"), np.random.default_rng(0)
    for i in range(24):
        picture(CLASSES[i % 4], rng).save(root / f"{i:02d}.png")
    return root


def export(tmp_path, folder, *precisions, say=None, net=None, **how):
    source, said = save_net(net or thin_net("A", classes=CLASSES), tmp_path / "net.pt"), []
    wanted = ExportOptions(precisions, calibration=folder, **how)
    return export_onnx(
        source, tmp_path / "out", wanted, None, 1, (said if say is None else say).append
    )


def scored(maps: np.ndarray) -> list[Scores]:
    means = maps.mean((2, 3))
    powers = np.exp(means - means.max(1, keepdims=True))
    return [
        Scores((powers / powers.sum(1, keepdims=True)).astype(np.float32), maps.astype(np.float32))
    ]


@pytest.mark.parametrize(
    "total, held", [(2, 1), (3, 1), (15, 7), (16, 8), (64, 8), (80, 10), (512, 64), (1000, 64)]
)
def test_images_are_held_out_evenly_and_never_shared(total, held):
    images = split(built_in("train", total))
    assert (len(images.held_out), len(images.for_ranges)) == (held, total - held)
    assert not set(images.held_out.files) & set(images.for_ranges.files)
    order = {file: i for i, file in enumerate(built_in("train", total).files)}
    steps = np.diff([order[file] for file in images.held_out.files])
    assert held == 1 or steps.max() - steps.min() <= 1


def test_the_figures_are_those_of_a_naive_loop():
    rng = np.random.default_rng(0)
    wanted = rng.normal(0, 2, (9, 5, 2, 3))
    found = wanted + rng.normal(0, 0.5, wanted.shape)
    found_scores, wanted_scores = scored(found), scored(wanted)
    cost = measure_cost(found_scores, wanted_scores)
    above = below = variation = largest = 0.0
    agree = 0
    for i in range(9):
        f, w = [[float(np.mean(m[i, c])) for c in range(5)] for m in (found, wanted)]
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
    wanted = rng.normal(0, 2, (40, 5, 1, 1))

    def rating(found):
        return measure_cost(scored(found), scored(wanted))

    assert rating(wanted * 1.29).rating == "usual" and rating(wanted * 1.31).rating == "high"
    assert rating(wanted * 1.31).broken == ""
    assert "zero would be nearer" in rating(-wanted).broken and rating(-wanted).rating == "broken"
    spoilt = wanted.copy()
    spoilt[3, 2] = np.nan
    assert "not finite" in rating(spoilt).broken
    biased = wanted + np.array([3, 0, 0, 0, 0]).reshape(
        1, 5, 1, 1
    )  # so that an error of 100 % is far
    constant = np.broadcast_to(biased.mean(0), biased.shape)
    assert "same scores for every image" in measure_cost(scored(constant), scored(biased)).broken
    # of one class only, nothing can be said against it: its scores differ little
    alike = np.array([9, 0, 0, 0, 0]).reshape(1, 5, 1, 1) + rng.normal(0, 0.01, wanted.shape)
    assert (
        measure_cost(scored(alike + rng.normal(0, 0.02, wanted.shape)), scored(alike)).broken == ""
    )


def test_the_cost_is_of_the_held_out_images_and_in_the_manifest(tmp_path, folder):
    """Oracle: the file and the net, opened as anyone would, on the held-out files by name."""
    said = []
    (f,) = export(tmp_path, folder, "int8-cpu", say=said)
    manifest = json.loads(f.path.with_suffix(".json").read_text())
    held_out = [folder / f"{i:02d}.png" for i in range(1, 24, 3)]
    assert (
        manifest["quantization"]["calibration"]["images"] == 16
        and manifest["held_out"]["images"] == 8
    )
    net, file = open_runtime(tmp_path / "net.pt"), open_runtime(f.path)
    above = below = agree = 0.0
    for path in held_out:
        with Image.open(path) as image:
            scale = 48 / min(image.size)
            size = tuple(
                48 if side == min(image.size) else int(np.floor(side * scale + 0.5))
                for side in image.size
            )
            pixels = np.asarray(
                image.convert("RGB").resize(size, Image.Resampling.BILINEAR)
            ).transpose(2, 0, 1)[None]
        wanted, found = (
            runtime(np.ascontiguousarray(pixels)).score_map.mean((2, 3)) for runtime in (net, file)
        )
        above, below = above + ((found - wanted) ** 2).sum(), below + (wanted**2).sum()
        agree += found.argmax() == wanted.argmax()
    assert manifest["held_out"]["score_error_pct"] == pytest.approx(
        100 * (above / below) ** 0.5, rel=1e-3
    )
    assert manifest["held_out"]["agree"] == agree
    assert manifest["cost"] == ("high" if 100 * (above / below) ** 0.5 > 30 else "usual")
    assert any(text.startswith("Warning: 24 calibration images are few") for text in said)


def costly(*given):
    """Activations are clipped to a third: expensive, not useless."""
    return {name: t / 3 for name, t in release_clip(*given).items()}


release_clip = release.clip


def test_a_high_cost_is_written_with_a_warning_and_a_mark(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(release, "clip", costly)
    said = []
    (f,) = export(tmp_path, folder, "int8", say=said)
    assert 30 < f.cost.score_error_pct < 100
    assert json.loads(f.path.with_suffix(".json").read_text())["cost"] == "high"
    assert any(
        text.startswith("Warning: A.int8.onnx has a high cost: on 8 held-out images")
        for text in said
    )


def test_max_cost_makes_it_an_error(tmp_path, folder, monkeypatch):
    (f,) = export(tmp_path, folder, "int8", max_cost=99.0)
    held = f.path.read_bytes()
    with pytest.raises(
        CheckFailed,
        match=r"A.int8.onnx was not written: on 8 held-out images .*; --max-cost allows 0.1 %",
    ) as failed:
        export(tmp_path, folder, "int8", max_cost=0.1, per_channel=False)
    assert (
        failed.value.exit_code == 1 and f.path.read_bytes() == held
    )  # the file of before is untouched


def test_a_failed_file_does_not_take_the_others_with_it(tmp_path, folder, monkeypatch):
    """One precision's weights are spoilt; the ones before and after it are written, and the error says so."""
    whole = release.onnx_graph

    def faulty(net, artifact, precision, quantization):
        graph = whole(net, artifact, precision, quantization)
        if precision.name == "int8-cpu":
            graph.weights["conv3_1.weight.quantized"] = np.roll(
                graph.weights["conv3_1.weight.quantized"], 1, axis=3
            )
        return graph

    monkeypatch.setattr(release, "onnx_graph", faulty)
    message = r"A.int8.onnx, A.fp8.onnx were written; A.int8-cpu.onnx was not written: conv3_1 differs from PyTorch"
    with pytest.raises(PartlyExported, match=message) as failed:
        export(tmp_path, folder, "int8", "int8-cpu", "fp8")
    assert failed.value.exit_code == 1
    assert [e.path.name for e in failed.value.exported] == ["A.int8.onnx", "A.fp8.onnx"]
    out = {p.name for p in (tmp_path / "out").iterdir()}
    assert out == {"A.calibration.json", "A.int8.onnx", "A.int8.json", "A.fp8.onnx", "A.fp8.json"}

    source = tmp_path / "net.pt"
    said = run(vgg_export, source, "--onnx", "--precision", "int8,int8-cpu", "--calibration", folder, "--out", tmp_path / "cli",
               "--triton", tmp_path / "models", code=1)  # fmt: skip
    assert "A.int8.onnx was written; A.int8-cpu.onnx was not written: conv3_1 differs" in said
    assert [row["file"] for row in json.loads((tmp_path / "cli" / "export.json").read_text())] == [
        "A.int8.onnx"
    ]
    assert [p.name for p in (tmp_path / "models").iterdir()] == ["A_int8_onnx"]


def test_keeping_every_layer_is_refused_and_fc8_is_named_once(tmp_path, folder):
    names = tuple(
        name for name, layer in thin_net("A").named_children() if isinstance(layer, torch.nn.Conv2d)
    )
    with pytest.raises(InputError, match="--keep conv1_1,.*: leaves no layer to quantize"):
        export(tmp_path, folder, "int8", keep=names)
    assert not (tmp_path / "out").exists()
    (f,) = export(tmp_path, folder, "int8", keep=("fc8", "conv1_1"))
    assert f.kept == ("fc8", "conv1_1")


def test_few_images_are_warned_of():
    said = []
    warn_of_few(built_in("train", FEW - 1), said.append)
    assert len(said) == 1 and said[0].startswith(f"Warning: {FEW - 1} calibration images are few")
    warn_of_few(built_in("train", FEW), said.append)
    assert len(said) == 1


def test_one_image_is_refused(folder):
    with pytest.raises(InputError, match="calibration has 1 image; give at least 2"):
        split(open_calibration_images(folder, 1, thin_net("A")))


def test_images_without_content_are_refused_or_counted(tmp_path, folder):
    def calibrated(images):
        said, root = [], tmp_path / f"{len(list(tmp_path.iterdir()))}"
        root.mkdir()
        for i, image in enumerate(images):
            image.save(root / f"{i}.png")
        net = thin_net("A", classes=CLASSES)
        calibrate(
            net,
            "a" * 64,
            open_calibration_images(root, 99, net),
            root / "kept.json",
            1,
            said.append,
        )
        return said

    for colour in ("black", (90, 120, 30)):
        with pytest.raises(InputError, match="all 5 calibration images show a single colour"):
            calibrated([Image.new("RGB", (50, 60), colour)] * 5)
    rng = np.random.default_rng(0)
    some = [picture("disc", rng) for _ in range(3)]
    said = calibrated([*some, Image.new("RGB", (50, 60)), some[0]])
    assert (
        "Warning: 1 of 5 calibration images show a single colour" in said[-2]
        and "only 4 of 5" in said[-1]
    )


def test_unreadable_calibration_images(tmp_path, folder):
    """The message names an option of this command, and with it the images are named and counted."""
    import shutil

    bad = shutil.copytree(folder, tmp_path / "bad")
    (bad / "00.png").write_bytes(b"\x89PNG\r\n\x1a\nno")  # for the ranges
    (bad / "04.png").write_text("text")  # held out
    source = save_net(thin_net("A", classes=CLASSES), tmp_path / "net.pt")
    given = (
        source,
        "--onnx",
        "--precision",
        "int8",
        "--calibration",
        bad,
        "--out",
        tmp_path / "out",
    )
    said = run(vgg_export, *given, code=2)
    assert "00.png" in said and "--on-error skip" in said and "check --data" not in said
    for _ in range(2):  # measured, then from the kept calibration
        said = run(vgg_export, *given, "--on-error", "skip")
        assert f"skipped 1 of 16 calibration images, unreadable: {bad}/00.png" in said
        assert f"skipped 1 of 8 held-out images, unreadable: {bad}/04.png" in said
    manifest = json.loads((tmp_path / "out" / "A.int8.json").read_text())
    assert manifest["quantization"]["calibration"]["skipped"] == [f"{bad}/00.png", f"{bad}/04.png"]
    assert manifest["held_out"]["images"] == 7
    assert "00.png" in run(
        vgg_export, *given, code=2
    )  # the kept one skipped an image, which was not asked for
    for path in bad.iterdir():
        path.write_text("text")
    assert "none of the 16 calibration images can be read" in run(
        vgg_export, *given, "--on-error", "skip", code=2
    )


def test_a_calibration_folder_that_is_none(tmp_path, folder):
    source = save_net(thin_net("A"), tmp_path / "net.pt")
    for path, found in ((tmp_path / "nowhere", "does not exist"), (folder / "00.png", "is a file")):
        said = run(
            vgg_export, source, "--onnx", "--precision", "int8", "--calibration", path, code=2
        )
        assert f"--calibration {path}: {found}" in said and "--data" not in said


def test_max_cost_must_be_a_percentage(tmp_path):
    for value in ("nan", "0", "-3", "much"):
        assert "--max-cost" in run(vgg_export, "--onnx", "--max-cost", value, code=2)
