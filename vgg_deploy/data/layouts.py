"""Opens data sets: class folders, ImageNet and its test sets as downloaded, or tar shards."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from vgg_deploy.data.class_folders import list_classes
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.directory import entries, stray_error
from vgg_deploy.data.ilsvrc import flat_images
from vgg_deploy.data.imagenet import Benchmark, benchmark_of, is_v2
from vgg_deploy.data.index_file import Names
from vgg_deploy.data.kaggle import SYNSETS, image_root, list_root
from vgg_deploy.data.real_labels import is_real, open_real
from vgg_deploy.data.shards import are_shards, open_shards
from vgg_deploy.errors import InputError
from vgg_deploy.net.class_lists import CLASS_INDEX, read_class_list, some
from vgg_deploy.net.imagenet_classes import imagenet_wnids
from vgg_deploy.regular_files import real_path

SPLITS = ("train", "val")
PACKABLE = (".tar", ".tar.gz", ".parquet")
DOWNLOADS = ("ILSVRC*_img_*.tar", "*.parquet", "data/*.parquet")


def open_dataset(root: Path | str, split: str, on_error: str = "stop") -> Dataset:
    """Open the images of one split.

    These are the layouts:

    - ROOT/SPLIT/CLASS/*.JPEG. A class's index is the rank of its folder name.
    - For val, ROOT/val/*.JPEG with a ground truth (*ground_truth*.txt or val.txt) and a synset list
      (synsets.txt or synset_words.txt) in ROOT, see `vgg_deploy.data.ilsvrc`. A class's index is
      the rank of its wnid whatever the order of the lists, as in torchvision and Keras.
    - If ROOT has neither train nor val, ROOT itself is taken for val. Its lists may then lie in the
      folder above it.
    - Tar shards beside a shards.json, see `vgg_deploy.data.shards`. ROOT may then be any URL that
      fsspec opens.
    - Kaggle's ImageNet, see `vgg_deploy.data.kaggle`.
    - For val, ImageNet-V2 (folders 0 to 999), ImageNet-A and ImageNet-R, which are recognised by
      their classes, see `vgg_deploy.data.imagenet`.
    - For val, ROOT is a file of reassessed labels, see `vgg_deploy.data.real_labels`.

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
    if is_real(root):
        dataset = open_real(root, split)
        names = _class_names((Path(dataset.root), root.parent), dataset.classes)
        return replace(dataset, names=names)
    _refuse_downloads(root)
    lists = list_root(root)
    root = image_root(root)
    folder = _split_folder(root, split)
    list_folders = (folder, _folder_of_lists(root, lists, folder))
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
    is_test_set = split == "val" and not (root / "train").is_dir()
    benchmark = benchmark_of(classes) if is_test_set else None
    if is_test_set and is_v2(folder, classes):
        classes, labels, benchmark = _of_v2(classes, labels)
    names = _class_names(list_folders, classes)
    skipped = tuple(prefix + file for file in strays)
    files = files.prefixed(prefix)
    return Dataset(root, files, labels, classes, names, skipped, benchmark=benchmark)


def _refuse_downloads(root: Path) -> None:
    """Refuse files that are not opened as they are but can be packed."""
    found = [root] if root.is_file() and root.name.endswith(PACKABLE) else []
    if not any((root / split).is_dir() for split in SPLITS):
        found += sorted(path for glob in DOWNLOADS for path in root.glob(glob))
    if found:
        raise InputError(
            f"{found[0]}: is a file that is not opened as a data set; pack images in tars or "
            f"parquet files with python -m train.pack {root} SHARDS"
        )


def _folder_of_lists(root: Path, lists: Path, folder: Path) -> Path:
    """Where lists may lie besides the folder of the images.

    Args:
        root: The folder of the splits.
        lists: The folder that the user named, or Kaggle's above it.
        folder: That of the split.
    """
    if lists != root:
        return lists
    return root if folder != root else real_path(root).parent


def _of_v2(
    classes: tuple[str, ...], labels: np.ndarray
) -> tuple[tuple[str, ...], np.ndarray, Benchmark]:
    """The wnids of ImageNet-V2's folders, which are named by their ranks among the sorted wnids."""
    rank = np.array([int(name) for name in classes], np.int64)
    return imagenet_wnids(), rank[labels], Benchmark("ImageNet-V2", (), "", imagenet_wnids())


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
        for name in (CLASS_INDEX, "synset_words.txt", SYNSETS):
            if (folder / name).is_file():
                listed = read_class_list(folder / name)
                known = dict(zip(listed.ids, listed.names, strict=True))
                return tuple(known.get(id, id) for id in classes)
    return classes
