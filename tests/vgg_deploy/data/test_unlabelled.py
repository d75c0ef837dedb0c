"""Images without labels: which folders are taken for such, and what is in them."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.support.nets import CLASSES, photo_of
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.data.unlabelled import lacks_labels, open_unlabelled
from vgg_deploy.errors import InputError


def save(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    photo_of("disc", np.random.default_rng(0)).save(path)
    return path


def test_flat_photos_lack_labels(tmp_path):
    for name in ("b.jpeg", "a.png", ".hidden.jpeg"):
        save(tmp_path / "photos" / name)
    assert lacks_labels(tmp_path / "photos")
    dataset = open_unlabelled(tmp_path / "photos")
    assert dataset.files == ("a.png", "b.jpeg")
    assert not dataset.labelled and len(dataset.labels) == 0
    assert dataset.decode(0).shape[0] == 3 and len(dataset.subset(1)) == 1 and dataset.fingerprint()


def test_photos_in_a_tree_of_folders_lack_labels(tmp_path):
    for name in ("2024/summer/a.jpeg", "2024/winter/b.jpeg", "2025/c/d/e.jpeg"):
        save(tmp_path / name)
    assert lacks_labels(tmp_path)
    assert open_unlabelled(tmp_path).files == (
        "2024/summer/a.jpeg",
        "2024/winter/b.jpeg",
        "2025/c/d/e.jpeg",
    )


def test_the_val_folder_counts_alone(tmp_path):
    save(tmp_path / "val" / "a.jpeg")
    save(tmp_path / "train" / "b.jpeg")
    assert lacks_labels(tmp_path) and open_unlabelled(tmp_path).files == ("val/a.jpeg",)


@pytest.mark.parametrize(
    "list_name",
    ["ILSVRC2012_validation_ground_truth.txt", "val.txt", "synsets.txt", "synset_words.txt"],
)
@pytest.mark.parametrize("place", ["beside", "above"])
def test_any_list_means_labels(tmp_path, list_name, place):
    """An incomplete pair of lists is for `open_dataset` to report, not to be passed over."""
    save(tmp_path / "photos" / "a.jpeg")
    (tmp_path / ("photos" if place == "beside" else ".") / list_name).write_text("1\n")
    assert not lacks_labels(tmp_path / "photos")
    with pytest.raises(InputError):
        open_dataset(tmp_path / "photos", "val")


def test_class_folders_mean_labels(photos, tmp_path):
    assert not lacks_labels(photos) and not lacks_labels(photos / "val")
    mixed = shutil.copytree(photos / "val", tmp_path / "mixed")
    save(mixed / "stray.jpeg")  # open_dataset names it
    assert not lacks_labels(mixed)
    assert len(open_unlabelled(photos).files) == 6 * len(CLASSES)  # where somebody says so


def test_what_is_no_folder_of_photos(tmp_path):
    for root in (tmp_path / "nowhere", tmp_path, "s3://bucket/shards"):
        assert not lacks_labels(root)
    with pytest.raises(InputError, match="nowhere"):
        open_unlabelled(tmp_path / "nowhere")
    with pytest.raises(InputError, match="has no images"):
        open_unlabelled(tmp_path)
    save(tmp_path / "a.jpeg")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(InputError, match="notes.txt: is not an image"):
        open_unlabelled(tmp_path)
    assert open_unlabelled(tmp_path, "skip").skipped == ("notes.txt",)


def test_links_to_folders_are_not_followed(tmp_path):
    save(tmp_path / "a.jpeg")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert open_unlabelled(tmp_path).files == ("a.jpeg",)
