"""Keeps a list of a run's images in its folder, and compares it with the images of today.

A list has names, labels and sizes. A resumed run compares it: the order of an epoch follows from
the list, and errors on other validation images would get into the same table. Names are relative,
so data may be moved. Sizes are bytes; shards also have the CRC-32 of their index. Times do not
count. A file is not noticed if its bytes change and its size stays.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from zlib import crc32

import numpy as np

from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.index_file import DamagedIndex, Index, NamesBuilder, read_index, write_index
from vgg_deploy.errors import InputError
from vgg_deploy.progress import progress

KINDS = {"train": "training", "val": "validation"}
CHUNK = 4096  # files whose sizes one thread asks for at a time
THREADS = 16  # they wait for the disk, not for a core

# of an image: class, bytes, CRC-32 of the file, CRC-32 of its boxes
Facts = tuple[str, int | None, int | None, int | None]


def keep_contents(folder: Path, train: Dataset, val: Dataset) -> None:
    """Write the lists of both sets.

    Raises:
        InputError: If the folder cannot be written.
    """
    for split, dataset in (("train", train), ("val", val)):
        write_index(_file(folder, split), contents(dataset))


def compare_contents(folder: Path, train: Dataset, val: Dataset, advice: str) -> bool:
    """Compare both sets with the lists in a folder.

    Args:
        folder: Of the run or chain.
        train: Training images of today.
        val: Validation images of today.
        advice: What to do if they differ; a sentence.

    Returns:
        Whether there were lists; an earlier version wrote none.

    Raises:
        InputError: If images changed, which it describes, or if a list is damaged.
    """
    for split, dataset in (("train", train), ("val", val)):
        path = _file(folder, split)
        try:
            before = _read_list(path)
        except FileNotFoundError:
            return False
        except (OSError, DamagedIndex) as error:
            raise InputError(
                f"{path}: cannot be read ({error}), so it is unknown whether the data changed; "
                "restore it, or remove it to resume without comparing"
            ) from None
        changes = describe_changes(before, contents(dataset))
        if changes:
            raise InputError(
                f"{folder}: the {KINDS[split]} images in {dataset.root} are not those it was "
                f"started with: {changes}. {advice}"
            )
    return True


def contents(dataset: Dataset) -> Index:
    """List a data set.

    Returns:
        Names in their order, with the columns `label` and `bytes` (-1 for a missing file), `crc32`
        for shards, and the CRC-32 of their `boxes` where images have some.
    """
    builder = NamesBuilder()
    for name in dataset.files:
        builder.add(name)
    columns = {"label": dataset.labels}
    if dataset.packed:
        columns |= {"bytes": dataset.packed.size, "crc32": dataset.packed.crc32}
    else:
        columns["bytes"] = _sizes(dataset)
    if dataset.boxes is not None:
        columns["boxes"] = np.array(
            [crc32(boxes.tobytes()) for boxes in dataset.boxes.lists()], np.int64
        )
    return Index({"classes": list(dataset.classes)}, columns, builder.names())


def describe_changes(before: Index, after: Index) -> str:
    """Describe how two lists differ.

    Returns:
        Each kind of change with its number and its first image; "" if the lists are equal.
    """
    if _same(before, after):
        return ""
    old, new = _by_name(before), _by_name(after)
    both = [name for name in new if name in old]
    changes = {
        "added": [name for name in new if name not in old],
        "removed": [name for name in old if name not in new],
        "of another class": [name for name in both if old[name][0] != new[name][0]],
        "of another size or content": [name for name in both if old[name][1:3] != new[name][1:3]],
        "with other boxes": [name for name in both if old[name][3] != new[name][3]],
    }
    described = [
        f"{len(names)} {change} (first: {names[0]})" for change, names in changes.items() if names
    ]
    return ", ".join(described) or "their order is another"


def _read_list(path: Path) -> Index:
    """Read a list of `keep_contents`.

    Raises:
        DamagedIndex: For any other file, also for an index of something else.
        OSError: If there is none.
    """
    index = read_index(path)
    classes, labels = index.head.get("classes"), index.columns.get("label")
    texts = isinstance(classes, list) and all(isinstance(name, str) for name in classes)
    if not isinstance(classes, list) or not texts or labels is None:
        raise DamagedIndex("is no list of a run's images")
    if not ((labels >= 0) & (labels < len(classes))).all():
        raise DamagedIndex("a label of it is no class")
    return index


def _file(folder: Path, split: str) -> Path:
    return folder / f"{split}_images.index"


def _same(one: Index, other: Index) -> bool:
    """Classes, names, labels and sizes, in the same order."""
    if one.head["classes"] != other.head["classes"] or one.columns.keys() != other.columns.keys():
        return False
    if len(one.names) != len(other.names):
        return False
    lengths = (one.names.ends - one.names.begins, other.names.ends - other.names.begins)
    same_names = np.array_equal(*lengths) and np.array_equal(one.names.block, other.names.block)
    return same_names and all(
        np.array_equal(one.columns[name], other.columns[name]) for name in one.columns
    )


def _by_name(index: Index) -> dict[str, Facts]:
    """The facts of every image by its name; None for a column that is not there."""
    classes = index.head["classes"]
    labels = index.columns["label"].tolist()
    sizes = _column(index, "bytes")
    sums = _column(index, "crc32")
    boxes = _column(index, "boxes")
    return {
        name: (classes[label], *facts)
        for name, label, *facts in zip(index.names, labels, sizes, sums, boxes, strict=True)
    }


def _column(index: Index, name: str) -> list[int] | list[None]:
    if name not in index.columns:
        return [None] * len(index.names)
    values: list[int] = index.columns[name].tolist()
    return values


def _sizes(dataset: Dataset) -> np.ndarray:
    """(images,) int64 bytes."""
    starts = range(0, len(dataset), CHUNK)
    with (
        progress(f"sizes of {len(dataset)} images", len(dataset)) as bar,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        sizes: list[int] = []
        for part in pool.map(partial(_some_sizes, dataset), starts):
            sizes += part
            bar.advance(len(part))
    return np.array(sizes, np.int64)


def _some_sizes(dataset: Dataset, start: int) -> list[int]:
    sizes = []
    for index in range(start, min(start + CHUNK, len(dataset))):
        try:
            sizes.append(os.stat(f"{dataset.root}/{dataset.files[index]}").st_size)
        except OSError:
            sizes.append(-1)
    return sizes
