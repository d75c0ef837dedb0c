"""A head on frozen features: validated as the whole net is, with unreadable images counted."""

import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from bench.cli import main as vgg_bench
from tests.support.nets import save_net, thin_net
from tests.support.run import run
from train.__main__ import main as train
from train.feed.frozen_features import Extraction, pool5_features
from train.step.head_validation import whole_maps
from train.step.validation import BATCH
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.net.checkpoint import load_checkpoint
from vgg_deploy.net.model import posterior
from vgg_deploy.net.open_net import open_net

THIN = [
    "--width", "0.0625", "--crop", "32", "--batch", "16", "--init", "he",
    "--workers", "0", "--threads", "1",
]  # fmt: skip


@pytest.fixture
def weights(here):
    return save_net(thin_net("A"), here / "A.pt")


def head_on(weights, photos, folder, *more, code=0) -> str:
    """Train a head; what the command prints."""
    files = ["--data", photos, "--weights", weights, "--out", folder]
    recipe = [*THIN, "--arch", "A", "--freeze-features", "--lr", "0.01"]
    return run(train, *recipe, *files, *more, code=code)


def rescaled(path, side: int) -> torch.Tensor:
    """(3, H, W) float32 RGB by Pillow, with this shorter side."""
    image = Image.open(path).convert("RGB")
    short = min(image.size)
    size = tuple(side if v == short else math.floor(side * v / short + 0.5) for v in image.size)
    pixels = np.array(image.resize(size, Image.Resampling.BILINEAR))
    return torch.from_numpy(pixels).permute(2, 0, 1).float()


def naive_errors(checkpoint, root, side: int) -> tuple[float, float]:
    """Top-1 and top-5 errors of dense evaluation in per cent, one image at a time.

    No loader of this project is used.
    """
    net, dataset = open_net(checkpoint), open_dataset(root, "val")
    mean = torch.tensor(net.spec.preprocessing.mean).view(3, 1, 1)
    wrong = np.zeros(2)
    for index, label in enumerate(dataset.labels):
        pixels = rescaled(dataset.path(index), side) - mean
        with torch.inference_mode():
            order = posterior(net(pixels[None]))[0].argsort(descending=True)
        wrong += [label not in order[:k] for k in (1, 5)]
    return tuple(100 * wrong / len(dataset))


@pytest.mark.parametrize(("side", "test_side"), [("64", 64), ("60:132", 96)])
@pytest.mark.slow
def test_the_validation_error_is_that_of_dense_evaluation(here, photos, weights, side, test_side):
    """Oracles: vgg-bench on the same checkpoint, and a loop over the images.

    Centre crops give another error here.
    """
    output = head_on(
        weights, photos, here / "run", "--side", side, "--epochs", "4", "--lr", "0.0003"
    )
    row = pd.read_csv(here / "run" / "metrics.csv").iloc[-1]
    last = here / "run" / "last.pt"
    accuracy_only = ["--measure", "accuracy", "--threads", "1"]
    at_one_scale = ["--scales", test_side, "--protocols", "dense,centre"]
    run(vgg_bench, last, "--data", photos, *at_one_scale, *accuracy_only)
    table = pd.read_csv(here / "results" / "accuracy.csv")
    table = table[~table.flips].set_index("protocol")
    dense, centre = table.loc["dense"], table.loc["centre"]
    # metrics.csv has three decimals
    assert row.val_top1_error_pct == pytest.approx(dense.top1_error_pct, abs=5e-4)
    assert row.val_top5_error_pct == pytest.approx(dense.top5_error_pct, abs=5e-4)
    errors = (row.val_top1_error_pct, row.val_top5_error_pct)
    assert errors == pytest.approx(naive_errors(last, photos, test_side), abs=5e-4)
    assert dense.top1_error_pct != centre.top1_error_pct, "or this test would compare nothing"
    assert row.val_images == 24
    assert "Features of 24 validation images are computed once and kept: about" in output


@pytest.mark.slow
def test_maps_are_pool5_of_whole_images_and_are_kept(photos):
    """Oracle: the trunk on each image by itself."""
    dataset, net = open_dataset(photos, "val"), thin_net("B")
    lines: list[str] = []
    how = Extraction(net, 70, "cpu", 2, "stop", lines.append)
    for _ in range(2):  # computed, then from the cache
        maps = whole_maps(dataset, how)
    assert len(lines) == 1 and sorted(maps.table[:, 0]) == list(range(len(dataset)))
    mean = torch.tensor(net.spec.preprocessing.mean).view(3, 1, 1)
    seen = []
    for indices, values in maps.batches():
        assert len(indices) <= BATCH and values.dtype == np.float32
        for index, value in zip(indices, values, strict=True):
            pixels = rescaled(dataset.path(int(index)), 70) - mean
            with torch.inference_mode():
                expected = net.trunk(pixels[None])[0].numpy()
            assert value.shape == expected.shape
            tolerance = 1e-4 * np.abs(expected).max()
            np.testing.assert_allclose(value, expected, rtol=1e-4, atol=tolerance)
            seen.append(int(index))
    assert sorted(seen) == list(range(len(dataset)))


@pytest.mark.slow
def test_damaged_maps_are_computed_again(photos, own_cache):
    dataset = open_dataset(photos, "val")
    lines: list[str] = []
    how = Extraction(thin_net("C"), 40, "cpu", 1, "stop", lines.append)
    first = np.array(whole_maps(dataset, how).values)
    (path,) = (own_cache / "features").glob("C-val-*.maps")
    path.write_bytes(path.read_bytes()[:-4])
    np.testing.assert_array_equal(whole_maps(dataset, how).values, first)
    assert len(lines) == 3 and "damaged" in lines[1]
    flip(path, 1000)
    np.testing.assert_array_equal(whole_maps(dataset, how).values, first)
    assert len(lines) == 5 and str(path) in lines[3] and "computed again" in lines[3]


@pytest.mark.slow
def test_damaged_training_features_are_computed_again(photos, own_cache):
    """Oracle: the values before the damage."""
    dataset = open_dataset(photos, "val")
    lines: list[str] = []
    how = Extraction(thin_net("C"), 40, "cpu", 1, "stop", lines.append)
    first = np.array(pool5_features(dataset, how).values)
    (path,) = (own_cache / "features").glob("C-train-*.npy")
    (listed,) = (own_cache / "features").glob("C-train-*.json")
    whole = json.loads(listed.read_text())
    damages = (
        lambda: flip(path, path.stat().st_size - 9),
        lambda: path.write_bytes(path.read_bytes()[:500]),
        lambda: path.write_bytes(b""),
        lambda: listed.write_text("5"),
        lambda: listed.write_text("[0]"),
        lambda: listed.write_text(json.dumps({**whole, "unreadable": [999]})),
        lambda: listed.unlink(),
    )
    for number, damage in enumerate(damages, start=1):
        damage()
        np.testing.assert_array_equal(pool5_features(dataset, how).values, first)
        damaged = [line for line in lines if line.startswith(f"{path}: the cached features")]
        assert len(damaged) == number, number
    count = len(lines)
    pool5_features(dataset, how)  # whole again
    assert len(lines) == count


def flip(path, at: int) -> None:
    """Change one bit of a file."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.slow
def test_unreadable_images_are_named_and_counted(here, photos_copy, weights):
    """One of 96 in training, one of 24 in validation.

    Oracle: the same training without those files would see the same images.
    """
    bad = (photos_copy / "train" / "disc" / "003.jpeg", photos_copy / "val" / "square" / "002.jpeg")
    for path in bad:
        path.write_bytes(path.read_bytes()[:300])
    more = ["--side", "48", "--epochs", "2"]
    output = head_on(weights, photos_copy, here / "stop", *more, code=2)
    assert any(str(path) in output for path in bad) and not (here / "stop").exists()
    for name in ("skip", "again"):  # computed, then from the cache
        output = head_on(weights, photos_copy, here / name, *more, "--on-error", "skip")
        assert output.count("Left out (1 so far)") == 1 and str(bad[0]) in output
        assert output.count("Left out of validation (1 so far)") == 1 and str(bad[1]) in output
        metrics = pd.read_csv(here / name / "metrics.csv")
        assert metrics.val_images.tolist() == [23, 23]
    assert output.count("computed once") == 0
    computed, cached = (
        pd.read_csv(here / name / "metrics.csv").drop(columns=["images_per_s", "elapsed_s"])
        for name in ("skip", "again")
    )
    pd.testing.assert_frame_equal(computed, cached, check_exact=True)
    top1_error, _ = naive_errors_without(here / "skip" / "last.pt", photos_copy, bad[1])
    assert metrics.val_top1_error_pct.iloc[-1] == pytest.approx(top1_error, abs=5e-4)
    # though features are in the cache
    assert "damaged" in head_on(weights, photos_copy, here / "stop", *more, code=2)


def naive_errors_without(checkpoint, root, path) -> tuple[float, float]:
    """`naive_errors` of the data without one file, at the net's test scale."""
    content = path.read_bytes()
    path.unlink()
    try:
        return naive_errors(checkpoint, root, load_checkpoint(checkpoint).spec.test_side)
    finally:
        path.write_bytes(content)


def test_a_disk_without_space_is_named_before_features_are_computed(
    here, photos, weights, monkeypatch
):
    def nearly_full(path):
        return shutil._ntuple_diskusage(total=10**6, used=10**6 - 1, free=1)

    monkeypatch.setattr(shutil, "disk_usage", nearly_full)
    output = head_on(weights, photos, here / "run", "--side", "61", "--epochs", "1", code=2)
    assert "MB are needed for features and 0.0 MB are free; make space" in output
    assert "set VGG_DEPLOY_CACHE" in output
