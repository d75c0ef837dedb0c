"""Localisation errors of small nets against plain loops, and what the command says."""

import csv
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from bench.cli import main as bench
from bench.localisation.box_nets import open_box_nets
from bench.localisation.constant_box import best_constant_box, candidates
from bench.localisation.paper import fill_tables, paper_numbers
from bench.localisation.rows import localisation_rows
from bench.localisation.see_image import ImageSeen, Nets
from bench.models.model import ModelOptions, open_models
from export.release import ExportOptions, export_onnx
from tests.support import naive_boxes as naive
from tests.support.options import options
from tests.support.run import run
from vgg_deploy.boxes.answers import Merging
from vgg_deploy.boxes.box_lists import BoxLists
from vgg_deploy.images.decode import decode, rescale
from vgg_deploy.net.checkpoint import Checkpoint, save_checkpoint
from vgg_deploy.net.model import VGG, initialise
from vgg_deploy.net.spec import NetSpec

ROOT = Path(__file__).parents[3]
CLASSES = ("ant", "bee", "cat")
CROP, SIDES = 64, (64, 96)
FEW = options("--scales 64,96 --measure localisation --threads 1 --merge-match 0.7")


def made(path, seed, **fields):
    """A net whose outputs differ a lot between images and positions."""
    fields = {"classes": CLASSES, "crop": CROP, **fields}
    spec = NetSpec("A", width=1 / 32, train_side=(64, 64), **fields)
    net = VGG(spec)
    initialise(net, "he", torch.Generator().manual_seed(seed))
    with torch.no_grad():
        if spec.boxes:
            net.convolution("fc8").weight.mul_(0.02)
            bias = torch.tensor([0.0, 0.0, 0.7, 0.7]).repeat(spec.outputs // 4)
            net.convolution("fc8").bias.copy_(bias)
        else:
            net.convolution("fc8").weight.mul_(0.5)
    save_checkpoint(path, Checkpoint(spec, net.state_dict()))
    return net.eval()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Images of odd sizes with one or two boxes, a classifier and two localisers."""
    folder = tmp_path_factory.mktemp("boxes")
    rng = np.random.default_rng(0)
    rows = []
    for number in range(9):
        name = CLASSES[number % 3]
        width, height = int(rng.integers(60, 150)), int(rng.integers(60, 150))
        path = folder / "data/val" / name / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
        Image.fromarray(pixels).resize((width, height)).save(path)
        for _ in range(1 + number % 2):
            left, top = int(rng.integers(width // 4)), int(rng.integers(height // 4))
            rows.append([number, name, left + 1, top + 1, left + width // 2, top + height // 2])
    with open(folder / "boxes.csv", "w", newline="") as file:
        csv.writer(file).writerows([["image", "class", "xmin", "ymin", "xmax", "ymax"], *rows])
    made(folder / "A.pt", 1)
    made(folder / "per-class.pt", 2, boxes="per-class")
    made(folder / "shared.pt", 3, boxes="shared", box_form="edges")
    return folder


def measured(place, here, *more):
    output = run(bench, place / "A.pt", *FEW, "--data", place / "data", *more)
    return pd.read_csv(here / "results/localisation.csv"), output


def both(place):
    nets = ("--boxes-by", place / "per-class.pt", "--boxes-by", place / "shared.pt")
    return (*nets, "--boxes", place / "boxes.csv")


def softmax(scores):
    exponentials = [math.exp(score - max(scores)) for score in scores]
    return [value / sum(exponentials) for value in exponentials]


def read_box(numbers, window, form):
    """A box from four numbers, written out."""
    left, top, right, bottom = window
    width, height = right - left, bottom - top
    middle_x, middle_y = (left + right) / 2, (top + bottom) / 2
    a, b, c, d = (float(number) for number in numbers)
    if form == "centre":
        a, b, c, d = a - c / 2, b - d / 2, a + c / 2, b + d / 2
    return [
        middle_x + a * width,
        middle_y + b * height,
        middle_x + c * width,
        middle_y + d * height,
    ]


@torch.inference_mode()
def outputs(net, pixels):
    mean = torch.tensor(net.spec.preprocessing.mean).view(1, 3, 1, 1)
    return net(pixels[None].float() - mean)[0].double()


class Oracle:
    """All rows of one classifier and one or more localisers, in loops over positions."""

    def __init__(self, classifier, localisers, k=5):
        self.classifier, self.localisers, self.k = classifier, localisers, k

    def posterior(self, views):
        """Mean over views of the softmax of the mean score."""
        each = [softmax(outputs(self.classifier, view).mean(dim=(1, 2)).tolist()) for view in views]
        return [sum(values) / len(each) for values in zip(*each, strict=True)]

    def dense(self, image, sides):
        height, width = image.shape[1:]
        views = [rescale(image, side, "bilinear") for side in sides]
        posterior = self.posterior([turned for view in views for turned in (view, view.flip(2))])
        seen = []  # of a scale and localiser: per position scores, and boxes by class
        for net in self.localisers:
            for side, view in zip(sides, views, strict=True):
                scores, numbers = outputs(self.classifier, view), outputs(net, view)
                positions = []
                for row, column in np.ndindex(tuple(scores.shape[1:])):
                    window = naive.window(row, column, height, width, side, CROP)
                    at = softmax(scores[:, row, column].tolist())
                    stated = numbers[:, row, column].view(-1, 4)
                    boxes = [read_box(four, window, net.spec.box_form) for four in stated]
                    positions.append((at, boxes * (3 if len(boxes) == 1 else 1)))
                seen.append(positions)

        def box(label):
            among = []
            for positions in seen:
                best = [max(at[c] for at, _ in positions) for c in range(3)]
                if sum(value > best[label] for value in best) < self.k:
                    among += positions
            among = among or [one for positions in seen for one in positions]
            merged = naive.merge(
                [boxes[label] for _, boxes in among], [at[label] for at, _ in among], 0.7
            )
            return merged[0][0]

        return posterior, box

    def centre(self, image, side):
        view = rescale(image, side, "bilinear")
        (net,) = self.localisers
        top, left = (round((length - CROP) / 2) for length in view.shape[1:])
        crop = view[:, top : top + CROP, left : left + CROP]
        (height, width), (tall, wide) = image.shape[1:], view.shape[1:]
        window = [
            left * width / wide,
            top * height / tall,
            (left + CROP) * width / wide,
            (top + CROP) * height / tall,
        ]
        stated = outputs(net, crop)[:, 0, 0].view(-1, 4)
        boxes = [read_box(four, window, net.spec.box_form) for four in stated]
        return self.posterior([crop]), lambda label: boxes[label if len(boxes) > 1 else 0]


def errors(place, answer):
    """Per cent: box of the true class, top-1, top-5; and the mean overlap."""
    true, answers, labels, of_true = {}, [], [], []
    with open(place / "boxes.csv") as file:
        for row in csv.DictReader(file):
            xmin, ymin, xmax, ymax = (float(row[c]) for c in ("xmin", "ymin", "xmax", "ymax"))
            true.setdefault(int(row["image"]), []).append((xmin - 1, ymin - 1, xmax, ymax))
    for number in true:
        label = number % 3
        image = decode(place / "data/val" / CLASSES[label] / f"{number}.png")
        posterior, box = answer(image)
        order = sorted(range(3), key=lambda c: -posterior[c])
        answers.append([(c, box(c)) for c in order])
        labels.append(label)
        of_true.append(box(label))
    boxes = list(true.values())
    overlaps = [
        max(naive.overlap(box, one) for one in some)
        for box, some in zip(of_true, boxes, strict=True)
    ]
    return [
        100 * sum(overlap <= 0.5 for overlap in overlaps) / len(overlaps),
        naive.localisation_errors(answers, labels, boxes, 1),
        naive.localisation_errors(answers, labels, boxes, 5),
        100 * sum(overlaps) / len(overlaps),
    ]


COLUMNS = ["true_class_error_pct", "top1_error_pct", "top5_error_pct", "mean_iou_pct"]


@pytest.mark.slow
def test_every_row_is_that_of_plain_loops(place, here):
    table, output = measured(place, here, *both(place))
    per_class, shared = (
        made(place / "again.pt", *one[:1], **one[1])
        for one in ((2, {"boxes": "per-class"}), (3, {"boxes": "shared", "box_form": "edges"}))
    )
    classifier = made(place / "again.pt", 1)
    nets = {
        "per-class.pt": [per_class],
        "shared.pt": [shared],
        "per-class.pt + shared.pt": [per_class, shared],
    }
    assert len(table) == 2 * 5 + 1 + 1
    found = []
    for line in table.iloc[:-1].to_dict("records"):
        oracle = Oracle(classifier, nets[line["boxes_by"]])
        sides = [int(side) for side in line["scales"].split("+")]
        if line["protocol"] == "centre":
            expected = errors(place, lambda image, o=oracle, s=sides: o.centre(image, s[0]))
        else:
            expected = errors(place, lambda image, o=oracle, s=sides: o.dense(image, s))
        assert [line[column] for column in COLUMNS] == pytest.approx(expected, abs=1e-3), line
        found.append(expected)
    # a test in which all rows are equal would show nothing
    assert len({tuple(np.round(one, 2)) for one in found}) > 6
    assert 0 < min(one[0] for one in found) < 100
    assert "best constant box" in output and "Table 8" in output and "33.1" in output


def test_labels_are_chosen_with_mirror_images(place):
    image = rescale(decode(place / "data/val/bee/4.png"), 96, "bilinear")
    models = open_models([place / "A.pt"], ModelOptions())
    nets = open_box_nets([place / "shared.pt"], [], "cpu", 1)
    same = [[np.arange(3)]]
    oracle = Oracle(made(place / "again.pt", 1), [])
    found = []
    for flips, views in ((True, [image, image.flip(2)]), (False, [image])):
        together = Nets(models, nets, same, flips, Merging())
        seen = ImageSeen(together, {96: image.numpy()}, (96, 96))
        found.append(seen.posteriors(0, 96, False))
        np.testing.assert_allclose(found[-1], oracle.posterior(views), atol=1e-4)
    assert np.abs(found[0] - found[1]).max() > 1e-2


@pytest.mark.slow
def test_one_class_of_a_scale_gives_its_boxes(place, here):
    """k = 1, where most classes are among the first of no scale, or of one."""
    arguments = ("--boxes-by", place / "per-class.pt", "--boxes", place / "boxes.csv")
    table, _ = measured(place, here, *arguments, "--merge-classes", "1")
    oracle = Oracle(
        made(place / "again.pt", 1), [made(place / "again.pt", 2, boxes="per-class")], 1
    )
    line = table.iloc[4]
    assert line.scales == "64+96"
    expected = errors(place, lambda image: oracle.dense(image, SIDES))
    assert [line[column] for column in COLUMNS] == pytest.approx(expected, abs=1e-3)


@pytest.mark.slow
def test_images_of_the_blacklist_do_not_count(place, here):
    listed = here / "list.txt"
    listed.write_text("val/ant/0.png\n\n4\nelsewhere/77\n")
    arguments = ("--boxes-by", place / "shared.pt", "--boxes", place / "boxes.csv")
    with pytest.raises(AssertionError, match="mixes numbers and names"):
        measured(place, here, *arguments, "--blacklist", listed)
    listed.write_text("val/ant/0.png\n\nbee/4\nelsewhere/77\n")
    table, output = measured(place, here, *arguments, "--blacklist", listed)
    assert set(table.images) == {7} and "Blacklist: 2 of 9 images do not count" in output


REFUSED = {
    "A.pt --measure localisation": "add --boxes-by BOXNET.pt",
    "A.pt --boxes boxes.csv": "add --boxes-by BOXNET.pt",
    "A.pt --boxes-by shared.pt --data data": "add --boxes ANNOTATIONS",
    "A.pt --boxes-by shared.pt --boxes boxes.csv": "leave --boxes out",
    "A.pt --boxes-by shared.pt --boxes boxes.csv --data data --no-labels": "leave --no-labels",
    "A.pt --boxes-by A.pt --boxes boxes.csv --data data": (
        "A.pt: is a classifier, which scores classes and states no boxes; labels come from MODELS"
    ),
    "shared.pt --boxes-by shared.pt --boxes boxes.csv --data data": (
        "shared.pt: is a localiser, which states boxes and scores no classes; labels come from"
    ),
    "A.pt --boxes-by shared.pt --boxes none --data data": "none: is neither a folder of XML files",
    "A.pt --boxes-by shared.pt --boxes boxes.csv --data data --scales 32": "below the crop 64",
    "A.pt --boxes-by shared.pt --boxes-by shared.pt --boxes boxes.csv --data data": "named twice",
    "A.pt --boxes-by small.pt --boxes boxes.csv --data data": "has a crop of 64 and the filter",
    "A.pt --boxes-by other.pt --boxes boxes.csv --data data": "states boxes of other classes",
}


@pytest.mark.parametrize("line", REFUSED)
def test_what_does_not_fit_together_gets_one_sentence(line, place, monkeypatch, tmp_path):
    monkeypatch.chdir(place)
    made(place / "small.pt", 4, boxes="shared", crop=32)
    made(place / "other.pt", 4, boxes="shared", classes=(*CLASSES, "dog"))
    output = run(bench, *options(line), "--threads", "1", "--out", tmp_path / "results", code=2)
    assert REFUSED[line] in output


@pytest.mark.slow
def test_an_exported_classifier_chooses_the_labels_as_its_checkpoint(place, here):
    export_onnx(place / "A.pt", here, ExportOptions(("fp32",)), None, 1, lambda text: None)
    arguments = ("--boxes-by", place / "shared.pt", "--boxes", place / "boxes.csv")
    table, _ = measured(place, here, here / "A.fp32.onnx", *arguments)
    one, other = (table[table.model == name] for name in ("A.pt", "A.fp32.onnx"))
    assert len(one) == len(other) == 5
    for column in COLUMNS:
        assert one[column].tolist() == pytest.approx(other[column].tolist(), abs=1e-3)


@pytest.mark.nightly
@pytest.mark.slow
def test_two_processes_measure_what_one_does(place, here):
    arguments = [*FEW, *both(place), "--data", place / "data"]
    run(bench, place / "A.pt", *arguments, "--out", "one")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "bench", place / "A.pt", *arguments, "--out", "two"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(list(map(str, command)), env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    one, two = (pd.read_csv(f"{name}/localisation.csv") for name in ("one", "two"))
    pd.testing.assert_frame_equal(one, two)


def test_the_best_constant_box_is_that_of_loops():
    rng = np.random.default_rng(4)
    lists, sizes = [], []
    for number in range(12):
        height, width = rng.integers(50, 200, 2)
        corner = rng.uniform(0, 0.5, (1 + number % 3, 2)) * (width, height)
        lists.append(np.concatenate([corner, corner + [width * 0.4, height * 0.45]], axis=1))
        sizes.append((height, width))
    found = best_constant_box(BoxLists.of(lists), np.array(sizes))
    best = (-1, -1.0)
    for left, top, right, bottom in candidates():
        overlaps = [
            max(naive.overlap((left * w, top * h, right * w, bottom * h), box) for box in boxes)
            for boxes, (h, w) in zip(lists, sizes, strict=True)
        ]
        best = max(best, (sum(overlap > 0.5 for overlap in overlaps), sum(overlaps)))
    assert len(candidates()) == 55**2
    assert (found.right.sum(), found.overlaps.sum()) == pytest.approx(best)


def test_rows_of_two_nets_and_the_scales_of_the_paper():
    specs = [
        NetSpec("D", ("a",), boxes="per-class", train_side=(side, side)) for side in (256, 384)
    ]
    rows = localisation_rows(1, specs, None)
    assert [(row.protocol, row.scales) for row in rows] == [
        ("centre", "256"),
        ("dense", "256"),
        ("dense", "224+256+288"),
        ("centre", "384"),
        ("dense", "384"),
        ("dense", "352+384+416"),
        ("dense", "224+256+288 | 352+384+416"),
    ]
    assert rows[-1].sides == (224, 256, 288, 352, 384, 416)


def test_the_papers_tables_are_as_printed():
    numbers = paper_numbers()
    eight = numbers[numbers.table == 8]
    assert eight.error_val.tolist() == [33.1, 34.3, 36.4]
    nine = numbers[numbers.table == 9]
    assert nine.error_val.tolist() == [29.5, 28.2, 27.5, 26.9]
    assert nine.error_test.dropna().tolist() == [26.7, 25.3]
    assert numbers[numbers.table == 10].error_test.tolist() == [25.3, 26.7, 29.9, 34.2]
    assert fill_tables.__doc__
