"""Every layout is built in a temporary folder; each image shows its class as a grey level."""

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vgg_deploy.data import class_folders as folders
from vgg_deploy.data.class_labels import labels_for, matched_classes
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.index_file import Index, Names, read_index, write_index
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.errors import InputError
from vgg_deploy.images.decode import decode
from vgg_deploy.net.spec import NetSpec, numbered
from vgg_deploy.net.unstated import Unstated

WNIDS = ("n03", "n01", "n02")  # in an order of their own, as in the devkit
GREY = {"n01": 10, "n02": 20, "n03": 30}  # what an image of each class shows


def write_image(path: Path, grey: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (5, 4), grey).save(path, format="PNG")


def in_folders(root: Path, *splits: str, images: int = 3) -> Path:
    """ROOT/SPLIT/CLASS/*.png"""
    for split in splits or ("train", "val"):
        for wnid, grey in GREY.items():
            for i in range(images):
                write_image(root / split / wnid / f"{i}.png", grey)
    return root


SHOWN = ("n02", "n03", "n01", "n02", "n03")  # classes of flat images 1..5


def flat(
    root: Path,
    folder: str = "val",
    truth: str | None = None,
    synsets: str | None = "\n".join(WNIDS),
) -> Path:
    """ROOT/val/ILSVRC2012_val_*.JPEG with lists in ROOT; the default truth is the devkit's."""
    for i, wnid in enumerate(SHOWN, start=1):
        write_image(root / folder / f"ILSVRC2012_val_{i:08}.JPEG", GREY[wnid])
    devkit = "".join(f"{WNIDS.index(wnid) + 1}\n" for wnid in SHOWN)
    (root / "ILSVRC2012_validation_ground_truth.txt").write_text(devkit if truth is None else truth)
    if synsets is not None:
        (root / "synsets.txt").write_text(synsets)
    return root


def by_name(values: dict[str, object] | None = None) -> str:
    """Lines "image class", in reverse order."""
    values = values or {wnid: wnid for wnid in WNIDS}
    return "".join(
        f"ILSVRC2012_val_{i:08}.JPEG {values[wnid]}\n"
        for i, wnid in reversed(list(enumerate(SHOWN, start=1)))
    )


def assert_labels_are_what_is_shown(dataset: Dataset) -> None:
    assert dataset.classes == ("n01", "n02", "n03")
    assert dataset.labels.dtype == np.int64 and dataset.labels.shape == (len(dataset),)
    for i, label in enumerate(dataset.labels):
        assert decode(dataset.path(i)).unique().tolist() == [GREY[dataset.classes[label]]]


def refused(root: Path, *says: str, split: str = "val", on_error: str = "stop") -> str:
    """The message of the refusal, which must contain the given parts."""
    with pytest.raises(InputError) as caught:
        open_dataset(root, split, on_error=on_error)
    assert caught.value.exit_code == 2
    for part in says:
        assert part in caught.value.message
    return caught.value.message


def test_class_folders(tmp_path):
    for split in ("train", "val"):
        dataset = open_dataset(in_folders(tmp_path), split)
        assert_labels_are_what_is_shown(dataset)
        assert dataset.files == tuple(
            f"{split}/{wnid}/{i}.png" for wnid in sorted(WNIDS) for i in range(3)
        )
        assert dataset.root == tmp_path and dataset.names == dataset.classes
        assert dataset.skipped == ()
        assert all(dataset.path(i).is_file() for i in range(len(dataset)))


def test_suffixes_in_any_case_count_and_hidden_files_do_not(tmp_path):
    in_folders(tmp_path, "val", images=1)
    for name in ("b.JPEG", "c.jpg", "d.BMP", "e.gif", "f.WebP"):
        write_image(tmp_path / "val/n01" / name, 10)
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._0.png"):
        (tmp_path / "val/n02" / name).write_bytes(b"x")
    (tmp_path / "val/.cache").mkdir()
    dataset = open_dataset(tmp_path, "val")
    assert_labels_are_what_is_shown(dataset)
    assert len(dataset) == 8 and dataset.skipped == ()


def test_the_val_folder_itself_may_be_given(tmp_path):
    in_folders(tmp_path)
    (tmp_path / "class_index.json").write_text(json.dumps({"0": ["n01", "tench"]}))
    dataset = open_dataset(tmp_path / "val", "val")
    assert_labels_are_what_is_shown(dataset)
    assert dataset.files[0] == "n01/0.png" and dataset.names == ("tench", "n02", "n03")
    refused(
        tmp_path / "val",
        "has no folder 'train', expected",
        "/val/train/CLASS/image files; name the folder that contains it",
        split="train",
    )


def test_a_relative_root_finds_the_lists_above_it(tmp_path, monkeypatch):
    flat(tmp_path)
    monkeypatch.chdir(tmp_path / "val")
    assert_labels_are_what_is_shown(open_dataset(Path("."), "val"))


def test_linked_files_and_folders_count(tmp_path):
    in_folders(tmp_path / "there", "val")
    (tmp_path / "here/val").mkdir(parents=True)
    for wnid in WNIDS:
        (tmp_path / "here/val" / wnid).symlink_to(tmp_path / "there/val" / wnid)
    (tmp_path / "there/val/n01/3.png").symlink_to(tmp_path / "there/val/n01/0.png")
    dataset = open_dataset(tmp_path / "here", "val")
    assert_labels_are_what_is_shown(dataset)
    assert len(dataset) == 10


@pytest.mark.parametrize(
    "truth, synsets",
    [
        (None, "n03\nn01\nn02\n"),  # ids from 1 in the devkit's order
        (by_name({"n01": 0, "n02": 1, "n03": 2}), "n01\nn02\nn03\n"),  # Caffe
        (by_name({"n03": 0, "n01": 1, "n02": 2}), "n03\nn01\nn02\n"),  # positions in any list
        (by_name(), "n03\nn01\nn02\n"),
        (by_name().replace(" ", "\t"), "n03\r\nn01\r\nn02\r\n"),
        (by_name().replace("ILSVRC", "val/ILSVRC"), "\ufeffn03\nn01\nn02\n\n"),
    ],
)
def test_flat_validation_images(tmp_path, truth, synsets):
    dataset = open_dataset(flat(tmp_path, truth=truth, synsets=synsets), "val")
    assert_labels_are_what_is_shown(dataset)
    assert dataset.files == tuple(f"val/ILSVRC2012_val_{i:08}.JPEG" for i in range(1, 6))


def test_flat_validation_images_in_the_root_or_given_themselves(tmp_path):
    flat(tmp_path / "a", folder=".")
    assert_labels_are_what_is_shown(open_dataset(tmp_path / "a", "val"))
    flat(tmp_path / "b")
    assert_labels_are_what_is_shown(open_dataset(tmp_path / "b/val", "val"))
    (tmp_path / "b/ILSVRC2012_validation_ground_truth.txt").rename(tmp_path / "b/val.txt")
    assert_labels_are_what_is_shown(open_dataset(tmp_path / "b", "val"))
    (tmp_path / "b/synsets.txt").rename(tmp_path / "b/val/synset_words.txt")
    assert_labels_are_what_is_shown(open_dataset(tmp_path / "b", "val"))


def test_a_class_without_flat_images_keeps_its_index(tmp_path):
    dataset = open_dataset(flat(tmp_path, synsets="n03\nn01\nn02\nn00\n"), "val")
    assert dataset.classes == ("n00", "n01", "n02", "n03")
    assert [dataset.classes[label] for label in dataset.labels] == list(SHOWN)


def test_names_come_from_either_list(tmp_path):
    in_folders(tmp_path)
    for wnid in WNIDS:
        (tmp_path / "train" / wnid).rename(tmp_path / "train" / f"{wnid}000000")
        (tmp_path / "val" / wnid).rename(tmp_path / "val" / f"{wnid}000000")
    (tmp_path / "synset_words.txt").write_text(
        "n03000000 shark\nn01000000 tench, Tinca tinca\nn02000000 golden fish\nn99000000 other\n"
    )
    assert open_dataset(tmp_path, "train").names == ("tench", "golden fish", "shark")
    (tmp_path / "class_index.json").write_text(
        json.dumps({"0": ["n03000000", "Hai"], "1": ["n01000000", "Schleie"]})
    )
    assert open_dataset(tmp_path, "train").names == ("Schleie", "n02000000", "Hai")


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"0": ["n01"]}', '{"0": 1}', "\udcff"])
def test_a_damaged_class_index_is_named(tmp_path, text):
    in_folders(tmp_path)
    (tmp_path / "class_index.json").write_bytes(text.encode(errors="surrogateescape"))
    assert refused(tmp_path).startswith(f"{tmp_path}/class_index.json")


def test_a_stray_file_stops_or_is_listed(tmp_path):
    in_folders(tmp_path)
    (tmp_path / "val/n02/notes.txt").write_text("not an image")
    message = refused(tmp_path)
    assert message == (
        f"{tmp_path}/val/n02/notes.txt: is not an image, "
        "expected .jpeg, .jpg, .png, .bmp, .gif, .webp; remove it"
    )
    write_image(tmp_path / "val/0.png", 10)
    refused(
        tmp_path,
        f"{tmp_path}/val/0.png: is next to the class folders and has no class "
        "(and 1 more like it); move it",
    )
    (tmp_path / "val/readme.txt").write_text(
        "beside class folders, where nobody takes it for an image"
    )
    dataset = open_dataset(tmp_path, "val", on_error="skip")
    assert_labels_are_what_is_shown(dataset)
    assert dataset.skipped == ("val/0.png", "val/n02/notes.txt") and len(dataset) == 9
    assert open_dataset(tmp_path, "train").skipped == ()


def test_a_stray_file_among_flat_images_stops_or_is_listed(tmp_path):
    flat(tmp_path, folder=".")
    (tmp_path / "notes.txt").write_text("not an image")
    refused(tmp_path, f"{tmp_path}/notes.txt: is not an image")
    dataset = open_dataset(tmp_path, "val", on_error="skip")
    assert_labels_are_what_is_shown(dataset)
    assert dataset.skipped == ("notes.txt",)


@pytest.mark.parametrize("split", ["train", "val"])
def test_folders_without_images(tmp_path, split):
    refused(
        tmp_path / "gone",
        f"{tmp_path}/gone: cannot be listed (No such file or directory)",
        "check the path",
        split=split,
    )
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file", f"{tmp_path}/file: cannot be listed (Not a directory)", split=split)
    missing = {  # there is only a file
        "train": "has no folder 'train', expected {0}/train/CLASS/image files; name the folder",
        "val": "contains neither class folders nor images, expected {0}/CLASS/image files; name",
    }
    refused(tmp_path, f"{tmp_path}: {missing[split].format(tmp_path)}", split=split)
    (tmp_path / split).write_text("")
    refused(
        tmp_path,
        f"{tmp_path}/{split}: cannot be listed (Not a directory), expected a folder of images",
        split=split,
    )
    (tmp_path / split).unlink()
    (tmp_path / split).mkdir()
    empty = {
        "train": "has no class folders",
        "val": "contains neither class folders nor images",
    }
    folder = f"{tmp_path}/{split}"
    refused(
        tmp_path,
        f"{folder}: {empty[split]}, expected {folder}/CLASS/image files",
        split=split,
    )
    (tmp_path / split / "n01").mkdir()
    refused(
        tmp_path,
        f"{tmp_path}/{split}/n01: this class folder has no images; add images or remove",
        split=split,
    )


def test_only_one_split(tmp_path):
    in_folders(tmp_path, "train")
    refused(tmp_path, f"{tmp_path}: has no folder 'val', expected {tmp_path}/val/CLASS/image files")
    write_image(tmp_path / "other/train/0.png", 0)
    refused(tmp_path / "other", "other/train: has no class folders", split="train")


def test_a_folder_between_class_and_images_is_explained(tmp_path):
    write_image(tmp_path / "val/n01/images/0.png", 10)
    refused(
        tmp_path,
        "val/n01: this class folder has no images; "
        "it contains n01/images, but images must be directly in",
    )


def test_splits_must_have_the_same_classes(tmp_path):
    in_folders(tmp_path)
    write_image(tmp_path / "train/n04/0.png", 0)
    refused(
        tmp_path, f"{tmp_path}: train has 1 classes that val lacks: n04; give both the same classes"
    )
    for wnid in ("n04", "n05", "n06", "n07", "n08"):
        write_image(tmp_path / "val" / wnid / "0.png", 0)
    refused(tmp_path, "val has 4 classes that train lacks: n05, n06, n07, ...")
    assert len(open_dataset(tmp_path, "train").classes) == 4
    flat(tmp_path / "flat")
    in_folders(tmp_path / "flat", "train")
    assert_labels_are_what_is_shown(open_dataset(tmp_path / "flat", "val"))
    write_image(tmp_path / "flat/train/n04/0.png", 0)
    refused(tmp_path / "flat", "train has 1 classes that val lacks: n04")


LIST = "n03\nn01\nn02\n"


@pytest.mark.parametrize(
    "truth, synsets, says",
    [
        (
            "1\n2\n",
            LIST,
            "_ground_truth.txt: has 2 lines for 5 images, expected one line per image",
        ),
        (
            "1\n0\n1\n1\n1\n",
            LIST,
            "_ground_truth.txt, line 2: '0' is not a class id from 1 to 3, "
            "the length of the synset list; positions from 0 need",
        ),
        ("1\n1\n4\n1\n1\n", LIST, "_ground_truth.txt, line 3: '4' is not a class id from 1 to 3"),
        ("1\n1\n-1\n1\n1\n", LIST, "_ground_truth.txt, line 3: '-1' is not"),
        ("1\n1\n\n1\n1\n", LIST, "_ground_truth.txt, line 3: '' is not"),
        ("1\n1\n1\nx.JPEG 1\n1\n", LIST, "_ground_truth.txt, line 4: 'x.JPEG 1' is not"),
        ("", LIST, "_ground_truth.txt: is empty; correct or remove it"),
        (
            by_name({"n03": 1, "n01": 2, "n02": 2}),
            LIST,
            "has the positions 1 to 2 for 3 classes, so they may be counted from 1",
        ),
        ("a.jpg,n01\n", LIST, "line 1: 'a.jpg,n01' has columns with commas"),
        (
            by_name({"n03": 0, "n01": 1, "n02": 3}),
            LIST,
            "_ground_truth.txt, line 2: class '3' is neither a wnid of the synset list "
            "nor a position from 0 to 2",
        ),
        (
            by_name({"n03": "n03", "n01": "n01", "n02": "n04"}),
            LIST,
            "_ground_truth.txt, line 2: class 'n04' is neither a wnid",
        ),
        (
            by_name().replace("00003.JPEG", "00009.JPEG"),
            LIST,
            "_ground_truth.txt, line 3: there is no image 'ILSVRC2012_val_00000009.JPEG'; "
            "restore it",
        ),
        (
            by_name() + "ILSVRC2012_val_00000001.JPEG n01",
            LIST,
            "_ground_truth.txt, line 6: ILSVRC2012_val_00000001.JPEG already has a class",
        ),
        (
            by_name().partition("\n")[2],
            LIST,
            "_ground_truth.txt: has no line for 1 of 5 images: ILSVRC2012_val_00000005.JPEG; "
            "add them",
        ),
        (by_name() + "\n1", LIST, "_ground_truth.txt, line 6: class '' is neither"),
        (
            None,
            "n03\nn01\nn03\n",
            "synsets.txt, line 3: n03 occurs twice, first in line 1; give each class once",
        ),
        (None, "n03\n\nn02\n", "synsets.txt, line 2: is empty"),
        (None, "\n", "synsets.txt: is empty"),
        (
            None,
            None,
            "val: has 5 images but no class folders and no synset list; sort them into class "
            "folders, or put synsets.txt or synset_words.txt into",
        ),
    ],
)
def test_lists_that_cannot_be_right(tmp_path, truth, synsets, says):
    assert refused(flat(tmp_path, truth=truth, synsets=synsets), says).startswith(str(tmp_path))


def test_a_missing_image_or_ground_truth(tmp_path):
    flat(tmp_path)
    (tmp_path / "val/ILSVRC2012_val_00000002.JPEG").unlink()
    refused(tmp_path, "ILSVRC2012_validation_ground_truth.txt: has 5 lines for 4 images")
    (tmp_path / "ILSVRC2012_validation_ground_truth.txt").write_bytes(b"\xff\xfe1\0")
    refused(
        tmp_path,
        "ILSVRC2012_validation_ground_truth.txt: cannot be read as text",
        "; correct or remove it",
    )
    (tmp_path / "ILSVRC2012_validation_ground_truth.txt").unlink()
    refused(
        tmp_path,
        f"{tmp_path}/val: has 4 images but no class folders and no ground truth; ",
        f"val.txt into {tmp_path}",
    )


def test_lists_that_contradict_each_other(tmp_path):
    flat(tmp_path)
    (tmp_path / "synset_words.txt").write_text("n03\nn01\nn02\n")
    assert open_dataset(tmp_path, "val").names == ("n01", "n02", "n03")
    (tmp_path / "synset_words.txt").write_text("n01\nn02\nn03\n")
    refused(
        tmp_path,
        f"{tmp_path}: synsets.txt and synset_words.txt differ in their wnids or their order; "
        "keep the one",
    )
    (tmp_path / "val.txt").write_text(by_name())
    (tmp_path / "synset_words.txt").unlink()
    refused(
        tmp_path,
        "has 2 ground truths, ILSVRC2012_validation_ground_truth.txt, val.txt; keep the one",
    )


def test_1000_classes_in_an_order_that_the_numbers_cannot_mean_are_refused(tmp_path):
    """Silently wrong labels: Caffe's sorted list with the devkit's ids, and the other way round."""
    ordered = [f"n{i:08}" for i in range(1000)]
    devkit = ordered[1:] + ordered[:1]
    ids, positions = "5\n" * 5, by_name({"n01": 0, "n02": 4, "n03": 999})
    for truth, synsets, says, order in (
        (ids, ordered, "devkit ids, 1-1000", "is sorted by wnid"),
        (positions, devkit, "Caffe's positions, 0-999", "is not sorted by wnid"),
    ):
        root = flat(tmp_path, truth=truth, synsets="\n".join(synsets))
        refused(root, says, order, 'a ground truth with lines "image wnid"')

    def labels(truth: str, synsets: list[str]) -> list[int]:
        root = flat(tmp_path, truth=truth, synsets="\n".join(synsets))
        return open_dataset(root, "val").labels.tolist()

    wnids = by_name({"n01": ordered[0], "n02": ordered[4], "n03": ordered[999]})
    assert labels(ids, devkit) == [5] * 5
    assert labels(positions, ordered) == [4, 999, 0, 4, 999]
    assert labels(wnids, devkit) == [4, 999, 0, 4, 999]


@pytest.mark.parametrize("count", [2, 3, 40])
def test_devkit_ids_with_a_sorted_list_are_refused_for_any_number_of_classes(tmp_path, count):
    """The lists of a subset have the same trap: sorted wnids, and ids in the devkit's order."""
    ordered = [f"n{i:08}" for i in range(count)]
    says = (
        f"looks like devkit ids, 1-{count} in the devkit's own order",
        "is sorted by wnid",
        'lines "image wnid"',
    )
    refused(flat(tmp_path, truth="2\n" * 5, synsets="\n".join(ordered)), *says)
    turned = ordered[::-1]
    found = open_dataset(flat(tmp_path, truth="2\n" * 5, synsets="\n".join(turned)), "val")
    assert [found.classes[label] for label in found.labels] == [turned[1]] * 5


def test_a_ground_truth_has_one_form_in_all_lines(tmp_path):
    """Judged by the first line alone, positions of a thousand unsorted classes would be taken."""
    lines = by_name().splitlines()
    for first, other in (("wnid", "position"), ("position", "wnid")):
        by_position = [line.split()[0] + " 1" for line in lines]
        if other == "position":
            mixed = [*lines[:3], by_position[3], *lines[4:]]
        else:
            mixed = [*by_position[:3], *lines[3:]]
        refused(
            flat(tmp_path, truth="\n".join(mixed)),
            f"_ground_truth.txt, line 4: gives the class as a {other}, line 1 as a {first}; "
            "use one form in all lines",
        )


def test_subset_is_spread_evenly_and_always_the_same(tmp_path):
    dataset = open_dataset(in_folders(tmp_path, images=7), "val")
    for count in range(1, 22):
        some = dataset.subset(count)
        assert_labels_are_what_is_shown(some)
        assert len(set(some.files)) == len(some) == count and list(some.files) == sorted(some.files)
        of_each = np.bincount(some.labels, minlength=3)
        assert of_each.max() - of_each.min() <= 1
        assert some.files == dataset.subset(count).files
    assert dataset.subset(99).files == dataset.files
    with pytest.raises(InputError, match="0 images were asked for"):
        dataset.subset(0)


def test_the_fingerprint_changes_with_every_change(tmp_path):
    first = open_dataset(in_folders(tmp_path), "val")
    image = first.path(0)
    os.utime(image, ns=(0, 10**18))
    seen = [first.fingerprint()]
    assert len(seen[0]) == 64 and seen[0] == open_dataset(tmp_path, "val").fingerprint()

    def changed() -> None:
        seen.append(open_dataset(tmp_path, "val").fingerprint())
        assert len(set(seen)) == len(seen)

    os.utime(image, ns=(0, 10**18 + 1000))
    changed()
    with open(image, "ab") as file:
        file.write(b"x")
    os.utime(image, ns=(0, 10**18))
    changed()
    image.rename(image.with_name("z.png"))
    changed()
    (tmp_path / "val/n02").rename(tmp_path / "val/n00")
    (tmp_path / "train/n02").rename(tmp_path / "train/n00")
    changed()
    (tmp_path / "val/n03/9.png").symlink_to(tmp_path / "gone.png")  # the decoder will report it
    changed()
    assert first.subset(4).fingerprint() not in seen


def test_the_fingerprint_knows_the_labels(tmp_path):
    """Flat images keep their names and times whatever the ground truth says."""
    before = open_dataset(flat(tmp_path), "val").fingerprint()
    (tmp_path / "ILSVRC2012_validation_ground_truth.txt").write_text("1\n1\n1\n1\n1\n")
    assert open_dataset(tmp_path, "val").fingerprint() != before


def test_the_fingerprint_does_not_depend_on_where_the_data_lie(tmp_path):
    in_folders(tmp_path / "a")
    before = open_dataset(tmp_path / "a", "val").fingerprint()
    (tmp_path / "a").rename(tmp_path / "b")
    assert open_dataset(tmp_path / "b", "val").fingerprint() == before


def test_labels_for_a_net_that_knows_the_ids(tmp_path):
    dataset = open_dataset(in_folders(tmp_path), "val")
    same = labels_for(dataset, matched_classes(dataset, NetSpec("A", dataset.classes), "a.pt"))
    np.testing.assert_array_equal(same, dataset.labels)
    spec = NetSpec("A", ("n09", "n03", "n01", "n05", "n02"))
    labels = labels_for(dataset, matched_classes(dataset, spec, "a.pt"))
    assert labels.dtype == np.int64
    assert [spec.classes[label] for label in labels] == [
        dataset.classes[label] for label in dataset.labels
    ]


def test_labels_for_a_net_with_numbered_classes(tmp_path):
    dataset = open_dataset(in_folders(tmp_path), "val")
    np.testing.assert_array_equal(
        labels_for(dataset, matched_classes(dataset, NetSpec("A", numbered(3)), "a.pt")),
        dataset.labels,
    )
    for count in (2, 4):
        with pytest.raises(InputError) as caught:
            labels_for(dataset, matched_classes(dataset, NetSpec("A", numbered(count)), "a.pt"))
        assert caught.value.exit_code == 2
        assert caught.value.message.startswith(f"a.pt: its {count} classes are numbered")
        assert f"{tmp_path} has 3; use data" in caught.value.message


def test_numbered_folders_meet_numbered_classes_by_number(tmp_path):
    """Sorted as text, folder 10 comes before folder 2."""
    for name in range(11):
        write_image(tmp_path / f"val/{name}/0.png", name)
    dataset = open_dataset(tmp_path, "val")
    labels = labels_for(dataset, matched_classes(dataset, NetSpec("A", numbered(11)), "a.pt"))
    assert [decode(dataset.path(i)).max().item() for i in range(11)] == labels.tolist()
    (tmp_path / "val/0").rename(tmp_path / "val/11")
    with pytest.raises(
        Unstated, match="a.pt: names no classes, .* are numbers .1, 10, 11, .* but not 0 to 10"
    ):
        labels_for(
            open_dataset(tmp_path, "val"),
            matched_classes(open_dataset(tmp_path, "val"), NetSpec("A", numbered(11)), "a.pt"),
        )


def test_labels_for_a_net_that_lacks_classes(tmp_path):
    dataset = open_dataset(in_folders(tmp_path), "val")
    with pytest.raises(InputError) as caught:
        labels_for(dataset, matched_classes(dataset, NetSpec("A", ("n02", "cat")), "runs/a.pt"))
    assert caught.value.exit_code == 2
    assert caught.value.message == (
        f"runs/a.pt: its 2 classes lack 2 of the 3 of {tmp_path}: n01, n03; "
        "use a net trained on these classes, or data of the net's classes (n02, cat)"
    )


# --- The cached listing ---


@pytest.fixture
def listings(own_cache, monkeypatch):
    """The folder of cached listings, which here are cached whatever their size and age."""
    monkeypatch.setattr(folders, "WORTH_CACHING", 1)
    now = time.time_ns
    monkeypatch.setattr(folders.time, "time_ns", lambda: now() + 60 * 10**9)
    shutil.rmtree(own_cache / "listings", ignore_errors=True)
    return own_cache / "listings"


@pytest.fixture
def never_listed(monkeypatch):
    """A function after which listing class folders is an error."""

    def fail(*args):
        raise AssertionError("listed again")

    return lambda: monkeypatch.setattr(folders, "_list_folders", fail)


def same(a: Dataset, b: Dataset) -> bool:
    return (
        a.files == b.files
        and a.labels.tolist() == b.labels.tolist()
        and (a.root, a.classes, a.names, a.skipped) == (b.root, b.classes, b.names, b.skipped)
    )


def test_the_second_start_does_not_look_into_the_class_folders(tmp_path, listings, never_listed):
    in_folders(tmp_path)
    first = {split: open_dataset(tmp_path, split) for split in ("train", "val")}
    assert len(list(listings.glob("*.index"))) == 2
    never_listed()
    for split in ("train", "val"):
        again = open_dataset(tmp_path, split)
        assert_labels_are_what_is_shown(again)
        assert same(again, first[split]) and again.fingerprint() == first[split].fingerprint()
    assert open_dataset(tmp_path / "val", "val").files == tuple(
        file.removeprefix("val/") for file in first["val"].files
    )


def test_every_change_of_files_is_noticed(tmp_path, listings, never_listed):
    """Also if a copying tool sets the folder's time back. Oracle: the files that glob finds."""
    in_folders(tmp_path, "val", "train")
    folder = tmp_path / "val/n02"
    stamp = folder.stat().st_mtime_ns

    def changed() -> None:
        os.utime(folder, ns=(stamp, stamp))
        found = open_dataset(tmp_path, "val")
        assert found.files == sorted(
            path.relative_to(tmp_path).as_posix() for path in tmp_path.glob("val/*/*.png")
        )
        assert_labels_are_what_is_shown(found)

    changed()
    write_image(folder / "9.png", 20)
    changed()
    (folder / "9.png").rename(folder / "8.png")
    changed()
    (folder / "8.png").unlink()
    changed()
    (tmp_path / "train/n00").mkdir()
    write_image(tmp_path / "train/n00/0.png", 0)
    refused(tmp_path, "train has 1 classes that val lacks: n00")
    shutil.rmtree(tmp_path / "train/n00")
    shutil.copytree(folder, tmp_path / "copy")
    shutil.rmtree(folder)
    (tmp_path / "copy/0.png").unlink()
    (tmp_path / "copy").rename(folder)
    changed()
    (tmp_path / "val/n01").rename(tmp_path / "away")
    refused(tmp_path, "train has 1 classes that val lacks: n01")
    (tmp_path / "away").rename(tmp_path / "val/n01")
    changed()
    never_listed()
    changed_not = open_dataset(tmp_path, "val")  # that last listing was cached in its turn
    assert_labels_are_what_is_shown(changed_not)


def test_strays_are_refused_again(tmp_path, listings, never_listed):
    in_folders(tmp_path, "val")
    (tmp_path / "val/n02/notes.txt").write_text("not an image")
    first = open_dataset(tmp_path, "val", on_error="skip")
    never_listed()
    refused(tmp_path, f"{tmp_path}/val/n02/notes.txt: is not an image")
    write_image(tmp_path / "val/0.png", 10)
    assert open_dataset(tmp_path, "val", on_error="skip").skipped == ("val/0.png", *first.skipped)


def test_a_damaged_listing_is_made_again(tmp_path, listings):
    first = open_dataset(in_folders(tmp_path, "val"), "val")
    (path,) = listings.glob("*.index")
    whole = path.read_bytes()
    flipped = [whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :] for i in (100, len(whole) - 9)]
    for data in (b"", whole[:20], whole[:-1], whole + b"x", *flipped):
        path.write_bytes(data)
        assert same(open_dataset(tmp_path, "val"), first) and path.read_bytes() == whole


def test_a_folder_that_has_just_changed_is_not_trusted(tmp_path, listings, monkeypatch):
    """A later change might fall into the same tick of the file system's clock."""
    now = time.time_ns
    monkeypatch.setattr(folders.time, "time_ns", lambda: now() - 60 * 10**9)
    in_folders(tmp_path, "val")
    open_dataset(tmp_path, "val")
    assert not listings.exists()
    monkeypatch.setattr(folders.time, "time_ns", lambda: now() + folders.YOUNG_NS)
    open_dataset(tmp_path, "val")
    assert listings.exists()


def test_small_folders_leave_nothing_in_the_cache(tmp_path, listings, monkeypatch):
    monkeypatch.setattr(folders, "WORTH_CACHING", 10)
    open_dataset(in_folders(tmp_path, "val"), "val")
    assert not listings.exists()


def test_a_cache_that_cannot_be_written_is_reported(tmp_path, listings, monkeypatch, capsys):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("VGG_DEPLOY_CACHE", str(tmp_path / "file"))
    assert len(open_dataset(in_folders(tmp_path / "data", "val"), "val")) == 9
    printed = capsys.readouterr().err
    assert printed.count("is not cached, so it is computed again next time") == 1
    assert "VGG_DEPLOY_CACHE names another folder" in printed


NAMES = ("a", "", "ü/ß.png", os.fsdecode(b"broken\xff.png"), "a", "last one")


def test_names_are_a_sequence_of_strings(tmp_path):
    """Oracle: a tuple; in memory, and mapped from a file, in another order."""
    order = np.array([5, 0, 3, 3, 1])
    columns = {"n": np.arange(6), "m": -np.arange(6)}
    write_index(tmp_path / "x.index", Index({"a": [1, "ü"]}, columns, Names.of(NAMES)))
    write_index(tmp_path / "y.index", Index({}, {}, Names.of(NAMES).take(order)))
    index = read_index(tmp_path / "x.index")
    assert index.head == {"a": [1, "ü"]}
    assert index.columns["n"].tolist() == list(range(6))
    assert index.columns["m"].tolist() == [-i for i in range(6)]
    shuffled = tuple(NAMES[i] for i in order)
    for names, expected in (
        (Names.of(NAMES), NAMES),
        (index.names, NAMES),
        (read_index(tmp_path / "y.index").names, shuffled),
        (Names.of(()), ()),
    ):
        assert_same_sequence(names, expected)
    assert names.take(order[:0]) == ()
    assert index.names.take(order) == shuffled
    assert NAMES[0] in index.names and "b" not in index.names


def assert_same_sequence(names: Names, expected: tuple[str, ...]) -> None:
    assert names == expected and tuple(names) == expected and len(names) == len(expected)
    assert list(reversed(names)) == list(reversed(expected)) and set(names) == set(expected)
    for part in (slice(1, 4), slice(None, None, 2), slice(None, -1)):
        assert names[part] == expected[part]
    assert names.prefixed("p/") == tuple(f"p/{name}" for name in expected)
    assert names != (*expected, "x") and names != ("x",) * max(len(expected), 1)
    for i in range(-len(expected), len(expected)):
        assert names[i] == expected[i]
    for i in (len(expected), -len(expected) - 1):
        with pytest.raises(IndexError):
            names[i]
