"""Training of localisers: targets, loss, validation, and whole runs."""

import csv
import json
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tests.support import naive_boxes as naive
from tests.support.nets import CLASSES, save_net, thin_net
from tests.support.options import options
from tests.support.run import run
from tests.support.warm import until
from tests.train.test_trained_by_processes import assert_close, two
from train.__main__ import main as train
from train.feed.augment import Augmentation, random_view
from train.feed.box_targets import Place, box_target, centre_place
from train.feed.examples import Examples
from train.first_weights import load_what_fits
from train.record.contents import contents, describe_changes
from train.step.box_validation import judged
from train.step.objective import Localisation
from vgg_deploy.boxes.box_lists import BoxLists
from vgg_deploy.boxes.forms import read_boxes
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.net.checkpoint import load_checkpoint
from vgg_deploy.net.model import VGG
from vgg_deploy.net.open_net import open_localiser

SMALL = options("--task localise --batch 16 --epochs 2 --lr-drops 1 --lr 0.001 --threads 1")
TIMES = ["images_per_s", "elapsed_s"]


@pytest.mark.parametrize("seed", range(12))
def test_a_target_is_where_the_object_is_in_the_view(seed):
    """Oracle: a white rectangle on black, cut by the same code as photos, found by its pixels."""
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(90, 220, 2))
    left, top = int(rng.integers(width - 60)), int(rng.integers(height - 60))
    box = np.array([left, top, left + rng.integers(20, 60), top + rng.integers(20, 60)], float)
    image = Image.new("RGB", (width, height))
    image.paste((255, 255, 255), tuple(int(edge) for edge in box))
    view = random_view(image, Augmentation(96, (96, 160), "bilinear", np.zeros((3, 3)), 0), rng)
    place = Place(view.side, view.top, view.left, 96, view.mirrored)
    target = box_target(box[None], (height, width), place, "centre")
    assert target.dtype == np.float32
    window = np.array([0.0, 0, 96, 96])
    stated = read_boxes(target, window, "centre")
    white = view.crop[0].numpy() > 127
    inside = np.clip(stated, 0, 96)
    if not white.any():
        assert min(inside[2] - inside[0], inside[3] - inside[1]) < 1
        return
    rows, columns = np.flatnonzero(white.any(1)), np.flatnonzero(white.any(0))
    seen = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    np.testing.assert_allclose(inside, seen, atol=1.1)


def test_the_object_with_the_largest_part_in_the_view_is_the_target():
    boxes = np.array([[0.0, 0, 50, 50], [60, 60, 90, 90], [85, 0, 100, 10]])
    size = (100, 100)

    def chosen(top, left, crop):
        target = box_target(boxes, size, Place(100, top, left, crop), "edges")
        window = np.array([left, top, left + crop, top + crop], float)
        return read_boxes(target, window, "edges").round(3).tolist()

    assert chosen(0, 0, 100) == boxes[0].tolist()
    assert chosen(45, 45, 55) == boxes[1].tolist()  # 5 x 5 of the first, all of the second
    assert chosen(0, 80, 20) == boxes[2].tolist()
    assert chosen(91, 55, 9) == boxes[0].tolist()  # none is visible: the largest


def test_the_centre_crop_of_a_wide_image():
    assert centre_place((300, 400), 64, 32) == Place(64, 16, 26, 32)


@pytest.mark.parametrize("form", ["centre", "edges"])
@pytest.mark.parametrize("channels", [4, 12])
def test_the_loss_is_half_the_squared_distance_of_the_true_class(form, channels):
    rng = np.random.default_rng(channels)
    outputs = torch.tensor(rng.normal(0, 0.4, (6, channels)), requires_grad=True)
    labels, boxes = torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor(rng.normal(0, 0.4, (6, 4)))
    if form == "edges":
        boxes[:, 2:] += 0.6
    else:
        boxes[:, 2:].abs_()
    examples = Examples(torch.empty(0), labels, torch.arange(6), boxes)
    objective = Localisation(form)
    loss = objective.loss(outputs, examples)
    loss.backward()
    expected, gradient, wrong, overlaps = 0.0, np.zeros((6, channels)), 0, 0.0
    unit = np.array([-0.5, -0.5, 0.5, 0.5])
    for image in range(6):
        first = 4 * int(labels[image]) if channels > 4 else 0
        for number in range(4):
            apart = float(outputs.detach()[image, first + number] - boxes[image, number])
            expected += apart**2 / 2
            gradient[image, first + number] = apart
        stated = read_boxes(outputs.detach()[image, first : first + 4].numpy(), unit, form)
        overlap = naive.overlap(stated, read_boxes(boxes[image].numpy(), unit, form))
        overlaps += overlap
        wrong += overlap <= 0.5
    assert float(loss.detach()) == pytest.approx(expected)
    np.testing.assert_allclose(outputs.grad.numpy(), gradient)
    found = objective.judged(outputs.detach(), examples)
    assert [float(one) for one in found] == pytest.approx([wrong, overlaps])


def test_validation_counts_as_plain_loops_do():
    rng = np.random.default_rng(3)
    outputs, labels = rng.normal(0, 0.3, (20, 12)).astype(np.float32), rng.integers(0, 3, 20)
    outputs.reshape(20, 3, 4)[:, :, 2:] = 0.7
    true = [rng.uniform(-0.5, 0, (1 + n % 2, 2)) for n in range(20)]
    true = [np.concatenate([corner, corner + 0.6], axis=1) for corner in true]
    unit = np.array([-0.5, -0.5, 0.5, 0.5])
    wrong, overlaps = 0, 0.0
    for row, label, boxes in zip(outputs, labels, true, strict=True):
        box = read_boxes(row[4 * label : 4 * label + 4], unit, "centre")
        wrong += not naive.is_right(box, boxes)
        overlaps += max(naive.overlap(box, one) for one in boxes)
    counts = judged(outputs, labels, true, "centre")
    assert counts == pytest.approx((20, wrong, overlaps)) and 0 < wrong < 20
    outputs[3, 1] = np.nan
    assert np.isnan(judged(outputs, labels, true, "centre").top1_errors)


def test_the_last_layer_never_comes_from_a_classifier(tmp_path):
    """Four classes have as many scores as one shared box has numbers."""
    path = save_net(thin_net(), tmp_path / "A.pt")
    localiser = VGG(thin_net(boxes="shared").spec)
    before = localiser.state_dict()["fc8.weight"].clone()
    assert "fc8 start random" in load_what_fits(localiser, path)
    assert torch.equal(localiser.state_dict()["fc8.weight"], before)
    other = save_net(thin_net(boxes="shared", seed=5), tmp_path / "boxes.pt")
    assert "random" not in load_what_fits(localiser, other)
    assert "fc8 start random" in load_what_fits(VGG(thin_net().spec), other)


def test_changed_boxes_are_other_contents(photos):
    dataset = open_dataset(photos, "val")
    lists = [np.array([[0.0, 0, 9, 9]])] * len(dataset)
    boxed = replace(dataset, boxes=BoxLists.of(lists))
    assert describe_changes(contents(boxed), contents(boxed)) == ""
    moved = replace(dataset, boxes=BoxLists.of([*lists[:-1], lists[0] + 1]))
    assert describe_changes(contents(boxed), contents(moved)) == (
        f"1 with other boxes (first: {dataset.files[-1]})"
    )


REFUSED = {
    "--boxes x.csv": "add --task localise",
    "--box-outputs shared": "add --task localise",
    "--task localise": "add --weights",
    "--task localise --weights A.pt --data photos": "add --boxes ANNOTATIONS",
    "--task localise --weights A.pt --boxes x.csv": "add --data",
    "--task localise --weights A.pt --chain paper": "leave --chain and --net-a out",
    "--task localise --weights A.pt --arch A": "leave --arch, --width, --crop and --lrn out",
    "--task localise --weights A.pt --crop 64": "leave --arch, --width, --crop and --lrn out",
    "--task loclise": "did you mean localise?",
}


@pytest.mark.parametrize("line", REFUSED)
def test_options_that_contradict_get_one_sentence(line, here):
    assert REFUSED[line] in run(train, *options(line), code=2)


@pytest.fixture(scope="module")
def boxes_csv(photos, tmp_path_factory):
    """Two boxes for every image but one of each split, at places that depend on its class."""
    path = tmp_path_factory.mktemp("boxes") / "boxes.csv"
    rows = []
    for file in sorted(photos.glob("*/*/*.jpeg")):
        if file.name == "003.jpeg" and file.parent.name == "disc":
            continue
        with Image.open(file) as opened:
            width, height = opened.size
        split, name = file.parts[-3:-1]
        part = 2 + CLASSES.index(name)
        image = f"{split}/{name}/{file.stem}"
        rows.append([image, name, 1, 1, width // part, height // part])
        rows.append([image, name, width // 2, height // 2, width, height])
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([["image", "class", "xmin", "ymin", "xmax", "ymax"], *rows])
    return path


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    path = tmp_path_factory.mktemp("net") / "A.pt"
    return save_net(thin_net(crop=32, train_side=(48, 48)), path)


@pytest.fixture(scope="module")
def unbroken(warm, photos, boxes_csv, classifier, tmp_path_factory):
    here = tmp_path_factory.mktemp("unbroken")
    args = options(f"--weights {classifier} --data {photos} --boxes {boxes_csv} --workers 0")
    training = warm.train(here, *SMALL, *args, "--dropout", "0.5", "--out", here / "run")
    assert training.wait() == 0, training.output()
    return here / "run", training.output()


@pytest.mark.slow
def test_a_run_describes_itself(unbroken, classifier):
    folder, output = unbroken
    assert "190 objects of 95 training images" in output
    assert "1 training images have no box of their class and are left out" in output
    assert "fc8 start random" in output and "Localisation: per-class boxes" in output
    assert "S=48" in output and "Done: lowest validation localisation error" in output
    table = pd.read_csv(folder / "metrics.csv")
    assert {"val_localisation_error_pct", "val_mean_iou_pct"} <= set(table.columns)
    assert table.train_loss.iloc[-1] < table.train_loss.iloc[0]
    spec = load_checkpoint(folder / "best.pt").spec
    assert (spec.boxes, spec.box_form, spec.train_side) == ("per-class", "centre", (48, 48))
    assert spec.classes == CLASSES and "localisation from" in spec.recipe
    assert (folder / "curves.png").stat().st_size > 10_000
    saved = json.loads((folder / "config.json").read_text())
    assert saved["config"]["task"] == "localise" and saved["sources"]["boxes"].endswith(".csv")


@pytest.mark.slow
def test_validation_is_that_of_the_net_crop_by_crop(unbroken, photos, boxes_csv):
    """Oracle: each validation image in a loop, rescaled, cropped and read by hand."""
    folder, _ = unbroken
    net = open_localiser(folder / "best.pt")
    mean = torch.tensor(net.spec.preprocessing.mean).view(1, 3, 1, 1)
    true = {}
    with open(boxes_csv) as file:
        for row in csv.DictReader(file):
            corners = [float(row[name]) for name in ("xmin", "ymin", "xmax", "ymax")]
            true.setdefault(row["image"], []).append([corners[0] - 1, corners[1] - 1, *corners[2:]])
    wrong, overlaps = 0, []
    for image in [name for name in true if name.startswith("val/")]:
        with Image.open(photos / f"{image}.jpeg") as opened:
            pixels = opened.convert("RGB")
        width, height = pixels.size
        longer = int(48 * max(pixels.size) / min(pixels.size) + 0.5)
        size = (longer, 48) if width >= height else (48, longer)
        small = np.asarray(pixels.resize(size, Image.Resampling.BILINEAR))
        left, top = round((size[0] - 32) / 2), round((size[1] - 32) / 2)
        crop = torch.tensor(small[top : top + 32, left : left + 32]).permute(2, 0, 1)[None]
        with torch.inference_mode():
            numbers = net(crop.float() - mean)[0, :, 0, 0].view(-1, 4)
        x, y, w, h = (32 * float(n) for n in numbers[CLASSES.index(Path(image).parent.name)])
        x, y = x + left + 16, y + top + 16
        box = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
        sides = zip(box, [width, height] * 2, size * 2, strict=True)
        box = [edge * side / at_s for edge, side, at_s in sides]
        overlaps.append(max(naive.overlap(box, one) for one in true[image]))
        wrong += overlaps[-1] <= 0.5
    table = pd.read_csv(folder / "metrics.csv")
    best = table.iloc[table.val_localisation_error_pct[::-1].idxmin()]
    assert best.val_images == len(overlaps) == 23
    assert best.val_localisation_error_pct == pytest.approx(100 * wrong / 23, abs=1e-3)
    assert best.val_mean_iou_pct == pytest.approx(100 * np.mean(overlaps), abs=0.02)


@pytest.mark.slow
def test_killed_and_resumed_a_run_ends_bit_for_bit_the_same(
    warm, photos, boxes_csv, classifier, unbroken, here
):
    expected, _ = unbroken
    folder = here / "run"
    args = options(f"--weights {classifier} --data {photos} --boxes {boxes_csv} --dropout 0.5")
    more = options("--workers 1 --checkpoint-every 1")
    training = warm.train(here, *SMALL, *args, *more, "--out", folder)
    until(lambda: (folder / "last.pt").exists())
    training.send(signal.SIGKILL)
    training.wait()
    moved = here / "moved.csv"
    moved.write_bytes(Path(boxes_csv).read_bytes())
    again = warm.train(
        here, "--resume", folder, "--boxes", moved, *options("--threads 1 --workers 0")
    )
    assert again.wait() == 0, again.output()
    for name in ("last.pt", "best.pt"):
        one, two = (load_checkpoint(each / name) for each in (folder, expected))
        assert all(torch.equal(one.weights[key], two.weights[key]) for key in two.weights)
    for name in ("metrics.csv", "steps.csv"):
        one, two = (
            pd.read_csv(each / name).drop(columns=TIMES, errors="ignore")
            for each in (folder, expected)
        )
        pd.testing.assert_frame_equal(one, two, check_exact=True)
    text = moved.read_text().replace("train/disc/000,disc,1,1", "train/disc/000,disc,2,1")
    moved.write_text(text)
    output = run(train, "--resume", folder, "--boxes", moved, "--threads", "1", code=2)
    assert "1 with other boxes (first: train/disc/000.jpeg)" in output


@pytest.mark.slow
def test_two_processes_learn_what_one_does(warm, photos, boxes_csv, classifier, unbroken, here):
    expected, _ = unbroken
    args = options(f"--weights {classifier} --data {photos} --boxes {boxes_csv} --workers 0")
    codes, outputs = two(warm, here, *SMALL, *args, "--dropout", "0.5", "--out", here / "two")
    assert codes == [0, 0], outputs
    assert_close(here / "two", expected)


@pytest.mark.slow
def test_fully_connected_layers_alone_shared_boxes_and_half_precision(
    photos, boxes_csv, classifier, here
):
    args = options(f"--weights {classifier} --data {photos} --boxes {boxes_csv} --workers 0")
    more = options(
        "--freeze-features --box-outputs shared --box-form edges --precision bf16 --lr 1e-5"
    )
    output = run(train, *SMALL, *args, *more, "--out", here / "run")
    assert "centre crops" in output
    spec = load_checkpoint(here / "run/best.pt").spec
    assert (spec.boxes, spec.box_form) == ("shared", "edges")
    start, end = (load_checkpoint(path).weights for path in (classifier, here / "run/best.pt"))
    moved = {name for name in end if end[name].shape != start[name].shape}
    moved |= {name for name in end if name not in moved and not torch.equal(start[name], end[name])}
    assert {name.split(".")[0] for name in moved} == {"fc6", "fc7", "fc8"}
