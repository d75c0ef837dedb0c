"""The built-in images: the same everywhere, balanced, and not told apart by colour."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from vgg_deploy.data.built_in import CLASSES, built_in, render


def digest(image: Image.Image) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


def test_an_image_depends_on_its_number_alone():
    forwards = [digest(render("train", i)) for i in range(6)]
    backwards = [digest(render("train", i)) for i in reversed(range(6))]
    assert forwards == backwards[::-1] and len(set(forwards)) == 6
    assert not set(forwards) & {digest(render("val", i)) for i in range(6)}


def test_files_are_the_images_whoever_renders_them(own_cache):
    """Oracle: the same JPEG encoded here, not in a worker process."""
    dataset = built_in("val", 26)
    for i in (0, 7, 25):
        index = int(dataset.files[i].split("/")[1].removesuffix(".jpeg"))
        data = io.BytesIO()
        render("val", index).save(data, "JPEG", quality=80 + index * 7 % 16)
        assert dataset.path(i).read_bytes() == data.getvalue()


def test_classes_are_balanced_and_labels_are_folders():
    dataset = built_in("val", 26)
    assert len(dataset) == 26 and len(CLASSES) >= 10
    counts = np.bincount(dataset.labels, minlength=len(CLASSES))
    assert set(counts) == {2, 3}
    assert all(
        file.split("/")[0] == CLASSES[label]
        for file, label in zip(dataset.files, dataset.labels, strict=True)
    )
    assert list(dataset.files) == sorted(dataset.files)


def test_more_images_keep_the_existing_and_replace_the_lost():
    first = built_in("val", 26)
    kept, lost = first.path(3), first.path(4)
    times = kept.stat().st_mtime_ns
    lost_bytes = lost.read_bytes()
    lost.unlink()
    (lost.parent / f".{lost.name}.x.partial").write_bytes(b"half")
    more = built_in("val", 30)
    assert set(first.files) < set(more.files) and kept.stat().st_mtime_ns == times
    assert lost.read_bytes() == lost_bytes


def test_sizes_and_shapes_are_those_of_photos():
    sizes = [render("train", i).size for i in range(40)]
    assert all(112 <= min(size) <= 192 and max(size) / min(size) < 1.8 for size in sizes)
    assert len({min(size) for size in sizes}) > 25
    assert {np.sign(w - h) for w, h in sizes} == {-1, 0, 1}


@pytest.mark.slow
def test_colours_do_not_give_the_class_away():
    """A nearest-centroid classifier on colour histograms, the usual shortcut, stays near chance."""

    def histogram(split, index):
        pixels = np.asarray(render(split, index).resize((48, 48))).reshape(-1, 3) // 64
        return np.bincount(pixels @ [16, 4, 1], minlength=64) / len(pixels)

    count = 10 * len(CLASSES)
    train, val = (
        np.array([histogram(split, i) for i in range(count)]) for split in ("train", "val")
    )
    centroids = np.array([train[c :: len(CLASSES)].mean(0) for c in range(len(CLASSES))])
    guesses = np.array([np.argmin(((centroids - h) ** 2).sum(1)) for h in val])
    right = np.mean(guesses == np.arange(count) % len(CLASSES))
    assert right < 2.5 / len(CLASSES)


def test_without_a_writable_cache_the_images_are_temporary(tmp_path, monkeypatch, capfd):
    """Oracle: the images that a cache would have."""
    expected = [image.tobytes() for image in map(built_in("val", 3).image, range(3))]
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("VGG_DEPLOY_CACHE", str(tmp_path / "file"))
    images = built_in("val", 3)
    assert [image.tobytes() for image in map(images.image, range(3))] == expected
    assert "the cache cannot be written (Not a directory)" in capfd.readouterr().err
