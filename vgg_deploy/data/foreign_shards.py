"""Indexes tar shards that another program wrote in WebDataset's convention, such as timm's."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vgg_deploy.data.shard_writer import Packing, write_description
from vgg_deploy.data.shards import PLAIN_NAME
from vgg_deploy.errors import InputError
from vgg_deploy.net.class_lists import ClassList, checked_classes, read_class_list
from vgg_deploy.net.spec import numbered
from vgg_deploy.number_bounds import MOST_CLASSES
from vgg_deploy.progress import progress

# By split, in the order of their finding; the second is that of timm/imagenet-1k-wds
USUAL_NAMES = {
    "train": re.compile(r"(imagenet1k-)?train.*"),
    "val": re.compile(r"(imagenet1k-)?val.*"),
}
RANGE = re.compile(r"\{([0-9]{1,9})\.\.([0-9]{1,9})\}")
MOST_SHARDS = 1_000_000


def index_shards(
    folder: Path, class_list: Path | None, patterns: Mapping[str, str]
) -> dict[str, Packing]:
    """Write shards.json for shards that exist.

    Args:
        folder: With the shards.
        class_list: Names the classes in the order of their numbers. By default they are numbered,
            or if the shards name them by their ids, these ids sorted.
        patterns: Names of the shards of each split: a glob, or one range as in x-{00..63}.tar. By
            default train*.tar and val*.tar, also behind imagenet1k-.

    Returns:
        What was indexed, by split.

    Raises:
        InputError: For a member that belongs to no sample; names shard and member. Also for a
            pattern without shards, or a class that the list lacks.
    """
    packings: dict[str, Packing] = {}
    ids: dict[str, int] = {}
    is_numbered: bool | None = None
    for split, tars in _find_tars(folder, patterns).items():
        packing = packings[split] = Packing(ids=ids, numbered=is_numbered)
        with progress(f"indexing {len(tars)} {split} shards", len(tars)) as bar:
            for tar in tars:
                packing.add(tar)
                bar.advance()
        is_numbered = packing.numbered
    if ids:
        classes = _of_ids(ids, packings, folder, class_list)
    else:
        classes = _of_numbers(packings, folder, class_list)
    write_description(folder, classes, packings)
    return packings


def _of_ids(
    ids: dict[str, int], packings: dict[str, Packing], folder: Path, class_list: Path | None
) -> ClassList:
    """The classes that the shards name by ids; the labels become numbers in this order."""
    classes = checked_classes(sorted(ids), sorted(ids), folder)
    if class_list is not None:
        classes = read_class_list(class_list)
        unlisted = sorted(ids.keys() - set(classes.ids))
        if unlisted:
            raise InputError(
                f"{folder}: has the class {unlisted[0]!r:.60}, which {class_list} lacks; "
                "give the whole list"
            )
    position = {id: number for number, id in enumerate(classes.ids)}
    numbers = np.array([position[id] for id in ids], np.int64)  # ids are in order of their numbers
    for packing in packings.values():
        packing.renumber(numbers)
    return classes


def _of_numbers(packings: dict[str, Packing], folder: Path, class_list: Path | None) -> ClassList:
    """The classes that the shards number."""
    for packing in packings.values():
        largest = int(packing.labels.argmax())
        if packing.labels[largest] >= MOST_CLASSES:
            raise InputError(
                f"{folder}/{packing.names.names()[largest]}: is of class "
                f"{packing.labels[largest]:,}, and more than {MOST_CLASSES:,} classes are not "
                "read; correct its .cls"
            )
    if class_list is None:
        ids = numbered(1 + max(int(packing.labels.max()) for packing in packings.values()))
        return ClassList(ids, ids)
    classes = read_class_list(class_list)
    for packing in packings.values():
        unlisted = np.flatnonzero(packing.labels >= len(classes.ids))
        if len(unlisted):
            name, label = packing.names.names()[unlisted[0]], packing.labels[unlisted[0]]
            raise InputError(
                f"{folder}/{name}: is of class {label}, but {class_list} lists "
                f"{len(classes.ids)}, counted from 0; give the whole list"
            )
    return classes


def _find_tars(folder: Path, patterns: Mapping[str, str]) -> dict[str, list[Path]]:
    """The shards of each split that has any, sorted."""
    if patterns:
        by_split = {split: _matching(folder, pattern) for split, pattern in patterns.items()}
        both = set.intersection(*map(set, by_split.values())) if len(by_split) > 1 else set()
        if both:
            raise InputError(f"{min(both)}: belongs to both splits; name different shards")
    else:
        by_split = _usually_named(folder)
    for tars in by_split.values():
        for tar in tars:
            if not PLAIN_NAME.fullmatch(tar.name):
                raise InputError(f"{tar}: use letters, digits, _, - and . in the names of shards")
    return {split: found for split, found in by_split.items() if found}


def _usually_named(folder: Path) -> dict[str, list[Path]]:
    by_split: dict[str, list[Path]] = {split: [] for split in USUAL_NAMES}
    for tar in sorted(folder.glob("*.tar")):
        splits = [split for split, names in USUAL_NAMES.items() if names.fullmatch(tar.name)]
        if not splits:
            raise InputError(
                f"{tar}: is neither train*.tar nor val*.tar", "rename it or move it away", "names"
            )
        by_split[splits[0]].append(tar)
    if not any(by_split.values()):
        compressed = sorted(path.name for path in folder.glob("*.tar.*"))
        more = f"; {compressed[0]} is compressed, decompress it first" if compressed else ""
        raise InputError(
            f"{folder}: has no train*.tar or val*.tar{more}",
            "" if more else "name the folder of the shards",
            "" if more else "shards",
        )
    return by_split


def _matching(folder: Path, pattern: str) -> list[Path]:
    """The shards that a glob or a range names."""
    if "/" in pattern or pattern in ("", ".", ".."):
        raise InputError(f"{pattern!r}: expected names of shards in {folder}, without a folder")
    match = RANGE.search(pattern)
    if not match:
        tars = sorted(path for path in folder.glob(pattern) if path.is_file())
        if not tars:
            raise InputError(f"{folder}: has no shards named {pattern}", "check the names", "names")
        return tars
    first, last = int(match[1]), int(match[2])
    if not first <= last < first + MOST_SHARDS:
        raise InputError(f"{pattern}: is no range of shards; write it as in train-{{00..63}}.tar")
    head, tail, width = pattern[: match.start()], pattern[match.end() :], len(match[1])
    tars = [folder / f"{head}{number:0{width}d}{tail}" for number in range(first, last + 1)]
    missing = [tar for tar in tars if not tar.is_file()]
    if missing:
        raise InputError(
            f"{missing[0]}: is missing, and {len(missing) - 1} more of the {len(tars)} shards of "
            f"{pattern}; download them"
        )
    return tars
