"""The whole chain on images with one object each: a classifier, a localiser, their errors."""

import csv

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

from bench.cli import main as bench
from tests.support.options import options
from tests.support.run import run
from train.__main__ import main as train

SIDE, TRAIN, VAL = 64, 160, 40


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """A bright disc or square on a dark ground; and its box, exactly."""
    root = tmp_path_factory.mktemp("scenes")
    rng = np.random.default_rng(5)
    rows = []
    for split, count in (("train", TRAIN), ("val", VAL)):
        for number in range(count):
            name = ("disc", "square")[number % 2]
            size = int(rng.integers(24, 40))
            left, top = (int(rng.integers(SIDE - size)) for _ in range(2))
            image = Image.fromarray(rng.integers(0, 60, (SIDE, SIDE, 3), np.uint8))
            pen, ink = ImageDraw.Draw(image), tuple(rng.integers(150, 256, 3).tolist())
            box = [left, top, left + size - 1, top + size - 1]
            (pen.ellipse if name == "disc" else pen.rectangle)(box, fill=ink)
            path = root / split / name / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
            place = f"{split}/{name}/{number:03d}"
            rows.append([place, name, left + 1, top + 1, left + size, top + size])
    with open(root / "boxes.csv", "w", newline="") as file:
        csv.writer(file).writerows([["image", "class", "xmin", "ymin", "xmax", "ymax"], *rows])
    return root


@pytest.mark.slow
def test_a_localiser_beats_the_best_constant_box_by_far(scenes, here):
    data = options(f"--data {scenes} --threads 1 --workers 0")
    net = options("--arch A --width 0.125 --crop 64 --side 64 --batch 16 --init he --dropout 0")
    run(train, *net, *options("--epochs 2 --lr 0.003 --out A"), *data[:-2], "--workers", "0")
    more = options("--task localise --weights A/best.pt --batch 16 --dropout 0 --init paper-std")
    steps = options("--epochs 12 --lr 0.01 --lr-drops 10 --box-outputs shared --out boxes")
    output = run(train, *more, *steps, *data, "--boxes", scenes / "boxes.csv")
    assert "Done: lowest validation localisation error" in output
    judged = options("--measure localisation --boxes-by boxes/best.pt --threads 1 --no-flips")
    run(bench, "A/best.pt", *judged, "--data", scenes, "--boxes", scenes / "boxes.csv")
    table = pd.read_csv("results/localisation.csv")
    error = dict(zip(table.protocol.fillna("constant"), table.true_class_error_pct, strict=True))
    assert error["centre"] < error["constant"] / 2, error
    metrics = pd.read_csv("boxes/metrics.csv")
    # at 64 x 64 the centre crop is the image
    best = metrics.val_localisation_error_pct.min()
    assert error["centre"] == pytest.approx(best, abs=1e-3)
    assert "Tables 8" not in output and "<h2" in (here / "results/report.html").read_text()
