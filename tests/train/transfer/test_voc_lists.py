"""Pascal VOC's lists and annotations. Oracle: the labels from which the files were written."""

import numpy as np
import pytest

from tests.train.transfer.conftest import VOC_CLASSES, voc_sets, write_voc
from train.transfer.voc_lists import is_voc, read_truth
from vgg_deploy.errors import InputError


def check(images, expected):
    assert images.ids == tuple(expected)
    np.testing.assert_array_equal(images.labels, np.array(list(expected.values())))


@pytest.mark.parametrize("above", [0, 1, 2])
def test_lists_of_classes(voc, above):
    root, sets = voc
    folder = [root, *root.parents][above]
    assert is_voc(folder)
    truth = read_truth(folder, None, None)
    assert truth.root == root and truth.classes == VOC_CLASSES
    assert (truth.train.name, truth.test.name) == ("trainval", "test")
    assert truth.train.source == truth.test.source == "ImageSets"
    check(truth.train, sets["trainval"])
    check(truth.test, sets["test"])


def test_annotations_give_the_same_labels(tmp_path, voc):
    root, sets = voc
    without = write_voc(tmp_path / "x" / "VOC2007", sets, lists=False)
    listed, counted = (read_truth(folder, None, None) for folder in (root, without))
    assert counted.train.source == counted.test.source == "Annotations"
    assert counted.classes == listed.classes
    for name in ("train", "test"):
        np.testing.assert_array_equal(getattr(counted, name).labels, getattr(listed, name).labels)


def test_a_test_set_without_labels(tmp_path):
    """As VOC2012: the images of test are listed and nothing is known of them."""
    sets = voc_sets()
    root = write_voc(
        tmp_path / "VOC2012", {"train": sets["trainval"], "val": sets["test"]}, xml=False
    )
    (root / "ImageSets" / "Main" / "test.txt").write_text("2008_000001\n2008_000004\n")
    truth = read_truth(root, None, None)
    assert (truth.train.name, truth.test.name) == ("train", "val")
    with pytest.raises(InputError, match="no labels of the set test; sets with labels: train, val"):
        read_truth(root, "train", "test")


def test_sets_by_name_and_sets_that_share_images(tmp_path):
    sets = voc_sets()
    both = {**sets["trainval"], **sets["test"]}
    root = write_voc(
        tmp_path / "VOC2007", {"train": sets["trainval"], "val": sets["test"], "trainval": both}
    )
    check(read_truth(root, "val", "train").train, sets["test"])
    with pytest.raises(InputError, match="000001 is in train and in trainval"):
        read_truth(root, "train", "trainval")


def test_several_years_and_no_year(tmp_path):
    for year in ("VOC2007", "VOC2012"):
        write_voc(tmp_path / "VOCdevkit" / year, voc_sets(), xml=False)
    with pytest.raises(InputError, match="contains VOC2007 and VOC2012, expected one folder"):
        read_truth(tmp_path, None, None)
    assert not is_voc(tmp_path / "nothing") and not is_voc(tmp_path / "VOCdevkit" / "VOC2007x")
    with pytest.raises(InputError, match="no folder ImageSets/Main"):
        read_truth(tmp_path / "nothing", None, None)


DAMAGE = {
    "000001  1 1\n": "line 1: is not an image and 1, 0 or -1",
    "000001\n": "line 1: is not an image and 1, 0 or -1",
    "../../x 1\n": "line 1: is not an image and 1, 0 or -1",
    ".hidden 1\n": "line 1: is not an image and 1, 0 or -1",
    "000001 2\n": "the label of 000001 is '2'",
    "000001 1\n000001 1\n": "000001 is twice",
    "000001 1\n": "lacks 000002, which other lists have",
    "999999 1\n": "999999 is not in the lists of other classes",
    "\xff\xfe": "cannot be read",
}


@pytest.mark.parametrize("text", DAMAGE)
def test_damaged_lists(voc, text):
    path = voc[0] / "ImageSets" / "Main" / "dog_trainval.txt"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError) as refused:
        read_truth(voc[0], None, None)
    assert DAMAGE[text] in refused.value.message and "dog_trainval.txt" in refused.value.message


def test_a_class_that_one_set_lacks(voc):
    (voc[0] / "ImageSets" / "Main" / "dog_trainval.txt").unlink()
    with pytest.raises(InputError, match="test has the class dog, which the training set lacks"):
        read_truth(voc[0], None, None)


def test_an_empty_set(voc):
    for label in VOC_CLASSES:
        (voc[0] / "ImageSets" / "Main" / f"{label}_test.txt").write_text("\n")
    with pytest.raises(InputError, match="the set test is empty"):
        read_truth(voc[0], None, None)


BOMB = (
    '<!DOCTYPE a [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'
    "<annotation><object><name>&b;</name></object></annotation>"
)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "declares a document type"),
        ("<annotation><object>", "is not XML"),
        ("<other/>", "begins with <other>"),
        (None, "cannot be read"),
    ],
)
def test_damaged_annotations(tmp_path, text, reason):
    root = write_voc(tmp_path / "VOC2007", voc_sets(), lists=False)
    path = root / "Annotations" / "000007.xml"
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    with pytest.raises(InputError, match=reason) as refused:
        read_truth(root, None, None)
    assert "000007.xml" in refused.value.message


def test_expat_refuses_or_bounds_an_entity_bomb():
    """What a document type could do, were it not refused: this Python's expat stops it too."""
    from xml.etree.ElementTree import ParseError, fromstring

    entities = '<!ENTITY e0 "xxxxxxxxxx">' + "".join(
        f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 12)
    )
    with pytest.raises(ParseError, match="amplification"):
        fromstring(f"<!DOCTYPE a [{entities}]><a>&e11;</a>")
