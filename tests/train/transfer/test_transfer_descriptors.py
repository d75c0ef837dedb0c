"""Descriptors of one and several folders. Oracle: numpy on the arrays that were written."""

import numpy as np
import pytest

from tests.support.features import write_features
from train.transfer import descriptors
from train.transfer.descriptors import open_descriptors, other_images
from vgg_deploy.errors import InputError

IMAGES = [f"{i}.jpg" for i in range(10)]
CLASSES = ["a"] * 5 + ["b"] * 5


def unit(rows):
    return rows / np.linalg.norm(rows.astype(float), axis=1, keepdims=True)


@pytest.fixture
def rows():
    rng = np.random.default_rng(2)
    return {"relu7": rng.normal(size=(10, 6)).astype("f4") * 40, "pool5": np.ones((10, 4), "f4")}


def test_one_folder(tmp_path, rows):
    folder = write_features(tmp_path / "f", IMAGES, CLASSES, rows)
    opened = open_descriptors([folder], None, None)
    assert opened.width == 6 and list(opened.images) == IMAGES  # relu7 among several
    kept = np.array([7, 0, 3])
    np.testing.assert_allclose(opened.take(kept), unit(rows["relu7"])[kept], atol=1e-7)
    assert open_descriptors([folder], "pool5", None).width == 4


def test_blocks_are_the_rows_in_order(tmp_path, rows, monkeypatch):
    folder = write_features(tmp_path / "f", IMAGES, CLASSES, rows)
    opened = open_descriptors([folder], None, None)
    monkeypatch.setattr(descriptors, "BLOCK_BYTES", 4 * 6 * 4)
    kept = np.array([9, 1, 2, 3, 8, 0, 5])
    blocks = list(opened.blocks(kept))
    assert [len(block) for block in blocks] == [4, 3]
    np.testing.assert_array_equal(np.concatenate(blocks), opened.take(kept))


def test_fused_folders_are_joined_by_name(tmp_path, rows):
    """Each is normalised, then the whole; the second folder has another order and other shards."""
    first = write_features(tmp_path / "1", IMAGES, CLASSES, {"relu7": rows["relu7"]})
    order = np.random.default_rng(4).permutation(10)
    other = np.random.default_rng(5).normal(size=(10, 3)).astype("f4")
    second = write_features(
        tmp_path / "2", [IMAGES[i] for i in order], [CLASSES[i] for i in order],
        {"relu7": other[order]}, images_per_shard=4,
    )  # fmt: skip
    fused = open_descriptors([first, second], None, None)
    assert fused.width == 9 and list(fused.images) == IMAGES
    expected = unit(np.hstack([unit(rows["relu7"]), unit(other)]))
    np.testing.assert_allclose(fused.take(np.arange(10)), expected, atol=1e-7)
    assert np.allclose(np.linalg.norm(fused.take(np.arange(10)), axis=1), 1)


def test_scales_of_a_stack_are_averaged(tmp_path, rows):
    folder = write_features(
        tmp_path / "f", IMAGES, CLASSES, {"relu7": rows["relu7"]}, joined="stack"
    )
    stacked = open_descriptors([folder], None, "stack")
    averaged = open_descriptors([folder], None, "average")
    assert (stacked.width, averaged.width) == (6, 3)
    mean = (rows["relu7"][:, :3].astype(float) + rows["relu7"][:, 3:]) / 2
    np.testing.assert_allclose(averaged.take(np.arange(10)), unit(mean), atol=1e-6)
    np.testing.assert_allclose(stacked.take(np.arange(10)), unit(rows["relu7"]), atol=1e-7)


def test_an_average_cannot_be_stacked(tmp_path, rows):
    folder = write_features(tmp_path / "f", IMAGES, CLASSES, rows)
    with pytest.raises(InputError, match="its scales were averaged when it was written"):
        open_descriptors([folder], None, "stack")
    one = write_features(tmp_path / "one", IMAGES, CLASSES, rows, scales=(256,))
    assert open_descriptors([one], None, "stack").width == 6  # one scale is both


def test_descriptors_of_zeros_stay_zeros(tmp_path, rows):
    rows["relu7"][3] = 0
    folder = write_features(tmp_path / "f", IMAGES, CLASSES, rows)
    taken = open_descriptors([folder], None, None).take(np.arange(10))
    assert (taken[3] == 0).all() and np.isfinite(taken).all()


@pytest.mark.parametrize(
    ("images", "classes", "reason"),
    [
        (IMAGES[:9] + ["x.jpg"], CLASSES, r"has no features of 9\.jpg, which .*first has"),
        (IMAGES[:9], CLASSES[:9], r"has no features of 9\.jpg, which .*first has"),
        (IMAGES + ["x.jpg"], [*CLASSES, "b"], r"first: has no features of x\.jpg"),
        (IMAGES, ["a"] * 4 + ["b"] * 6, r"class of 4\.jpg is 'b', and 'a' in"),
        (IMAGES, ["a"] * 9 + [""], r"class of 5\.jpg is 'a', and 'b' in"),
    ],
)
def test_folders_of_other_images_are_refused(tmp_path, rows, images, classes, reason):
    first = write_features(tmp_path / "first", IMAGES, CLASSES, rows)
    other = np.ones((len(images), 3), "f4")
    second = write_features(tmp_path / "second", images, classes, {"relu7": other})
    with pytest.raises(InputError, match=reason):
        open_descriptors([first, second], None, None)


def test_other_images_of_the_same_names_are_reported(tmp_path, rows):
    from vgg_deploy.features.settings import FeatureData

    first = write_features(tmp_path / "1", IMAGES, CLASSES, rows)
    second = write_features(
        tmp_path / "2", IMAGES, CLASSES, rows, data=FeatureData("photos", "c" * 64)
    )
    (line,) = other_images(open_descriptors([first, second], None, None))
    assert "identities differ" in line
    assert not other_images(open_descriptors([first, first], None, None))


def test_several_layers_without_the_papers(tmp_path, rows):
    layers = {"pool5": rows["pool5"], "fc7": rows["relu7"]}
    folder = write_features(tmp_path / "f", IMAGES, CLASSES, layers)
    with pytest.raises(InputError, match="has the layers pool5, fc7"):
        open_descriptors([folder], None, None)
    with pytest.raises(InputError, match="did you mean fc7"):
        open_descriptors([folder], "FC7", None)
