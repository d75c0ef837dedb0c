"""Batches of equal size: every wanted image once, as Pillow rescales it."""

import numpy as np
import pytest
from PIL import Image

from vgg_deploy.data import size_batches as batches
from vgg_deploy.data.decode_pool import Scale
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.data.size_batches import size_batches
from vgg_deploy.errors import InputError


def collected(dataset, sides, batch=4, decoders=2, **more):
    wanted = {Scale(side, "bilinear"): np.ones(len(dataset), bool) for side in sides}
    return list(size_batches(dataset, wanted, batch, decoders, **more))


def test_every_image_comes_once_at_every_side_unpadded(photos):
    """Oracle: Pillow, one image at a time."""
    dataset = open_dataset(photos, "val")
    seen = {}
    for found in collected(dataset, (48, 80)):
        assert len(found.indices) <= 4
        for index, image in zip(found.indices, found.images, strict=True):
            assert (found.scale.side, index) not in seen
            seen[found.scale.side, index] = image
    assert len(seen) == 2 * len(dataset)
    for (side, index), image in seen.items():
        original = Image.open(dataset.path(index)).convert("RGB")
        w, h = original.size
        size = tuple(side if v == min(w, h) else int(side * v / min(w, h) + 0.5) for v in (w, h))
        wanted = np.asarray(original.resize(size, Image.Resampling.BILINEAR)).transpose(2, 0, 1)
        assert image.shape == wanted.shape and min(image.shape[1:]) == side
        assert np.abs(image.astype(int) - wanted).max() <= 1


def test_batches_do_not_depend_on_the_number_of_decoders(photos):
    dataset = open_dataset(photos, "val")
    one, four = (collected(dataset, (48,), decoders=decoders) for decoders in (1, 4))
    assert [b.indices.tolist() for b in one] == [b.indices.tolist() for b in four]


def test_images_that_wait_are_bounded(photos, monkeypatch):
    dataset = open_dataset(photos, "val")
    monkeypatch.setattr(batches, "MOST_WAITING_BYTES", 40_000)
    found = collected(dataset, (64, 96), batch=1000)
    assert sum(len(b.indices) for b in found) == 2 * len(dataset)
    assert max(len(b.indices) for b in found) < len(dataset)


def test_an_unreadable_image_stops_or_is_reported(photos_copy):
    bad = photos_copy / "val" / "disc" / "002.jpeg"
    bad.write_bytes(bad.read_bytes()[:60])
    dataset = open_dataset(photos_copy, "val")
    with pytest.raises(InputError, match="002.jpeg"):
        collected(dataset, (48,))
    reported = []
    found = collected(
        dataset,
        (48,),
        on_bad=lambda index, error: reported.append((dataset.files[index], error.message)),
    )
    assert len(reported) == 1 and "002.jpeg" in reported[0][0] and "002.jpeg" in reported[0][1]
    assert sum(len(b.indices) for b in found) == len(dataset) - 1


def test_only_what_is_wanted_is_rescaled_or_decoded(photos_copy):
    dataset = open_dataset(photos_copy, "val")
    wanted = {
        scale: np.zeros(len(dataset), bool)
        for scale in (Scale(48, "bilinear"), Scale(48, "bicubic"))
    }
    wanted[Scale(48, "bilinear")][[3, 7]] = True
    wanted[Scale(48, "bicubic")][7] = True
    dataset.path(5).unlink()  # not looked at
    found = {
        (b.scale, int(i)): image
        for b in size_batches(dataset, wanted, 4, 2)
        for i, image in zip(b.indices, b.images, strict=True)
    }
    assert {(scale.filter, i) for scale, i in found} == {
        ("bilinear", 3),
        ("bilinear", 7),
        ("bicubic", 7),
    }
    original = Image.open(dataset.path(7)).convert("RGB")
    for name, resampling in (
        ("bilinear", Image.Resampling.BILINEAR),
        ("bicubic", Image.Resampling.BICUBIC),
    ):
        image = found[Scale(48, name), 7]
        np.testing.assert_array_equal(
            image.transpose(1, 2, 0), np.asarray(original.resize(image.shape[:0:-1], resampling))
        )


def test_batches_are_put_into_the_memory_that_is_allocated_for_them(photos):
    dataset, allocated = open_dataset(photos, "val"), []

    def allocate(shape):
        allocated.append(np.empty(shape, np.uint8))
        return allocated[-1]

    found = collected(dataset, (48, 64), allocate=allocate)
    assert all(batch.images is memory for batch, memory in zip(found, allocated, strict=True))
    for batch, usual in zip(found, collected(dataset, (48, 64)), strict=True):
        np.testing.assert_array_equal(batch.images, usual.images)
