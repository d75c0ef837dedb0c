"""What a run or a chain is trained on: names, labels and sizes of its images, kept in its folder.

A resumed run compares them, for the order of an epoch follows from the list, and errors of other
validation images would stand in the same table. Names are relative, so data may be moved. Sizes are
bytes, for shards with the CRC-32 of their index; times do not count. A file whose bytes change and
whose size does not is not noticed.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.index_file import DamagedIndex, Index, NamesBuilder, read_index, write_index
from vgg_deploy.errors import InputError
from vgg_deploy.progress import progress

KINDS = {"train": "training", "val": "validation"}
CHUNK = 4096  # files whose sizes one thread asks for at a time
THREADS = 16  # they wait for the disk, not for a core


def keep_contents(folder: Path, train: Dataset, val: Dataset) -> None:
    """Write the lists of both sets. Raises: InputError if the folder cannot be written."""
    for split, dataset in (("train", train), ("val", val)):
        write_index(_file(folder, split), contents(dataset))


def compare_contents(folder: Path, train: Dataset, val: Dataset, way_out: str) -> bool:
    """Compare both sets with the lists in a folder.

    Args: way_out, what to do where they differ; the end of a sentence.
    Returns: whether there were lists; an earlier version wrote none.
    Raises: InputError that says what changed, or that a list is damaged.
    """
    for split, dataset in (("train", train), ("val", val)):
        path = _file(folder, split)
        try:
            before = read_index(path)
        except FileNotFoundError:
            return False
        except (OSError, DamagedIndex) as error:
            raise InputError(
                f"{path}: cannot be read ({error}); without it nobody can say whether the data "
                "changed. Put it back, or remove it to resume without comparing"
            ) from None
        changes = describe_changes(before, contents(dataset))
        if changes:
            raise InputError(
                f"{folder}: the {KINDS[split]} images in {dataset.root} are not those it was "
                f"started with: {changes}. {way_out}"
            )
    return True


def contents(dataset: Dataset) -> Index:
    """Names in their order, with the columns `label` and `bytes` (-1 for a file that is not there),
    and `crc32` of shards.
    """
    builder = NamesBuilder()
    for name in dataset.files:
        builder.add(name)
    columns = {"label": dataset.labels}
    if dataset.packed:
        columns |= {"bytes": dataset.packed.size, "crc32": dataset.packed.crc32}
    else:
        columns["bytes"] = _sizes(dataset)
    return Index({"classes": list(dataset.classes)}, columns, builder.names())


def describe_changes(before: Index, after: Index) -> str:
    """How two lists differ, each kind of change with its number and its first image; "" if they do
    not.
    """
    if _same(before, after):
        return ""
    old, new = _by_name(before), _by_name(after)
    both = [name for name in new if name in old]
    found = {
        "added": [name for name in new if name not in old],
        "removed": [name for name in old if name not in new],
        "of another class": [name for name in both if old[name][0] != new[name][0]],
        "of another size or content": [name for name in both if old[name][1:] != new[name][1:]],
    }
    told = [f"{len(names)} {what} (first: {names[0]})" for what, names in found.items() if names]
    if told:
        return ", ".join(told)
    return "their order is another"


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


def _by_name(index: Index) -> dict[str, tuple]:
    """Class, bytes and CRC-32 of every image by its name; None for a column that is not there."""
    classes = index.head["classes"]
    missing = [None] * len(index.names)
    sizes, sums = (
        index.columns[name].tolist() if name in index.columns else missing
        for name in ("bytes", "crc32")
    )
    labels = index.columns["label"].tolist()
    return {
        name: (classes[label], size, crc)
        for name, label, size, crc in zip(index.names, labels, sizes, sums, strict=True)
    }


def _sizes(dataset: Dataset) -> np.ndarray:
    """(images,) int64 bytes."""
    starts = range(0, len(dataset), CHUNK)
    with (
        progress(f"sizes of {len(dataset)} images", len(dataset)) as bar,
        ThreadPoolExecutor(THREADS) as pool,
    ):
        parts = []
        for part in pool.map(partial(_some_sizes, dataset), starts):
            parts += part
            bar.advance(len(part))
    return np.array(parts, np.int64)


def _some_sizes(dataset: Dataset, start: int) -> list[int]:
    found = []
    for index in range(start, min(start + CHUNK, len(dataset))):
        try:
            found.append(os.stat(f"{dataset.root}/{dataset.files[index]}").st_size)
        except OSError:
            found.append(-1)
    return found
