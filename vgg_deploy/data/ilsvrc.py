"""Reads ILSVRC's validation set as it is downloaded: flat images, ground truth, synset list."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from vgg_deploy.data.devkit import is_devkit, read_devkit
from vgg_deploy.data.directory import entries, is_image
from vgg_deploy.data.kaggle import SOLUTION, SYNSETS, read_solution
from vgg_deploy.errors import InputError
from vgg_deploy.net.class_lists import (
    CLASS_INDEX,
    SYNSET_LISTS,
    ClassList,
    read_class_list,
    read_lines,
    some,
)

ILSVRC_CLASSES = 1000
SYNSETS_OF_IMAGES = (*SYNSET_LISTS, SYNSETS)  # names of lists beside images


class FlatImages(NamedTuple):
    """Images in one folder, labelled by lists."""

    classes: tuple[str, ...]  # wnids, sorted
    files: list[str]  # names in the folder, sorted
    labels: list[int]  # of each file, index into classes
    strays: list[str]  # files that are neither images nor lists


def flat_images(folder: Path, list_folders: tuple[Path, Path]) -> FlatImages:
    """Label flat images by a ground truth and a synset list.

    Args:
        folder: With the images.
        list_folders: Where the lists may lie, the nearest folder first.

    Raises:
        InputError: For missing images or lists, or lists that contradict each other or the images.
    """
    inside = [entry.name for entry in entries(folder)]
    images = [file for file in inside if is_image(file)]
    if not images:
        raise InputError(
            f"{folder}: contains neither class folders nor images, "
            f"expected {folder}/CLASS/image files",
            "name the folder of a data set",
            "data",
        )
    known = {*_ground_truths(inside), *SYNSETS_OF_IMAGES, CLASS_INDEX}
    strays = [
        file for file in inside if not is_image(file) and file not in known and not is_devkit(file)
    ]
    labelling = find_labelling(
        list_folders,
        f"{folder}: has {len(images)} images but no class folders and",
        f"sort them into class folders, or put {{files}} into {list_folders[1]} or beside them",
    )
    listed, positions = labelling.of(images)
    classes = tuple(sorted(listed.ids))
    ranks = {id: rank for rank, id in enumerate(classes)}
    labels = [ranks[listed.ids[position]] for position in positions]
    return FlatImages(classes, images, labels, strays)


class Labelling(NamedTuple):
    """Lists that tell the classes of images."""

    truth: Path  # a ground truth, or the archive of ILSVRC's devkit
    synsets: Path | None  # that the ground truth counts by; None with a devkit

    def of(self, images: list[str]) -> tuple[ClassList, list[int]]:
        """Look up the class of every image.

        Args:
            images: Names of the image files, sorted.

        Returns:
            The classes, and the position of every image's class among them.

        Raises:
            InputError: For lists that contradict each other or the images.
        """
        if self.synsets is None:
            classes, lines = read_devkit(self.truth)
            return classes, _positions_by_order(self.truth, lines, list(classes.ids), images)
        return read_class_list(self.synsets), _read_positions(self.truth, self.synsets, images)


def find_labelling(list_folders: tuple[Path, Path], lacking: str, hint: str) -> Labelling:
    """Find the lists of images that are not in class folders.

    Args:
        list_folders: Where they may lie, the nearest folder first.
        lacking: Start of the sentence about what is missing.
        hint: What to do about it; "{files}" is replaced by the names of the files.

    Raises:
        InputError: For missing lists, or several that contradict each other.
    """
    for folder in list_folders:
        names = [entry.name for entry in entries(folder)]
        if has_ground_truth(names):
            break
        devkits = [name for name in names if is_devkit(name)]
        if devkits:
            return Labelling(folder / devkits[0], None)
    synsets = _find_synset_list(list_folders)
    if synsets is None:
        files = " or ".join(SYNSET_LISTS)
        raise InputError(f"{lacking} no synset list; {hint.replace('{files}', files)}")
    truth = _find_ground_truth(list_folders)
    if truth is None:
        files = "*ground_truth*.txt or val.txt"
        raise InputError(f"{lacking} no ground truth; {hint.replace('{files}', files)}")
    return Labelling(truth, synsets)


def has_ground_truth(files: Iterable[str]) -> bool:
    """Whether a ground truth is among the names of files."""
    return bool(_ground_truths(files))


def _ground_truths(files: Iterable[str]) -> list[str]:
    return sorted(file for file in files if _is_ground_truth(file))


def _is_ground_truth(file: str) -> bool:
    return file in ("val.txt", SOLUTION) or ("ground_truth" in file and file.endswith(".txt"))


def _find_ground_truth(list_folders: tuple[Path, Path]) -> Path | None:
    """The one ground truth in the nearest folder that has any."""
    for folder in list_folders:
        found = _ground_truths(entry.name for entry in entries(folder))
        if len(found) > 1:
            raise InputError(
                f"{folder}: has {len(found)} ground truths, {', '.join(found)}; "
                "keep the one that fits the synset list"
            )
        if found:
            return folder / found[0]
    return None


def _find_synset_list(list_folders: tuple[Path, Path]) -> Path | None:
    """The synset list in the nearest folder that has one; two of them must have the same order."""
    for folder in list_folders:
        found = [folder / name for name in SYNSETS_OF_IMAGES if (folder / name).is_file()]
        if len({read_class_list(path).ids for path in found}) > 1:
            raise InputError(
                f"{folder}: {' and '.join(path.name for path in found)} differ in their wnids or "
                "their order; keep the one that the ground truth counts by"
            )
        if found:
            return found[0]
    return None


def _read_positions(truth: Path, synsets: Path, images: list[str]) -> list[int]:
    """Position in the synset list of each image.

    The lines of a ground truth have one of three forms:

    - "id", counted from 1, for the images in the order of their names (ILSVRC's devkit; its synset
      list is in an order of its own);
    - "name position", counted from 0 (Caffe; its synset list is sorted);
    - "name wnid".
    """
    ids = list(read_class_list(synsets).ids)
    if truth.name == SOLUTION:
        return _positions_of_wnids(read_solution(truth, images), ids, truth, synsets)
    lines = read_lines(truth)
    if "," in lines[0] or ";" in lines[0]:
        raise InputError(
            f'{truth}, line 1: {lines[0]!r:.80} has columns with commas; write lines "image wnid" '
            "with a space, without a header"
        )
    if len(lines[0].split()) == 1:
        _refuse_devkit_ids_of_a_sorted_list(truth, synsets, ids)
        return _positions_by_order(truth, lines, ids, images)
    return _positions_by_name(truth, synsets, lines, ids, images)


def _positions_of_wnids(wnids: list[str], ids: list[str], truth: Path, synsets: Path) -> list[int]:
    by_id = {id: i for i, id in enumerate(ids)}
    unknown = sorted(set(wnids) - by_id.keys())
    if unknown:
        raise InputError(f"{truth}: has the class {unknown[0]}, which {synsets} lacks; restore it")
    return [by_id[wnid] for wnid in wnids]


def _refuse_devkit_ids_of_a_sorted_list(truth: Path, synsets: Path, ids: list[str]) -> None:
    """The devkit counts by a list in an order of its own; a sorted list is most likely another.

    With ids from 1 and another order than the one they count by, every label would be wrong.
    """
    if len(ids) > 1 and ids == sorted(ids):
        raise InputError(
            f"{truth}: looks like devkit ids, 1-{len(ids)} in the devkit's own order, but "
            f"{synsets} is sorted by wnid; the labels would be wrong without any sign. Give the "
            'list in the order that the numbers count by, or a ground truth with lines "image wnid"'
        )


def _refuse_caffe_positions_of_another_list(truth: Path, synsets: Path, ids: list[str]) -> None:
    """Caffe's positions count by the sorted list of all classes."""
    if len(ids) == ILSVRC_CLASSES and ids != sorted(ids):
        raise InputError(
            f"{truth}: looks like Caffe's positions, 0-{len(ids) - 1} among the sorted wnids, but "
            f"{synsets} is not sorted by wnid; the labels would be wrong without any sign. Give "
            "the list in the order that the numbers count by, or a ground truth with lines "
            '"image wnid"'
        )


def _refuse_positions_from_1(truth: Path, positions: set[int], count: int) -> None:
    """Positions are counted from 0. If all occur but 0, they may as well be counted from 1."""
    if count > 2 and positions == set(range(1, count)):
        raise InputError(
            f"{truth}: has the positions 1 to {count - 1} for {count} classes, so they may be "
            'counted from 1 as well as from 0; give lines "image wnid"'
        )


def _positions_by_order(
    truth: Path, lines: list[str], ids: list[str], images: list[str]
) -> list[int]:
    """Read lines of one id, from 1; line i belongs to the i-th image by name."""
    if len(lines) != len(images):
        raise InputError(
            f"{truth}: has {len(lines)} lines for {len(images)} images, expected one line per "
            "image; complete the images or the file"
        )
    for number, line in enumerate(lines, start=1):
        if not (line.isdecimal() and len(line) < 10 and 1 <= int(line) <= len(ids)):
            raise InputError(
                f"{truth}, line {number}: {line!r} is not a class id from 1 to {len(ids)}, the "
                'length of the synset list; positions from 0 need lines "image position"'
            )
    return [int(line) - 1 for line in lines]


def _positions_by_name(
    truth: Path, synsets: Path, lines: list[str], ids: list[str], images: list[str]
) -> list[int]:
    """Read lines of an image's name and its class, a wnid or a position from 0; in any order.

    All lines must have the same form, since only that one is checked against the order of the list.
    """
    by_id = {id: i for i, id in enumerate(ids)}
    positions: dict[str, int] = {}
    present = set(images)
    first_form = ""
    for number, line in enumerate(lines, start=1):
        where = f"{truth}, line {number}"
        name, _, value = line.replace("\t", " ").rpartition(" ")
        name = name.strip().rpartition("/")[2]  # some lists have val/ before the name
        form = "wnid" if value in by_id else "position"
        if form == "position" and not _is_position(value, len(ids)):
            raise InputError(
                f"{where}: class {value!r} is neither a wnid of the synset list nor a position "
                f"from 0 to {len(ids) - 1}; correct the line or the list"
            )
        first_form = first_form or form
        if form != first_form:
            raise InputError(
                f"{where}: gives the class as a {form}, line 1 as a {first_form}; use one form in "
                "all lines"
            )
        if name not in present:
            raise InputError(f"{where}: there is no image {name!r}; restore it or remove the line")
        if name in positions:
            raise InputError(f"{where}: {name} already has a class; remove one of its lines")
        positions[name] = by_id[value] if form == "wnid" else int(value)
    if first_form == "position":
        _refuse_caffe_positions_of_another_list(truth, synsets, ids)
        _refuse_positions_from_1(truth, set(positions.values()), len(ids))
    missing = [image for image in images if image not in positions]
    if missing:
        raise InputError(
            f"{truth}: has no line for {len(missing)} of {len(images)} images: {some(missing)}; "
            "add them or remove the images"
        )
    return [positions[image] for image in images]


def _is_position(value: str, count: int) -> bool:
    return value.isascii() and value.isdecimal() and len(value) < 10 and int(value) < count
