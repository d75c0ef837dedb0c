"""Lists of images that do not count."""

import numpy as np
import pytest

from vgg_deploy.data.blacklist import without_listed
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import InputError

ILSVRC = tuple(f"val/ILSVRC2012_val_{number:08d}.JPEG" for number in (1, 7, 36, 50_000))


def dataset(files=ILSVRC):
    return Dataset("data", files, np.zeros(len(files), np.int64), ("a",), ("a",))


@pytest.fixture
def listed(tmp_path):
    def write(text):
        path = tmp_path / "list.txt"
        path.write_text(text)
        return path

    return write


def test_numbers_are_those_of_ilsvrc(listed):
    kept = without_listed(dataset(), listed("36\n50\n\n 1 \n"))
    assert kept.files == (ILSVRC[1], ILSVRC[3])


def test_names_may_have_wnids_and_folders(listed):
    files = ("n01/ILSVRC2012_val_00000007_n01440764.JPEG", "n01/ILSVRC2012_val_00000008.JPEG")
    assert without_listed(dataset(files), listed("7\n")).files == files[1:]
    assert (
        without_listed(dataset(files), listed("n01/ILSVRC2012_val_00000008.JPEG")).files
        == (files[:1])
    )


@pytest.mark.parametrize(
    ("text", "files", "expected"),
    [
        ("", ILSVRC, "lists no image; leave it out"),
        ("7\nx.jpg\n", ILSVRC, "mixes numbers and names"),
        ("7\n", ("a/x.jpg",), "a/x.jpg is not named as one"),
        ("1\n7\n36\n50000\n", ILSVRC, "lists all 4 images"),
    ],
)
def test_a_list_that_cannot_be_used_gets_one_sentence(text, files, expected, listed):
    with pytest.raises(InputError, match=expected) as refused:
        without_listed(dataset(files), listed(text))
    assert "list.txt" in refused.value.message


def test_a_list_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.txt: cannot be read as a list .*No such file"):
        without_listed(dataset(), tmp_path / "none.txt")
