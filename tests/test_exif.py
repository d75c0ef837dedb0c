"""Photos with an EXIF rotation: counted, ignored by default, and turned upright on request.

Oracle: PIL.ImageOps.exif_transpose.
"""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from bench.cli import main as vgg_bench
from export.cli import main as vgg_export
from tests.support.commands import THIN
from tests.support.nets import CLASSES, save_net, thin_net
from tests.support.run import run
from train.__main__ import main as train
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.data.rotated import Rotated, count_rotated
from vgg_deploy.images.decode import image_size, read_image

TAG = 0x0112


def save(path, turn, size=(60, 40), **more):
    """A photo of noise with an orientation."""
    rng = np.random.default_rng(turn)
    exif = Image.Exif()
    exif[TAG] = turn
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = rng.integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path, exif=exif, **more)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("turn", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
def test_every_orientation(tmp_path, turn, suffix):
    path = tmp_path / f"x.{suffix}"
    save(path, turn)
    with Image.open(path) as image:
        stored, expected = image.convert("RGB"), ImageOps.exif_transpose(image).convert("RGB")
    assert np.array_equal(np.asarray(read_image(path)), np.asarray(stored))
    assert np.array_equal(np.asarray(read_image(path, upright=True)), np.asarray(expected))
    assert image_size(path) == (40, 60)
    assert image_size(path, upright=True) == (expected.height, expected.width)


def test_a_broken_block_says_nothing(tmp_path):
    path = tmp_path / "x.jpg"
    save(path, 6)
    content = path.read_bytes()
    broken = content.replace(b"Exif\0\0MM\0*", b"Exif\0\0XX\0*").replace(
        b"Exif\0\0II*\0", b"Exif\0\0XX*\0"
    )
    assert broken != content
    path.write_bytes(broken)
    assert np.array_equal(np.asarray(read_image(path, upright=True)), np.asarray(read_image(path)))


@pytest.fixture
def turned_photos(here):
    """The photos of a camera, a quarter of them held sideways; and upright copies of all."""
    rng = np.random.default_rng(1)
    for split, count in (("train", 12), ("val", 8)):
        for label in CLASSES:
            for i in range(count):
                path = here / "data" / split / label / f"{i}.png"
                turn = 6 if i % 4 == 0 else 1
                save(path, turn, size=(60, int(rng.integers(40, 50))))
                copy = here / "upright" / split / label / f"{i}.png"
                copy.parent.mkdir(parents=True, exist_ok=True)
                with Image.open(path) as image:
                    plain = ImageOps.exif_transpose(image).convert("RGB")
                Image.fromarray(np.asarray(plain)).save(copy)
    return here


def test_counting_and_identity(turned_photos):
    dataset = open_dataset(turned_photos / "data", "val")
    assert count_rotated(dataset) == Rotated(8, 32)
    assert count_rotated(open_dataset(turned_photos / "upright", "val")) == Rotated(0, 32)
    upright = replace(dataset, upright=True)
    assert upright.fingerprint() != dataset.fingerprint()
    assert upright.content_sha256(1) != dataset.content_sha256(1)
    assert upright.subset(3).upright


def scored(here, net, data, *words) -> tuple[str, list[np.ndarray]]:
    """What vgg-bench prints, and the posteriors of its new cell."""
    before = set((here / "cells").glob("*.npy"))
    words = ("--data", data, "--scales", "32", "--measure", "accuracy", "--no-flips", *words)
    output = run(vgg_bench, net, *words, "--threads", "1")
    cells = set((here / "cells").glob("*.npy")) - before
    return output, [np.load(path)["posterior"] for path in cells]


def test_bench(turned_photos):
    """Oracle: the upright copies, without EXIF."""
    here, net = turned_photos, save_net(thin_net("A"), turned_photos / "A.pt")
    output, (ignored,) = scored(here, net, "data")
    assert "8 of 32 images carry an EXIF rotation, which is not applied" in output
    assert "--exif apply turns them upright" in output
    output, (applied,) = scored(here, net, "data", "--exif", "apply")
    assert "8 of 32 images carry an EXIF rotation, and are turned upright" in output
    output, (expected,) = scored(here, net, "upright")
    assert "EXIF" not in output
    assert np.array_equal(applied, expected) and not np.array_equal(ignored, expected)


@pytest.mark.nightly
@pytest.mark.slow
def test_train_and_resume(turned_photos):
    """Oracle: the same training on the upright copies; all files have the same order."""
    here = turned_photos
    words = ("--arch", "A", *THIN, "--epochs", "1")
    output = run(train, *words, "--data", "data", "--exif", "apply", "--out", "applied")
    assert "Training images: 12 of 48 images carry an EXIF rotation, and are turned" in output
    run(train, *words, "--data", "upright", "--out", "upright-run")
    output = run(train, *words, "--data", "data", "--out", "ignored")
    assert "Validation images: 8 of 32 images carry an EXIF rotation, which is not" in output
    rows = {
        name: pd.read_csv(here / name / "metrics.csv").train_loss.iloc[0]
        for name in ("applied", "upright-run", "ignored")
    }
    assert rows["applied"] == rows["upright-run"] != rows["ignored"]
    assert json.loads((here / "applied" / "config.json").read_text())["sources"]["exif"] == "apply"
    output = run(train, "--resume", "applied", "--exif", "apply", code=2)
    assert "leave --exif out" in output


@pytest.mark.slow
def test_calibration(turned_photos):
    """Oracle: the ranges on the upright copies."""
    here, net = turned_photos, save_net(thin_net("A"), turned_photos / "A.pt")
    ranges = {}
    for name, words in (("data", ("--exif", "apply")), ("upright", ()), ("data", ())):
        out = f"exported-{name}-{len(words)}"
        export = ("--onnx", "--precision", "int8-cpu", "--calibration-images", "48", *words)
        output = run(vgg_export, net, *export, "--calibration", name, "--out", out, "--threads", 1)
        assert ("carry an EXIF rotation" in output) == (name == "data")
        ranges[out] = json.loads((here / out / "A.calibration.json").read_text())["ranges"]
    assert ranges["exported-data-2"] == ranges["exported-upright-0"] != ranges["exported-data-0"]
