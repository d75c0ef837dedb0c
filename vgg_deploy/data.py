"""Folders of images and what their classes are: one folder a class, or ILSVRC's flat validation set with its lists."""

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vgg_deploy.classes import CLASS_INDEX, keras_names, read_synsets, some
from vgg_deploy.errors import InputError
from vgg_deploy.files import sha256
from vgg_deploy.ilsvrc import flat_images
from vgg_deploy.listing import SUFFIXES, entries, is_image
from vgg_deploy.progress import progress
from vgg_deploy.spec import NetSpec, numbered


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

    def content_sha256(self, threads: int) -> str:
        """Hex sha256 of the files' bytes in their order; names and labels do not count. Reads every file."""
        with ThreadPoolExecutor(threads) as pool, progress(f"sha256 of {len(self)} images", len(self)) as bar:
            digest = hashlib.sha256()
            for one in pool.map(_content, map(self.path, range(len(self)))):
                digest.update(one)
                bar.advance()
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
    `ilsvrc`. The index is the rank of the wnid whatever the lists' order, as in torchvision and Keras. Where ROOT
    has neither train nor val, ROOT itself is taken for val; its lists may then lie in the folder above it.
    class_index.json (Keras' form) or synset_words.txt in the same places tells the names.

    Args: on_error, "stop" or "skip": whether a file without an image's suffix is an error or is listed in `skipped`.
        Hidden files are passed over in any case.
    Raises: InputError for anything missing, empty, left over or contradictory, naming the file.
    """
    root = Path(root)
    folder = _split_folder(root, split)
    lists = (folder, root if folder != root else root.resolve().parent)
    folders = [entry.name for entry in entries(folder) if entry.is_dir()]
    if folders:
        classes, files, labels, strays = _by_folders(folder, folders)
    elif split == "val":
        classes, files, labels, strays = flat_images(folder, lists)
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


def matched_classes(dataset: Dataset, spec: NetSpec, where: str) -> tuple[str, ...]:
    """A net's classes, in the order of its scores, by the ids that the data set uses.

    Classes meet by id, so the data may have fewer than the net. A net with numbered classes meets data whose ids are no
    such numbers by order. Args: where, the net's file, for errors.
    Raises: InputError for classes that the net does not have.
    """
    unknown = [id for id in dataset.classes if id not in set(spec.classes)]
    if not unknown:
        return spec.classes
    if spec.classes != numbered(len(spec.classes)) or len(unknown) < len(dataset.classes):
        raise InputError(
            f"{where}: its {len(spec.classes)} classes lack {len(unknown)} of the {len(dataset.classes)} of {dataset.root}: "
            f"{some(unknown)}; use a net trained on these classes, or data of the net's classes ({some(spec.classes)})"
        )
    if len(spec.classes) != len(dataset.classes):
        raise InputError(
            f"{where}: its {len(spec.classes)} classes are numbered and have no ids, so they can only be matched by order, but "
            f"{dataset.root} has {len(dataset.classes)}; use data with all {len(spec.classes)} classes, or a net that knows its ids"
        )
    return dataset.classes


def labels_for(dataset: Dataset, classes: tuple[str, ...]) -> np.ndarray:
    """Labels of a data set as positions among `matched_classes`: (images,) int64."""
    place = {id: i for i, id in enumerate(classes)}
    return np.array([place[id] for id in dataset.classes], np.int64)[dataset.labels]


def _split_folder(root: Path, split: str) -> Path:
    """ROOT/SPLIT; for val ROOT itself when it is not divided."""
    here = {entry.name for entry in entries(root)}
    if split in here:
        return root / split
    if split == "val" and "train" not in here:
        return root
    raise InputError(f"{root}: has no folder {split!r}, expected {root / split}/CLASS/image files; check --data")


def _by_folders(folder: Path, classes: list[str]) -> tuple[tuple[str, ...], list[str], list[int], list[str]]:
    """Classes, files, labels and strays of FOLDER/CLASS/image files; the files relative to FOLDER."""
    files, labels = [], []
    # lists and readmes may lie beside class folders, but an image there has no class
    strays = [entry.name for entry in entries(folder) if is_image(entry.name) and not entry.is_dir()]
    for label, name in enumerate(classes):
        inside = [f"{name}/{entry.name}" for entry in entries(folder / name)]
        images = [file for file in inside if is_image(file)]
        strays += [file for file in inside if not is_image(file)]
        if not images:
            nested = f"; it holds {inside[0]}, but expected are image files right in the class folders" if inside else ""
            raise InputError(f"{folder / name}: this class folder has no images{nested}; add images or remove the folder")
        files += images
        labels += [label] * len(images)
    return tuple(classes), files, labels, strays


def _compare_with_train(root: Path, folder: Path, classes: tuple[str, ...]) -> None:
    """A class that only one split has would shift the index of others, or could never be right."""
    if not (root / "train").is_dir():
        return
    trained = {entry.name for entry in entries(root / "train") if entry.is_dir()}
    for has, lacks, only in (("train", folder.name, trained - set(classes)), (folder.name, "train", set(classes) - trained)):
        if trained and only:
            raise InputError(f"{root}: {has} has {len(only)} classes that {lacks} lacks: {some(sorted(only))}; give both the same classes")


def _names(lists: tuple[Path, Path], classes: tuple[str, ...]) -> tuple[str, ...]:
    """What people call the classes, from the nearest file that says so."""
    for folder in lists:
        if (folder / CLASS_INDEX).is_file():
            known = keras_names(folder / CLASS_INDEX)
        elif (folder / "synset_words.txt").is_file():
            known = read_synsets(folder / "synset_words.txt")
        else:
            continue
        return tuple(known.get(id, id) for id in classes)
    return classes


def _about_strays(folder: Path, strays: list[str]) -> str:
    more = f" (and {len(strays) - 1} more like it)" if len(strays) > 1 else ""
    if is_image(strays[0]):
        return f"{folder / strays[0]}: lies beside the class folders and has no class{more}; move it or pass --on-error skip"
    return f"{folder / strays[0]}: is not an image, expected {', '.join(SUFFIXES)}{more}; remove it or pass --on-error skip"


def _content(path: Path) -> bytes:
    """sha256 of a file; one that cannot be read is left to the decoder to report."""
    try:
        return bytes.fromhex(sha256(path))
    except OSError:
        return b"unreadable"


def _size_and_time(path: Path) -> tuple[int, int]:
    """Bytes and nanoseconds; a file that cannot be asked is left to the decoder to report."""
    try:
        found = os.stat(path)
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns
