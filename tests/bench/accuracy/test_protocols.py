"""Every protocol against a naive evaluation, view by view, and the geometry in closed form."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as tv

from bench.accuracy.measure import measure_accuracy
from bench.accuracy.protocols import Row, rows_of
from bench.accuracy.selection import select_rows
from bench.accuracy.settings import Scoring, Storage
from bench.models.model import ModelOptions, open_models
from export.release import ExportOptions, export_onnx
from tests.support.naive import Naive
from tests.support.nets import CLASSES, save_net, thin_net
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.images.crops import VIEW_SETS, centre, corners_and_centre, offset, regular_grid
from vgg_deploy.images.protocols import DENSE, PROTOCOLS
from vgg_deploy.net.spec import NetSpec

# height, width
SIZES = [(40, 71), (90, 47), (64, 64), (33, 150), (20, 28), (200, 31), (48, 48), (57, 58)]


@pytest.fixture(scope="module")
def odd_photos(tmp_path_factory):
    """Two noisy images per class: portrait, landscape, square, extreme, small, one grey.

    Small is smaller than Q and than the crop.
    """
    root, rng = tmp_path_factory.mktemp("odd"), np.random.default_rng(3)
    for i, (height, width) in enumerate(SIZES):
        folder = root / "val" / CLASSES[i % 4]
        folder.mkdir(parents=True, exist_ok=True)
        noise = rng.integers(0, 256, (height // 5 + 1, width // 5 + 1, 3), np.uint8)
        image = Image.fromarray(noise).resize((width, height))
        if i == 3:
            image = image.convert("L")
        image.save(folder / f"{i}.{'jpeg' if i % 2 else 'png'}")
    return root


def averaged(row: Row, measured) -> np.ndarray:
    """(images, classes) posteriors of a row, from its cells and their weights."""
    cells = measured.cells
    return sum(weight * cells[cell].posteriors.astype(float) for cell, weight in row.cells())


def measure(paths, data, tmp_path, protocols, sides, fuse=(), batch=5):
    models, dataset = open_models(paths, ModelOptions()), open_dataset(data, "val")
    rows = select_rows(models, ",".join(protocols), sides, True, fuse)
    scoring = Scoring(Storage(tmp_path / "cells", "float32"), batch, 2, "stop")
    return dataset, measure_accuracy(models, rows, dataset, scoring)


@pytest.mark.parametrize("filter", [pytest.param("bilinear", marks=pytest.mark.nightly), "bicubic"])
@pytest.mark.slow
def test_every_protocol_equals_the_naive_evaluation(odd_photos, tmp_path, filter):
    net = thin_net("B")
    net.spec = replace(net.spec, preprocessing=replace(net.spec.preprocessing, filter=filter))
    path = save_net(net, tmp_path / "B.pt")
    dataset, accuracy = measure([path], odd_photos, tmp_path, PROTOCOLS, (37, 48))
    naive, seen = Naive(net), set()
    for scored in accuracy.scored:
        row, found = scored.row, averaged(scored.row, accuracy.measured)
        for i in range(len(dataset)):
            sides = row.members[0].sides
            expected = naive.protocol(dataset.path(i), row.protocol, sides, row.flips)
            where = f"{row} {dataset.files[i]}"
            np.testing.assert_allclose(found[i], expected, atol=1e-5, err_msg=where)
            if np.diff(np.sort(expected)[-2:]) > 1e-4:
                best = expected.argmax()
                assert scored.best[i] == best
                assert (scored.ranks[i] == 0) == (best == dataset.labels[i])
        seen.add((row.protocol, row.members[0].sides, row.flips))
    assert len(seen) == len(accuracy.scored) == 5 * 6 + 3 + 3 + 1


@pytest.mark.slow
def test_an_onnx_file_equals_the_naive_evaluation(odd_photos, tmp_path):
    net = save_net(thin_net("D"), tmp_path / "D.pt")
    exported, *_ = export_onnx(net, tmp_path, ExportOptions(("fp32",)), None, 1, lambda text: None)
    protocols = ("dense", "multicrop")
    dataset, accuracy = measure([exported.path], odd_photos, tmp_path, protocols, (45,))
    naive = Naive(thin_net("D"))
    for scored in accuracy.scored:
        found = averaged(scored.row, accuracy.measured)
        for i in range(len(dataset)):
            row = scored.row
            expected = naive.protocol(dataset.path(i), row.protocol, (45,), row.flips)
            np.testing.assert_allclose(found[i], expected, atol=1e-5)


def test_nets_with_other_class_orders_are_fused_by_class(odd_photos, tmp_path):
    """The second net has the classes in another order, and its fc8 with them."""
    first, second = thin_net("A", seed=1), thin_net("B", seed=2, classes=CLASSES[::-1])
    paths = [save_net(first, tmp_path / "A.pt"), save_net(second, tmp_path / "B.pt")]
    dataset, accuracy = measure(paths, odd_photos, tmp_path, ("dense",), (40,), fuse=("A.pt,B.pt",))
    (fused,) = [s for s in accuracy.scored if len(s.row.members) == 2 and s.row.flips]
    ones = Naive(first), Naive(second)
    for i in range(len(dataset)):
        a, b = (one.protocol(dataset.path(i), "dense", (40,), True) for one in ones)
        expected = (a + b[::-1]) / 2
        assert fused.best[i] == expected.argmax()
        assert fused.confidence[i] == pytest.approx(expected.max(), abs=1e-5)
        assert fused.ranks[i] == (expected > expected[dataset.labels[i]]).sum()
    (second_alone,) = [s for s in accuracy.scored if s.record.model == "B.pt" and s.row.flips]
    for i in range(len(dataset)):
        posterior = ones[1].protocol(dataset.path(i), "dense", (40,), True)
        assert second_alone.best[i] == 3 - posterior.argmax()


def test_crops_that_sets_share_are_scored_once(odd_photos, tmp_path):
    """Oracle: the naive evaluation's distinct crops; noise makes different crops differ."""
    net = thin_net("A")
    protocols = ("centre", "ten", "multicrop")
    path = save_net(net, tmp_path / "A.pt")
    dataset, accuracy = measure([path], odd_photos, tmp_path, protocols, (45,))
    naive = Naive(net)
    for i in range(len(dataset)):
        for view_set in protocols:
            for mirrored in (False, True):
                if not (view_set == "centre" and mirrored):
                    naive.views(dataset.path(i), 45, view_set, mirrored)
    assert accuracy.measured.scored == len(naive.passes)


def test_offsets_in_closed_form():
    steps = {224: 0, 256: 8, 288: 16, 352: 32, 384: 40, 416: 48, 512: 72}
    for length, step in steps.items():
        assert [offset(length, 224, i, 4) for i in range(5)] == [i * step for i in range(5)]


def test_views_lie_inside_and_reach_the_edges():
    rng = np.random.default_rng(0)
    for _ in range(300):
        crop = 32 * int(rng.integers(1, 8))
        height, width = (
            crop + int(rng.integers(0, 200)) * int(rng.random() < 0.8) for _ in range(2)
        )
        for name, count in {"multicrop": 25, "centre": 1, "ten": 5, "googlenet": 18}.items():
            views = VIEW_SETS[name](height, width, crop)
            assert len(views) == count
            assert all(
                v.top >= 0 and v.left >= 0 and v.top + v.side <= height and v.left + v.side <= width
                for v in views
            )
        grid = regular_grid(height, width, crop)
        assert grid[0][:2] == (0, 0) and grid[-1][:2] == (height - crop, width - crop)


def test_crops_are_torchvisions():
    rng = np.random.default_rng(1)
    for _ in range(50):
        height, width = (int(v) for v in rng.integers(40, 120, 2))
        # each pixel holds its own index
        indices = torch.arange(height * width).view(1, height, width)
        expected = [int(crop[0, 0, 0]) for crop in tv.five_crop(indices, 32)]
        found = [crop.top * width + crop.left for crop in corners_and_centre(height, width, 32)]
        assert sorted(found) == sorted(expected)
        (middle,) = centre(height, width, 32)
        first_pixel = int(tv.center_crop(indices, 32)[0, 0, 0])
        assert middle.top * width + middle.left == first_pixel


@pytest.mark.parametrize(
    ("train_side", "single", "multi"),
    [
        ((256, 256), 256, "224+256+288"),
        ((384, 384), 384, "352+384+416"),
        ((256, 512), 384, "256+384+512"),
        ((224, 224), 224, "224+256"),
    ],
)
def test_q_follows_s_as_in_section_4(train_side, single, multi):
    spec = NetSpec("D", ("a", "b"), train_side=train_side)
    rows = rows_of((0,), [spec], tuple(PROTOCOLS), None, True)
    assert {r.scales for r in rows} == {f"single {single}", f"multi {multi}", "256+288+320+352"}
    views = {
        (r.protocol, r.scales.split()[0]): r.views([spec])
        for r in rows
        if r.flips or r.protocol == "centre"
    }
    scales = multi.count("+") + 1
    assert views["dense", "single"] == 2 and views["multicrop", "single"] == 50
    assert views["ten", "single"] == 10 and views["centre", "single"] == 1
    assert views["multicrop", "multi"] == 50 * scales
    assert views["multicrop+dense", "multi"] == 52 * scales
    assert views["googlenet", "256+288+320+352"] == 144


def test_weights_sum_to_one_and_methods_count_alike():
    train_sides = ((256, 256), (224, 224), (256, 512))
    specs = [NetSpec("D", ("a", "b"), train_side=side) for side in train_sides]
    for members in ((0,), (0, 1, 2)):
        for row in rows_of(members, specs, tuple(PROTOCOLS), None, True):
            cells = row.cells()
            assert sum(weight for _, weight in cells) == pytest.approx(1)
            assert len({cell for cell, _ in cells}) == len(cells)
            for m in members:
                of_net = sum(weight for cell, weight in cells if cell.model == m)
                assert of_net == pytest.approx(1 / len(members))
            if row.protocol == "multicrop+dense":
                of_dense = sum(weight for cell, weight in cells if cell.views == DENSE)
                assert of_dense == pytest.approx(0.5)
