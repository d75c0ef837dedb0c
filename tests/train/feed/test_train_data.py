"""The images of a run.

Unreadable ones are reported early and counted, and a resumed run sees those it was started with.
"""

import dataclasses
import json
import shutil
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from tests.support.run import run
from train.__main__ import main as train
from train.feed.colour_statistics import Colours, measure_colours
from train.pack import main as pack
from train.record.contents import compare_contents, contents, describe_changes, keep_contents
from train.record.run_folder import Run
from train.step import loop
from train.step.step_metrics import StepMetrics
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.errors import InputError
from vgg_deploy.net.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

pytestmark = pytest.mark.slow

THIN = [
    "--width", "0.0625", "--crop", "32", "--batch", "16", "--init", "he", "--lr", "0.003",
    "--workers", "0", "--threads", "1",
]  # fmt: skip
ONE = ["--arch", "A", *THIN, "--side", "32:48"]


def cut(path: Path) -> Path:
    """Leave an image whose header is sound."""
    path.write_bytes(path.read_bytes()[:400])
    return path


# --- unreadable images ---


@pytest.mark.slow
def test_a_damaged_training_image_stops_before_anything_is_trained(here, photos_copy):
    bad = [cut(photos_copy / "train" / kind / "001.jpeg") for kind in ("disc", "square")]
    output = run(train, *ONE, "--data", photos_copy, "--epochs", "1", "--out", here / "run", code=2)
    assert str(bad[0]) in output and "--on-error skip" in output
    assert "2 of 96 training images that were looked at cannot be read" in output
    assert not (here / "run").exists() and "epoch 1" not in output


@pytest.mark.slow
def test_the_mean_says_of_how_many_images_it_is_and_is_not_kept(here, photos_copy, own_cache):
    """Oracle: the mean of the images that are left, one at a time."""
    bad = cut(photos_copy / "train" / "disc" / "001.jpeg")
    common = [*ONE, "--epochs", "1", "--on-error", "skip"]
    kept_before = set((own_cache / "colours").glob("*"))  # by other tests of this session
    output = run(train, *common, "--data", photos_copy, "--out", here / "run")
    assert f"(of 95 training images; 1 more cannot be read, the first: {bad}" in output
    assert "Left out (1 so far)" in output
    colours = measure_colours(open_dataset(photos_copy, "train"), 1)
    assert (colours.images, len(colours.unreadable)) == (95, 1)
    readable = [path for path in (photos_copy / "train").glob("*/*.jpeg") if path != bad]
    means = [np.asarray(Image.open(path)).mean((0, 1)) for path in readable]
    np.testing.assert_allclose(colours.mean, np.mean(means, axis=0), atol=0.01)
    assert set((own_cache / "colours").glob("*")) == kept_before


@pytest.mark.slow
def test_a_validation_image_without_a_header_stops_before_the_first_epoch(here, photos_copy):
    for kind in ("disc", "square"):
        (photos_copy / "val" / kind / "001.jpeg").write_bytes(b"no image")
    output = run(train, *ONE, "--data", photos_copy, "--epochs", "1", "--out", here / "run", code=2)
    assert "val/disc/001.jpeg" in output
    assert "2 of 24 validation images that were looked at cannot be read" in output
    assert not (here / "run").exists()


@pytest.mark.parametrize("content", [None, b"no image", b""])
@pytest.mark.slow
def test_unreadable_validation_images_are_named_once_and_counted(here, photos_copy, content):
    """Oracle: the same run on data without the file has the same errors."""
    bad = photos_copy / "val" / "stripes" / "004.jpeg"
    bad.write_bytes(bad.read_bytes()[:400] if content is None else content)
    common = [*ONE, "--epochs", "2", "--on-error", "skip", "--data", photos_copy]
    output = run(train, *common, "--out", here / "bad")
    assert output.count("Left out of validation") == 1
    assert f"Left out of validation (1 so far): {bad}" in output
    assert output.count("Validation errors are of 23 of 24 images") == 2  # epochs
    bad.unlink()
    output = run(train, *common, "--out", here / "without")
    assert "Validation errors are of" not in output
    one, two = (pd.read_csv(here / name / "metrics.csv") for name in ("bad", "without"))
    assert one.val_images.tolist() == two.val_images.tolist() == [23, 23]
    for column in ("val_top1_error_pct", "val_top5_error_pct"):
        assert one[column].tolist() == two[column].tolist()


# --- a resumed run and its data ---


@pytest.fixture
def stopped(here, photos_copy, monkeypatch) -> Path:
    """A run of 3 epochs that was interrupted after its first."""
    add_epoch = Run.add_epoch

    def interrupted(self, row):
        add_epoch(self, row)
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Run, "add_epoch", interrupted)
    run(train, *ONE, "--data", photos_copy, "--epochs", "3", "--out", here / "run", code=143)
    monkeypatch.setattr(Run, "add_epoch", add_epoch)
    return here / "run"


def resumed(folder, *more, code=0) -> str:
    return run(train, "--resume", folder, "--workers", "0", "--threads", "1", *more, code=code)


def one_more(root: Path, split: str) -> str:
    shutil.copy(root / split / "disc" / "003.jpeg", root / split / "disc" / "099.jpeg")
    return f"1 added (first: {split}/disc/099.jpeg)"


def one_less(root: Path, split: str) -> str:
    (root / split / "disc" / "003.jpeg").unlink()
    return f"1 removed (first: {split}/disc/003.jpeg)"


def replaced(root: Path, split: str) -> str:
    """As many images as before, one of another class under another name."""
    shutil.move(root / split / "disc" / "003.jpeg", root / split / "square" / "099.jpeg")
    return f"1 added (first: {split}/square/099.jpeg), 1 removed (first: {split}/disc/003.jpeg)"


def rewritten(root: Path, split: str) -> str:
    Image.new("RGB", (50, 60), (1, 2, 3)).save(root / split / "disc" / "003.jpeg")
    return f"1 of another size or content (first: {split}/disc/003.jpeg)"


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("change", [one_more, one_less, replaced, rewritten])
@pytest.mark.slow
def test_changed_data_are_refused_with_what_changed(stopped, photos_copy, split, change):
    kept = (stopped / "last.pt").read_bytes()
    changes = change(photos_copy, split)
    output = resumed(stopped, code=2)
    kind = {"train": "training", "val": "validation"}[split]
    images = f"the {kind} images in {photos_copy}"
    assert f"{images} are not those it was started with: {changes}. " in output
    assert f"--weights {stopped / 'last.pt'}" in output
    assert (stopped / "last.pt").read_bytes() == kept


@pytest.mark.slow
def test_the_same_data_resume_whatever_their_times(stopped, photos_copy):
    for path in photos_copy.rglob("*.jpeg"):
        path.touch()
    assert "Done" in resumed(stopped)


@pytest.mark.slow
def test_moved_data_resume_and_are_found_again(stopped, photos_copy, here):
    moved = photos_copy.rename(here / "moved")
    assert "photos" in resumed(stopped, code=2)
    assert "Done" in resumed(stopped, "--data", moved)
    assert json.loads((stopped / "config.json").read_text())["sources"]["data"] == str(moved)
    one_less(moved, "val")
    assert "1 removed" in resumed(stopped, code=2)


def test_other_data_are_no_moved_data(stopped, photos, here):
    other = shutil.copytree(photos, here / "other")
    replaced(other, "train")
    assert "not those it was started with" in resumed(stopped, "--data", other, code=2)
    assert json.loads((stopped / "config.json").read_text())["sources"]["data"] != str(other)


def test_colour_axes_are_those_the_run_was_started_with(stopped, photos_copy):
    """They are in the checkpoint, so nothing is measured again."""
    of_the_run = Colours.from_json(load_checkpoint(stopped / "last.pt").training["colours"])
    measured = measure_colours(open_dataset(photos_copy, "train"), 1)
    np.testing.assert_array_equal(of_the_run.covariance, measured.covariance)
    np.testing.assert_array_equal(of_the_run.mean, measured.mean)


def as_of_an_earlier_version(folder: Path) -> None:
    """Without what this version added: lists of images, and parts of the state."""
    for path in folder.glob("*_images.index"):
        path.unlink()
    checkpoint = load_checkpoint(folder / "last.pt")
    old = {
        name: value
        for name, value in checkpoint.training.items()
        if name not in ("window", "window_s", "colours")
    }
    for row in old["rows"]:
        del row["val_images"]
    weights = {name: tensor.clone() for name, tensor in checkpoint.weights.items()}
    save_checkpoint(folder / "last.pt", Checkpoint(checkpoint.spec, weights, old))


@pytest.mark.slow
def test_a_run_of_an_earlier_version_resumes_with_one_warning(stopped, photos_copy, here):
    as_of_an_earlier_version(stopped)
    output = resumed(stopped)
    assert (
        output.count("has no list of its images") == 1 and "Done" in output and "Curves" in output
    )
    metrics = pd.read_csv(stopped / "metrics.csv")
    assert metrics.val_images.isna().tolist() == [True, False, False]
    one_less(photos_copy, "train")
    assert "1 removed" in resumed(stopped, code=2)


def test_a_run_of_an_earlier_version_with_another_number_of_images(stopped, photos_copy):
    as_of_an_earlier_version(stopped)
    one_less(photos_copy, "train")
    assert "was trained on 96 images" in resumed(stopped, code=2)


def test_a_damaged_list_is_named(stopped):
    path = stopped / "val_images.index"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert f"{path}: cannot be read" in resumed(stopped, code=2)


@pytest.mark.slow
def test_a_chain_s_later_stages_see_the_data_of_its_first(here, photos_copy):
    """The first stage is done, and only the chain's own lists show what the second must see."""
    recipe = [*THIN, "--arch", "B", "--chain", "paper", "--epochs", "1"]
    chain = [*recipe, "--data", photos_copy, "--out", here / "chain"]
    run(train, *chain, "--stage", "A-256")
    changes = replaced(photos_copy, "train")
    for command in (chain, ["--resume", here / "chain", "--workers", "0"]):
        output = run(train, *command, code=2)
        assert f"are not those it was started with: {changes}" in output and "Stage B" not in output
    images = photos_copy / "train"
    shutil.move(images / "square" / "099.jpeg", images / "disc" / "003.jpeg")
    moved = photos_copy.rename(here / "moved")
    output = resumed(here / "chain", "--data", moved)
    assert "The chain's nets are in" in output
    assert json.loads((here / "chain" / "chain.json").read_text())["sources"]["data"] == str(moved)


# --- the lists themselves ---


def test_lists_of_shards_see_what_their_names_do_not(photos_copy, tmp_path):
    """The same names, other bytes of an image."""
    run(pack, photos_copy, tmp_path / "one", "--images-per-shard", "40")
    rewritten(photos_copy, "train")
    run(pack, photos_copy, tmp_path / "two", "--images-per-shard", "40")
    one, two = (contents(open_dataset(tmp_path / name, "train")) for name in ("one", "two"))
    assert describe_changes(one, one) == ""
    assert describe_changes(one, two).startswith("1 of another size or content (first: train-0000")


def test_lists_that_differ_in_their_order_or_classes_only(photos, tmp_path):
    dataset = open_dataset(photos, "train")
    keep_contents(tmp_path, dataset, dataset)
    assert compare_contents(tmp_path, dataset, dataset, "")
    reversed_order = np.arange(len(dataset))[::-1]
    turned = dataclasses.replace(
        dataset,
        files=tuple(dataset.files[index] for index in reversed_order),
        labels=dataset.labels[reversed_order],
    )
    with pytest.raises(InputError, match="their order is another"):
        compare_contents(tmp_path, turned, dataset, "")
    relabelled = dataclasses.replace(dataset, labels=np.roll(dataset.labels, 1))
    with pytest.raises(InputError, match="4 of another class"):
        compare_contents(tmp_path, dataset, relabelled, "")


# --- rows of steps.csv ---


@pytest.mark.slow
def test_rows_of_steps_do_not_depend_on_checkpoints_or_interruptions(here, photos, monkeypatch):
    """Every 20 updates and at the end of an epoch of 24 updates.

    Oracle: the means, computed from a run with a row per update.
    """
    args = [*ONE, "--data", photos, "--batch", "4", "--epochs", "2", "--out"]
    monkeypatch.setattr(loop, "LOG_STEPS", 1)
    run(train, *args, here / "every")
    monkeypatch.setattr(loop, "LOG_STEPS", 20)
    run(train, *args, here / "whole")
    run(train, *args, here / "often", "--checkpoint-every", "3")
    collect, seen = StepMetrics.collect, []

    def interrupted(self):
        collect(self)
        if self.state.step == 29 and not seen:
            seen.append(29)
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(StepMetrics, "collect", interrupted)
    run(train, *args, here / "broken", "--checkpoint-every", "7", code=143)
    monkeypatch.setattr(StepMetrics, "collect", collect)
    resumed(here / "broken")
    tables = {
        name: pd.read_csv(here / name / "steps.csv").drop(columns="images_per_s")
        for name in ("every", "whole", "often", "broken")
    }
    assert tables["whole"].step.tolist() == [20, 24, 40, 48]
    pd.testing.assert_frame_equal(tables["often"], tables["whole"], check_exact=True)
    pd.testing.assert_frame_equal(tables["broken"], tables["whole"], check_exact=True)
    losses = tables["every"].train_loss.to_numpy()
    means = [losses[:20].mean(), losses[20:24].mean(), losses[24:40].mean(), losses[40:].mean()]
    np.testing.assert_allclose(tables["whole"].train_loss, means, atol=2e-5)
    one, two = (load_checkpoint(here / name / "last.pt") for name in ("whole", "broken"))
    assert all(torch.equal(one.weights[name], two.weights[name]) for name in one.weights)


@pytest.mark.parametrize("damage", ["", "[]", "{}", "5", "[" * 100_000, "digit", "mean", "kind"])
def test_damaged_mean_colours_are_measured_again(photos, own_cache, damage):
    """Oracle: the values before the damage."""
    dataset = open_dataset(photos, "val")
    first = measure_colours(dataset, 1)
    path = own_cache / "colours" / f"{dataset.fingerprint()[:32]}.json"
    text = path.read_text()
    record = json.loads(text)
    mean = str(record["mean"][0])
    edited = {
        "digit": text.replace(mean, mean.replace(".", "0.", 1), 1),
        "mean": json.dumps({**record, "mean": [0, 0, 0]}),
        "kind": json.dumps({**record, "mean": "x"}),
    }
    path.write_text(edited.get(damage, damage))
    assert path.read_text() != text
    again = measure_colours(dataset, 1)
    np.testing.assert_array_equal(again.mean, first.mean)
    np.testing.assert_array_equal(again.covariance, first.covariance)
    assert path.read_text() == text  # written again
