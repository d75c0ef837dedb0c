"""ILSVRC's validation set as it is downloaded: flat images, a ground truth and a synset list."""

from collections.abc import Iterable
from pathlib import Path

from vgg_deploy.data.directory import entries, is_image
from vgg_deploy.errors import InputError
from vgg_deploy.net.class_lists import CLASS_INDEX, SYNSET_LISTS, read_class_list, read_lines, some

ILSVRC_CLASSES = 1000


def flat_images(
    folder: Path, lists: tuple[Path, Path]
) -> tuple[tuple[str, ...], list[str], list[int], list[str]]:
    """Classes, files, labels and strays of flat images, a ground truth and a synset list."""
    inside = [entry.name for entry in entries(folder)]
    images = [file for file in inside if is_image(file)]
    if not images:
        raise InputError(
            f"{folder}: holds neither class folders nor images, expected {folder}/CLASS/image files",
            "name the folder of a data set",
            "data",
        )
    known = {*_truths(inside), *SYNSET_LISTS, CLASS_INDEX}
    strays = [file for file in inside if not is_image(file) and file not in known]
    synsets = _synset_list(lists, images)
    places = _flat_places(_ground_truth(lists, images), synsets, images)
    ids = list(read_class_list(synsets).ids)
    rank = {id: i for i, id in enumerate(sorted(ids))}
    return tuple(rank), images, [rank[ids[place]] for place in places], strays


def has_ground_truth(files: Iterable[str]) -> bool:
    """Whether a ground truth is among the names of files."""
    return bool(_truths(files))


def _truths(files: Iterable[str]) -> list[str]:
    return sorted(
        f for f in files if f == "val.txt" or ("ground_truth" in f and f.endswith(".txt"))
    )


def _ground_truth(lists: tuple[Path, Path], images: list[str]) -> Path:
    """The one ground truth in the nearest folder that has any."""
    for folder in lists:
        found = _truths(entry.name for entry in entries(folder))
        if len(found) > 1:
            raise InputError(
                f"{folder}: has {len(found)} ground truths, {', '.join(found)}; keep the one that fits the synset list"
            )
        if found:
            return folder / found[0]
    raise InputError(
        f"{lists[0]}: has {len(images)} images but no class folders and no ground truth; sort them into class folders, "
        f"or put *ground_truth*.txt or val.txt into {lists[1]}"
    )


def _synset_list(lists: tuple[Path, Path], images: list[str]) -> Path:
    """The synset list in the nearest folder that has one; two of them must be in the same order."""
    for folder in lists:
        found = [folder / name for name in SYNSET_LISTS if (folder / name).is_file()]
        if len(found) > 1 and read_class_list(found[0]).ids != read_class_list(found[1]).ids:
            raise InputError(
                f"{folder}: {' and '.join(SYNSET_LISTS)} differ in their wnids or their order; keep the one that the ground truth counts by"
            )
        if found:
            return found[0]
    raise InputError(
        f"{lists[0]}: has {len(images)} images but no class folders and no synset list; sort them into class folders, "
        f"or put {' or '.join(SYNSET_LISTS)} into {lists[1]}"
    )


def _flat_places(truth: Path, synsets: Path, images: list[str]) -> list[int]:
    """Position in the synset list of each image.

    The ground truth's lines have one of three forms: "id" from 1, the images in the order of their names (ILSVRC's
    devkit, whose list is in devkit order); "name position" from 0 (Caffe, whose list is sorted); "name wnid".
    """
    lines, ids = read_lines(truth), list(read_class_list(synsets).ids)
    if "," in lines[0] or ";" in lines[0]:
        raise InputError(
            f'{truth}, line 1: {lines[0]!r:.80} has columns with commas; write lines "image wnid" '
            "with a space, without a header"
        )
    if len(lines[0].split()) == 1:
        _refuse_devkit_ids_of_a_sorted_list(truth, synsets, ids)
        return _places_by_order(truth, lines, ids, images)
    return _places_by_name(truth, synsets, lines, ids, images)


def _refuse_devkit_ids_of_a_sorted_list(truth: Path, synsets: Path, ids: list[str]) -> None:
    """The devkit counts by a list in an order of its own; a sorted list is most likely another.

    With ids from 1 and another order than the one they count by, every label would be wrong.
    """
    if len(ids) > 1 and ids == sorted(ids):
        raise InputError(
            f"{truth}: looks like devkit ids, 1-{len(ids)} in the devkit's own order, but {synsets} "
            "is sorted by wnid; the labels would be wrong without any sign. Give the list in the "
            'order that the numbers count by, or a ground truth with lines "image wnid"'
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


def _refuse_positions_from_1(truth: Path, places: set[int], count: int) -> None:
    """Positions are counted from 0. If all occur but 0, they may as well be counted from 1."""
    if count > 2 and places == set(range(1, count)):
        raise InputError(
            f"{truth}: has the positions 1 to {count - 1} for {count} classes, so they may be "
            'counted from 1 as well as from 0; give lines "image wnid"'
        )


def _places_by_order(truth: Path, lines: list[str], ids: list[str], images: list[str]) -> list[int]:
    """Lines of one id, 1 to the number of classes; line i belongs to the i-th image by name."""
    if len(lines) != len(images):
        raise InputError(
            f"{truth}: has {len(lines)} lines for {len(images)} images, expected one line an image; complete the images or the file"
        )
    for number, line in enumerate(lines, start=1):
        if not (line.isdecimal() and len(line) < 10 and 1 <= int(line) <= len(ids)):
            raise InputError(
                f"{truth}, line {number}: {line!r} is not a class id from 1 to {len(ids)}, the length of the synset list; "
                'positions from 0 need lines "image position"'
            )
    return [int(line) - 1 for line in lines]


def _places_by_name(
    truth: Path, synsets: Path, lines: list[str], ids: list[str], images: list[str]
) -> list[int]:
    """Lines of an image's name and its class, a wnid or a position from 0; in any order.

    All lines must have the same form, since only that one is checked against the order of the list.
    """
    place = {id: i for i, id in enumerate(ids)}
    given: dict[str, int] = {}
    present = set(images)
    first_form = ""
    for number, line in enumerate(lines, start=1):
        where = f"{truth}, line {number}"
        name, _, value = line.replace("\t", " ").rpartition(" ")
        name = name.strip().rpartition("/")[2]  # some lists have val/ before the name
        is_position = value.isascii() and value.isdecimal() and len(value) < 10
        if value not in place and not (is_position and int(value) < len(ids)):
            raise InputError(
                f"{where}: class {value!r} is neither a wnid of the synset list nor a position "
                f"from 0 to {len(ids) - 1}; correct the line or the list"
            )
        form = "wnid" if value in place else "position"
        first_form = first_form or form
        if form != first_form:
            raise InputError(
                f"{where}: gives the class as a {form}, line 1 as a {first_form}; use one form in "
                "all lines"
            )
        if name not in present:
            raise InputError(f"{where}: there is no image {name!r}; restore it or remove the line")
        if name in given:
            raise InputError(f"{where}: {name} has a class already; remove one of its lines")
        given[name] = place[value] if form == "wnid" else int(value)
    if first_form == "position":
        _refuse_caffe_positions_of_another_list(truth, synsets, ids)
        _refuse_positions_from_1(truth, set(given.values()), len(ids))
    missing = [image for image in images if image not in given]
    if missing:
        raise InputError(
            f"{truth}: has no line for {len(missing)} of {len(images)} images: {some(missing)}; "
            "add them or remove the images"
        )
    return [given[image] for image in images]
