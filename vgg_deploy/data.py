"""Folders of images and what their classes are: one folder a class, or ILSVRC's flat validation set with its lists."""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vgg_deploy.errors import InputError
from vgg_deploy.spec import NetSpec, numbered

SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".gif", ".webp")  # in any case; the decoder goes by the header
LITTER = ("thumbs.db", "desktop.ini")  # left by Windows; other systems' begins with a dot
SYNSET_LISTS = ("synsets.txt", "synset_words.txt")
ILSVRC_CLASSES = 1000


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled image files. Nothing is decoded yet."""

    root: Path
    files: tuple[str, ...]  # relative to root, with "/"; by class, then by name
    labels: np.ndarray  # (files,) int64, index into classes
    classes: tuple[str, ...]  # folder names or wnids, sorted
    names: tuple[str, ...]  # what people call them; the ids where nothing says better
    skipped: tuple[str, ...] = ()  # relative to root: files left out because they are no images by their names

    def path(self, index: int) -> Path:
        return self.root / self.files[index]

    def __len__(self) -> int:
        return len(self.files)

    def fingerprint(self) -> str:
        """Hex sha256 of names, sizes, times of change and labels, as a key for caches; asks the disk for every file."""
        digest = hashlib.sha256(repr(self.classes).encode())
        digest.update(self.labels.tobytes())
        for file in self.files:
            digest.update(f"{file}\0{_size_and_time(self.root / file)}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def subset(self, count: int) -> "Dataset":
        """`count` images spread evenly over the files, always the same ones; all of them if there are fewer."""
        if count < 1:
            raise InputError(f"{count} images were asked for; ask for at least one")
        count = min(count, len(self))
        kept = np.arange(count) * len(self) // count
        return replace(self, files=tuple(self.files[i] for i in kept), labels=self.labels[kept])


def open_dataset(root: Path, split: str, on_error: str = "stop") -> Dataset:
    """The images of one split, "train" or "val".

    Layouts: ROOT/SPLIT/CLASS/*.JPEG, where a class's index is the rank of its folder name; or, for val, ROOT/val/*.JPEG
    with a ground truth (*ground_truth*.txt or val.txt) and a synset list (synsets.txt or synset_words.txt) in ROOT, see
    `_flat_places`. The index is the rank of the wnid whatever the lists' order, as in torchvision and Keras. Where ROOT
    has neither train nor val, ROOT itself is taken for val; its lists may then lie in the folder above it.
    class_index.json (Keras' form) or synset_words.txt in the same places tells the names.

    Args: on_error, "stop" or "skip": whether a file without an image's suffix is an error or is listed in `skipped`.
        Hidden files are passed over in any case.
    Raises: InputError for anything missing, empty, left over or contradictory, naming the file.
    """
    root = Path(root)
    folder = _split_folder(root, split)
    lists = (folder, root if folder != root else root.resolve().parent)
    folders = [entry.name for entry in _entries(folder) if entry.is_dir()]
    if folders:
        classes, files, labels, strays = _by_folders(folder, folders)
    elif split == "val":
        classes, files, labels, strays = _by_lists(folder, lists)
    else:
        raise InputError(f"{folder}: has no class folders, expected {folder}/CLASS/image files")
    if split == "val" and folder != root:
        _compare_with_train(root, folder, classes)
    if strays and on_error == "stop":
        raise InputError(_about_strays(folder, strays))
    prefix = "" if folder == root else f"{split}/"
    return Dataset(
        root,
        tuple(prefix + file for file in files),
        np.array(labels, np.int64),
        classes,
        _names(lists, classes),
        tuple(prefix + file for file in strays),
    )


def labels_for(dataset: Dataset, spec: NetSpec, where: str) -> np.ndarray:
    """Labels of a data set as positions among a net's scores: (images,) int64.

    Classes meet by id, so the data may have fewer than the net. A net with numbered classes meets data whose ids are no
    such numbers by order. Args: where, the net's file, for errors.
    Raises: InputError for classes that the net does not have.
    """
    place = {id: i for i, id in enumerate(spec.classes)}
    unknown = [id for id in dataset.classes if id not in place]
    if not unknown:
        return np.array([place[id] for id in dataset.classes], np.int64)[dataset.labels]
    if spec.classes != numbered(len(spec.classes)) or len(unknown) < len(dataset.classes):
        raise InputError(
            f"{where}: its {len(spec.classes)} classes lack {len(unknown)} of the {len(dataset.classes)} of {dataset.root}: "
            f"{_some(unknown)}; use a net trained on these classes, or data of the net's classes ({_some(spec.classes)})"
        )
    if len(spec.classes) != len(dataset.classes):
        raise InputError(
            f"{where}: its {len(spec.classes)} classes are numbered and have no ids, so they can only be matched by order, but "
            f"{dataset.root} has {len(dataset.classes)}; use data with all {len(spec.classes)} classes, or a net that knows its ids"
        )
    return dataset.labels


def _split_folder(root: Path, split: str) -> Path:
    """ROOT/SPLIT; for val ROOT itself when it is not divided."""
    here = {entry.name for entry in _entries(root)}
    if split in here:
        return root / split
    if split == "val" and "train" not in here:
        return root
    raise InputError(f"{root}: has no folder {split!r}, expected {root / split}/CLASS/image files; check --data")


def _entries(folder: Path) -> list[os.DirEntry]:
    """What lies in a folder, hidden things apart, sorted by name."""
    try:
        with os.scandir(folder) as found:
            shown = [entry for entry in found if not entry.name.startswith(".") and entry.name.lower() not in LITTER]
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror}), expected a folder of images; check --data") from None
    return sorted(shown, key=lambda entry: entry.name)


def _by_folders(folder: Path, classes: list[str]) -> tuple[tuple[str, ...], list[str], list[int], list[str]]:
    """Classes, files, labels and strays of FOLDER/CLASS/image files; the files relative to FOLDER."""
    files, labels = [], []
    # lists and readmes may lie beside class folders, but an image there has no class
    strays = [entry.name for entry in _entries(folder) if _is_image(entry.name) and not entry.is_dir()]
    for label, name in enumerate(classes):
        inside = [f"{name}/{entry.name}" for entry in _entries(folder / name)]
        images = [file for file in inside if _is_image(file)]
        strays += [file for file in inside if not _is_image(file)]
        if not images:
            nested = f"; it holds {inside[0]}, but expected are image files right in the class folders" if inside else ""
            raise InputError(f"{folder / name}: this class folder has no images{nested}; add images or remove the folder")
        files += images
        labels += [label] * len(images)
    return tuple(classes), files, labels, strays


def _by_lists(folder: Path, lists: tuple[Path, Path]) -> tuple[tuple[str, ...], list[str], list[int], list[str]]:
    """Classes, files, labels and strays of flat images, a ground truth and a synset list."""
    inside = [entry.name for entry in _entries(folder)]
    images = [file for file in inside if _is_image(file)]
    if not images:
        raise InputError(f"{folder}: holds neither class folders nor images, expected {folder}/CLASS/image files; check --data")
    known = {*_truths(inside), *SYNSET_LISTS, "class_index.json"}
    strays = [file for file in inside if not _is_image(file) and file not in known]
    synsets = _synset_list(lists, images)
    places = _flat_places(_ground_truth(lists, images), synsets, images)
    ids = list(_synsets(synsets))
    rank = {id: i for i, id in enumerate(sorted(ids))}
    return tuple(rank), images, [rank[ids[place]] for place in places], strays


def _truths(files: Iterable[str]) -> list[str]:
    return sorted(f for f in files if f == "val.txt" or ("ground_truth" in f and f.endswith(".txt")))


def _ground_truth(lists: tuple[Path, Path], images: list[str]) -> Path:
    """The one ground truth in the nearest folder that has any."""
    for folder in lists:
        found = _truths(entry.name for entry in _entries(folder))
        if len(found) > 1:
            raise InputError(f"{folder}: has {len(found)} ground truths, {', '.join(found)}; keep the one that fits the synset list")
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
        if len(found) > 1 and list(_synsets(found[0])) != list(_synsets(found[1])):
            raise InputError(f"{folder}: {' and '.join(SYNSET_LISTS)} differ in their wnids or their order; keep the one that the ground truth counts by")
        if found:
            return found[0]
    raise InputError(
        f"{lists[0]}: has {len(images)} images but no class folders and no synset list; sort them into class folders, "
        f"or put {' or '.join(SYNSET_LISTS)} into {lists[1]}"
    )


def _synsets(path: Path) -> dict[str, str]:
    """wnid -> name, in the file's order; lines of "wnid" or "wnid name, other name"."""
    names = {}
    for number, line in enumerate(_lines(path), start=1):
        id, _, words = line.partition(" ")
        if not id or id in names:
            raise InputError(f"{path}, line {number}: {f'{id} is there twice' if id else 'is empty'}, expected one wnid a line, each once")
        names[id] = words.split(",")[0].strip() or id
    return names


def _flat_places(truth: Path, synsets: Path, images: list[str]) -> list[int]:
    """Position in the synset list of each image.

    The ground truth's lines have one of three forms: "id" from 1, the images in the order of their names (ILSVRC's
    devkit, whose list is in devkit order); "name position" from 0 (Caffe, whose list is sorted); "name wnid".
    """
    lines, ids = _lines(truth), list(_synsets(synsets))
    devkit = len(lines[0].split()) == 1
    by_position = devkit or (lines[0].split()[-1].isdecimal() and lines[0].split()[-1] not in ids)
    in_order = ids == sorted(ids)
    if len(ids) == ILSVRC_CLASSES and by_position and devkit == in_order:
        counts = "devkit ids, 1-1000 in the devkit's own order" if devkit else "Caffe's positions, 0-999 among the sorted wnids"
        raise InputError(
            f"{truth}: looks like {counts}, but {synsets} is {'' if in_order else 'not '}sorted by wnid; the labels would be wrong "
            'without any sign. Give the list in the order that the numbers count by, or a ground truth with lines "image wnid"'
        )
    return _places_by_order(truth, lines, ids, images) if devkit else _places_by_name(truth, lines, ids, images)


def _places_by_order(truth: Path, lines: list[str], ids: list[str], images: list[str]) -> list[int]:
    """Lines of one id, 1 to the number of classes; line i belongs to the i-th image by name."""
    if len(lines) != len(images):
        raise InputError(f"{truth}: has {len(lines)} lines for {len(images)} images, expected one line an image; complete the images or the file")
    for number, line in enumerate(lines, start=1):
        if not (line.isdecimal() and 1 <= int(line) <= len(ids)):
            raise InputError(
                f"{truth}, line {number}: {line!r} is not a class id from 1 to {len(ids)}, the length of the synset list; "
                'positions from 0 need lines "image position"'
            )
    return [int(line) - 1 for line in lines]


def _places_by_name(truth: Path, lines: list[str], ids: list[str], images: list[str]) -> list[int]:
    """Lines of an image's name and its class, a wnid or a position from 0; in any order."""
    place, given, present = {id: i for i, id in enumerate(ids)}, {}, set(images)
    for number, line in enumerate(lines, start=1):
        where = f"{truth}, line {number}"
        name, _, value = line.replace("\t", " ").rpartition(" ")
        name = name.strip().rpartition("/")[2]  # some lists have val/ before the name
        if value not in place and not (value.isdecimal() and int(value) < len(ids)):
            raise InputError(f"{where}: class {value!r} is neither a wnid of the synset list nor a position from 0 to {len(ids) - 1}; correct the line or the list")
        if name not in present:
            raise InputError(f"{where}: there is no image {name!r}; restore it or remove the line")
        if name in given:
            raise InputError(f"{where}: {name} has a class already; remove one of its lines")
        given[name] = place[value] if value in place else int(value)
    if missing := [image for image in images if image not in given]:
        raise InputError(f"{truth}: has no line for {len(missing)} of {len(images)} images: {_some(missing)}; add them or remove the images")
    return [given[image] for image in images]


def _compare_with_train(root: Path, folder: Path, classes: tuple[str, ...]) -> None:
    """A class that only one split has would shift the index of others, or could never be right."""
    if not (root / "train").is_dir():
        return
    trained = {entry.name for entry in _entries(root / "train") if entry.is_dir()}
    for has, lacks, only in (("train", folder.name, trained - set(classes)), (folder.name, "train", set(classes) - trained)):
        if trained and only:
            raise InputError(f"{root}: {has} has {len(only)} classes that {lacks} lacks: {_some(sorted(only))}; give both the same classes")


def _names(lists: tuple[Path, Path], classes: tuple[str, ...]) -> tuple[str, ...]:
    """What people call the classes, from the nearest file that says so."""
    for folder in lists:
        if (folder / "class_index.json").is_file():
            known = _keras_names(folder / "class_index.json")
        elif (folder / "synset_words.txt").is_file():
            known = _synsets(folder / "synset_words.txt")
        else:
            continue
        return tuple(known.get(id, id) for id in classes)
    return classes


def _keras_names(path: Path) -> dict[str, str]:
    """wnid -> name from {"0": ["n01440764", "tench"], ...}; the positions are not used, they follow from the wnids."""
    try:
        return {str(id): str(name) for id, name in json.loads("\n".join(_lines(path))).values()}
    except (ValueError, AttributeError, TypeError):
        raise InputError(f'{path}: is not a class index, expected {{"0": ["n01440764", "tench"], ...}}; correct or remove it') from None


def _lines(path: Path) -> list[str]:
    """Lines of a text file without the white space round them; there is at least one."""
    try:
        text = path.read_text(encoding="utf-8-sig").rstrip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error}); correct or remove it") from None
    if not text:
        raise InputError(f"{path}: is empty; correct or remove it")
    return [line.strip() for line in text.split("\n")]


def _is_image(file: str) -> bool:
    return file.lower().endswith(SUFFIXES)


def _about_strays(folder: Path, strays: list[str]) -> str:
    more = f" (and {len(strays) - 1} more like it)" if len(strays) > 1 else ""
    if _is_image(strays[0]):
        return f"{folder / strays[0]}: lies beside the class folders and has no class{more}; move it or pass --on-error skip"
    return f"{folder / strays[0]}: is not an image, expected {', '.join(SUFFIXES)}{more}; remove it or pass --on-error skip"


def _some(ids: Iterable[str]) -> str:
    """The first few, for messages."""
    ids = list(ids)
    return ", ".join(ids[:3]) + (", ..." if len(ids) > 3 else "")


def _size_and_time(path: Path) -> tuple[int, int]:
    """Bytes and nanoseconds; a file that cannot be asked is left to the decoder to report."""
    try:
        found = os.stat(path)
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns
