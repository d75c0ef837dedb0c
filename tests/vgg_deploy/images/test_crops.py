"""Views and the weights of protocols, against torchvision and lists written out."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as tv

from bench.accuracy.protocols import Cell, Member, Row, rows_of, views_per_image
from vgg_deploy.images.crops import GRID, VIEW_SETS, Crop, cut, offset
from vgg_deploy.images.protocols import DENSE, PROTOCOLS, googlenet_sides
from vgg_deploy.net.spec import NetSpec

CROP = 32
NETS = [NetSpec("D", ("a", "b"), train_side=side) for side in ((256, 256), (384, 384))]


def test_googlenets_views_are_five_crops_and_the_whole_of_three_squares():
    """Oracle: torchvision's five_crop of the squares, on an image of different pixels."""
    for height, width in ((48, 91), (91, 48), (64, 64), (40, 41), (33, 97)):
        side = min(height, width)
        positions = torch.arange(height * width).view(1, height, width)
        first, last = (0, 0), (height - side, width - side)
        middle = (round(last[0] / 2), round(last[1] / 2))
        expected = []
        for top, left in (first, middle, last):
            square = positions[:, top : top + side, left : left + side]
            expected += [(int(crop[0, 0, 0]), CROP) for crop in tv.five_crop(square, CROP)]
            expected.append((top * width + left, side))
        found = VIEW_SETS["googlenet"](height, width, CROP)
        assert sorted((v.top * width + v.left, v.side) for v in found) == sorted(expected)


def test_the_grid_is_written_out():
    assert GRID == 5
    assert VIEW_SETS["multicrop"](40, 48, CROP) == [
        Crop(top, left, CROP) for top in (0, 2, 4, 6, 8) for left in (0, 4, 8, 12, 16)
    ]
    assert [offset(37, 32, i, 4) for i in range(5)] == [0, 1, 2, 4, 5]  # 1.25, 2.5, 3.75


@pytest.mark.parametrize("filter", ["bilinear", "bicubic"])
def test_cut_gives_pillows_pixels_image_by_image(filter):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, 3, 40, 56), np.uint8)
    views = [Crop(3, 7, CROP), Crop(0, 16, 40), Crop(8, 24, CROP)]
    found = cut(images, views, CROP, filter)
    assert found.shape == (6, 3, CROP, CROP) and found.dtype == np.uint8
    resampling = {"bilinear": Image.BILINEAR, "bicubic": Image.BICUBIC}[filter]
    for i, (image, view) in enumerate((image, view) for image in images for view in views):
        box = (view.left, view.top, view.left + view.side, view.top + view.side)
        square = Image.fromarray(image.transpose(1, 2, 0)).crop(box)
        expected = square.resize((CROP, CROP), resampling) if view.side != CROP else square
        np.testing.assert_array_equal(found[i].transpose(1, 2, 0), np.asarray(expected))


def test_googlenets_scales():
    assert googlenet_sides(224) == (256, 288, 320, 352)
    assert googlenet_sides(96) == (110, 123, 137, 151)  # 96 * 8/7 = 109.7, ...


def test_cells_of_a_fusion_are_written_out():
    row = Row((Member(0, (40,)), Member(2, (48, 56))), "multicrop+dense", "-", flips=True)
    eighth, sixteenth = 1 / 8, 1 / 16
    expected = {Cell(0, 40, v, m): eighth for v in ("multicrop", DENSE) for m in (False, True)}
    for side in (48, 56):
        for v in ("multicrop", DENSE):
            expected |= {Cell(2, side, v, mirrored): sixteenth for mirrored in (False, True)}
    assert dict(row.cells()) == expected
    specs = [NetSpec("A", ("a", "b"), crop=CROP)] * 3
    assert row.views(specs) == 2 * (25 + 1) * 3
    plain = Row((Member(1, (40,)),), "ten", "40", flips=False)
    assert plain.cells() == [(Cell(1, 40, "ten", False), 1.0)]


@pytest.mark.parametrize(
    ("views", "count"),
    [
        ("dense", 1),
        ("dense-softmax-first", 1),
        ("multicrop", 25),
        ("centre", 1),
        ("ten", 5),
        ("googlenet", 18),
    ],
)
def test_views_of_one_image(views, count):
    assert views_per_image(Cell(0, 64, views, False), CROP) == count


def test_what_the_protocols_average():
    assert {name: protocol.view_sets for name, protocol in PROTOCOLS.items()} == {
        "dense": ("dense",),
        "multicrop": ("multicrop",),
        "multicrop+dense": ("multicrop", "dense"),
        "centre": ("centre",),
        "ten": ("ten",),
        "googlenet": ("googlenet",),
        "dense-softmax-first": ("dense-softmax-first",),
        "multicrop+dense-softmax-first": ("multicrop", "dense-softmax-first"),
    }
    flips = {name: protocol.flips for name, protocol in PROTOCOLS.items()}
    assert flips.pop("centre") == (False,)
    assert flips.pop("ten") == flips.pop("googlenet") == (True,)
    assert set(flips.values()) == {(False, True)}


def test_rows_for_given_scales_are_written_out():
    member = {side: (Member(0, (side,)),) for side in (256, 384)}
    both = (Member(0, (256, 384)),)
    assert rows_of((0,), NETS, ("dense", "centre"), (256, 384), True) == [
        Row(member[256], "dense", "256", False), Row(member[256], "dense", "256", True),
        Row(member[384], "dense", "384", False), Row(member[384], "dense", "384", True),
        Row(both, "dense", "256+384", False), Row(both, "dense", "256+384", True),
        Row(member[256], "centre", "256", False), Row(member[384], "centre", "384", False),
        Row(both, "centre", "256+384", False),
    ]  # fmt: skip
    # one scale has no row of all scales; without flips, only what needs them has them
    assert rows_of((0,), NETS, ("dense", "ten"), (256,), False) == [
        Row(member[256], "dense", "256", False), Row(member[256], "ten", "256", True),
    ]  # fmt: skip


def test_rows_of_nets_of_different_s_are_written_out():
    single, multi = "single 256 | 384", "multi 224+256+288 | 352+384+416"
    one = (Member(0, (256,)), Member(1, (384,)))
    three = (Member(0, (224, 256, 288)), Member(1, (352, 384, 416)))
    assert rows_of((0, 1), NETS, ("multicrop",), None, False) == [
        Row(one, "multicrop", single, False), Row(three, "multicrop", multi, False),
    ]  # fmt: skip
    fixed = (Member(0, (256, 288, 320, 352)), Member(1, (256, 288, 320, 352)))
    assert rows_of((0, 1), NETS, ("googlenet",), (256,), True) == [
        Row(fixed, "googlenet", "256+288+320+352", True)
    ]
