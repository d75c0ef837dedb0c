"""Opens data sets: class folders, ILSVRC's flat validation set with its lists, or tar shards."""

from pathlib import Path

import numpy as np

from vgg_deploy.data.class_folders import list_classes
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.directory import entries, stray_error
from vgg_deploy.data.ilsvrc import flat_images
from vgg_deploy.data.index_file import Names
from vgg_deploy.data.shards import are_shards, open_shards
from vgg_deploy.errors import InputError
from vgg_deploy.net.class_lists import CLASS_INDEX, read_class_list, some


def open_dataset(root: Path | str, split: str, on_error: str = "stop") -> Dataset:
    """Open the images of one split.

    There are four layouts:

    - ROOT/SPLIT/CLASS/*.JPEG. A class's index is the rank of its folder name.
    - For val, ROOT/val/*.JPEG with a ground truth (*ground_truth*.txt or val.txt) and a synset list
      (synsets.txt or synset_words.txt) in ROOT, see `vgg_deploy.data.ilsvrc`. A class's index is
      the rank of its wnid whatever the order of the lists, as in torchvision and Keras.
    - If ROOT has neither train nor val, ROOT itself is taken for val. Its lists may then lie in the
      folder above it.
    - Tar shards beside a shards.json, see `vgg_deploy.data.shards`. ROOT may then be any URL that
      fsspec opens.

    class_index.json (Keras' form) or synset_words.txt beside the lists gives the classes' names.

    Args:
        root: Folder, or URL of shards.
        split: "train" or "val".
        on_error: "stop" or "skip": whether a file without an image's suffix is an error or is
            listed in `skipped`. Hidden files are ignored in any case.

    Raises:
        InputError: For anything missing, empty, left over or contradictory; names the file.
    """
    if are_shards(root):
        shards = open_shards(root, split)
        return Dataset(
            root, shards.files, shards.labels, shards.classes, shards.names, packed=shards.packed
        )
    root = Path(root)
    folder = _split_folder(root, split)
    list_folders = (folder, root if folder != root else root.resolve().parent)
    class_names = [entry.name for entry in entries(folder) if entry.is_dir()]
    if class_names:
        classes, files, labels, strays = list_classes(folder, class_names)
    elif split == "val":
        flat = flat_images(folder, list_folders)
        classes, strays = flat.classes, flat.strays
        files, labels = Names.of(flat.files), np.array(flat.labels, np.int64)
    else:
        raise InputError(f"{folder}: has no class folders, expected {folder}/CLASS/image files")
    if split == "val" and folder != root:
        _compare_with_train(root, folder, classes)
    if strays and on_error == "stop":
        raise stray_error(folder, strays)
    prefix = "" if folder == root else f"{split}/"
    names = _class_names(list_folders, classes)
    skipped = tuple(prefix + file for file in strays)
    return Dataset(root, files.prefixed(prefix), labels, classes, names, skipped)


def _split_folder(root: Path, split: str) -> Path:
    """ROOT/SPLIT; for val, ROOT itself if it is not divided."""
    names = {entry.name for entry in entries(root)}
    if split in names:
        return root / split
    if split == "val" and "train" not in names:
        return root
    raise InputError(
        f"{root}: has no folder {split!r}, expected {root / split}/CLASS/image files",
        "name the folder that contains it",
        "data",
    )


def _compare_with_train(root: Path, folder: Path, classes: tuple[str, ...]) -> None:
    """Refuse a class that only one split has.

    It would shift the index of others, or could never be right.
    """
    if not (root / "train").is_dir():
        return
    val_classes = set(classes)
    train_classes = {entry.name for entry in entries(root / "train") if entry.is_dir()}
    if not train_classes:
        return
    _refuse_missing(root, "train", folder.name, train_classes - val_classes)
    _refuse_missing(root, folder.name, "train", val_classes - train_classes)


def _refuse_missing(root: Path, split: str, other: str, missing: set[str]) -> None:
    if missing:
        raise InputError(
            f"{root}: {split} has {len(missing)} classes that {other} lacks: "
            f"{some(sorted(missing))}; give both the same classes"
        )


def _class_names(list_folders: tuple[Path, Path], classes: tuple[str, ...]) -> tuple[str, ...]:
    """What people call the classes, from the nearest list of names; without one, the ids."""
    for folder in list_folders:
        for name in (CLASS_INDEX, "synset_words.txt"):
            if (folder / name).is_file():
                listed = read_class_list(folder / name)
                known = dict(zip(listed.ids, listed.names, strict=True))
                return tuple(known.get(id, id) for id in classes)
    return classes
