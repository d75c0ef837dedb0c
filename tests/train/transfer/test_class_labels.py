"""Classes from lists and from class folders."""

import numpy as np
import pytest

from train.transfer.class_labels import folder_classes, listed_classes
from vgg_deploy.errors import InputError


def folders(root, content):
    for file in content:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def test_class_folders(tmp_path):
    content = ["b/1.jpg", "b/2.JPG", "a/1.jpg", "b/notes.txt", "b/old/3.jpg", "readme.txt"]
    found = folder_classes(
        folders(tmp_path, content), ["x/b/1.jpg", "a/1.jpg", "c/1.jpg", "b/1.png"]
    )
    assert found.classes == ("a", "b") and found.labels.tolist() == [1, 0, -1, -1]
    assert found.without == 1 and found.caltech == ""


@pytest.mark.parametrize(
    ("inside", "clutter", "count", "name"),
    [
        ("101_ObjectCategories", "BACKGROUND_Google", 102, "Caltech-101"),
        ("256_ObjectCategories", "257.clutter", 257, "Caltech-256"),
    ],
)
def test_caltech_as_downloaded(tmp_path, inside, clutter, count, name):
    """The folder of no object is a class too: 102 and 257 of them. Stray files are left out."""
    classes = [clutter, *(f"{i:03d}.thing" for i in range(1, count))]
    content = [f"{inside}/{c}/image_0001.jpg" for c in classes]
    content += [f"{inside}/{classes[5]}/RENAME2", f"{inside}/{classes[6]}/greg/x.jpg"]
    images = [file.removeprefix(f"{inside}/") for file in content[:count]]
    found = folder_classes(folders(tmp_path, content), images)
    assert len(found.classes) == count and clutter in found.classes
    assert found.caltech == name and (found.labels >= 0).all()
    for others in (found.classes[:-1], found.classes[1:]):
        assert listed_classes(others, np.arange(count - 1)).caltech == ""


def test_what_is_no_data_set(tmp_path):
    folders(tmp_path, ["a/1.jpg", "b/1.txt"])
    with pytest.raises(InputError, match="has 1 class folders with images"):
        folder_classes(tmp_path, ["a/1.jpg"])
    folders(tmp_path, ["b/1.jpg"])
    with pytest.raises(InputError, match=r"none of its images has features.* such as 7\.jpg"):
        folder_classes(tmp_path, ["7.jpg"])
    with pytest.raises(InputError, match="cannot be listed"):
        folder_classes(tmp_path / "nothing", ["7.jpg"])


def test_lists_without_classes():
    with pytest.raises(InputError, match="name 0 classes and leave 3 images without one"):
        listed_classes((), np.full(3, -1))
    with pytest.raises(InputError, match="name 2 classes and leave 1 images without one"):
        listed_classes(("a", "b"), np.array([0, 1, -1]))
