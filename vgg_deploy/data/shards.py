"""Opens data sets in tar shards (WebDataset's convention), in a folder or behind any fsspec URL.

    shards.json       classes; of each split its shards, and the checksum of its index
    train.index       of every image: name, label, shard, offset, size, CRC-32 (see `index_file`)
    train-000000.tar  KEY.jpg and KEY.cls, the class as a number; uncompressed
    val.index, val-000000.tar, ...

Packing makes the index once (python -m train.pack). So nothing is listed and no tar is parsed at a
start: any image is one range of bytes, and a stream reads forward from one image to the next.
"""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vgg_deploy.cache import cache_folder, writable_folder
from vgg_deploy.data.index_file import DamagedIndex, Index, Names, read_index
from vgg_deploy.data.packed import CHUNK, Packed
from vgg_deploy.data.remote import is_url, reached
from vgg_deploy.data.tar_reader import MOST_BYTES
from vgg_deploy.errors import InputError
from vgg_deploy.files import whole_file
from vgg_deploy.json_files import parse_json

SHARDS = "shards.json"
FORMAT = 1
COLUMNS = ("labels", "shard", "begin", "size", "crc32")
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")  # of a file beside shards.json
PACK_AGAIN = "make it again with python -m train.pack"


class Opened(NamedTuple):
    """One split of a data set in shards."""

    files: Names  # SHARD/NAME
    labels: np.ndarray  # (files,) int64
    classes: tuple[str, ...]
    names: tuple[str, ...]
    packed: Packed


class _Shard(NamedTuple):
    """A tar as shards.json describes it."""

    file: str
    images: int
    bytes: int


class _Split(NamedTuple):
    """A split as shards.json describes it."""

    index_file: str
    sha256: str  # of the index file
    shards: list[_Shard]


class _Description(NamedTuple):
    """The content of shards.json; all splits by name, only the opened one in detail."""

    classes: tuple[str, ...]
    names: tuple[str, ...]
    splits: list[str]
    split: _Split | None


def are_shards(root: Path | str) -> bool:
    """Whether a data set is a URL, or a folder with a shards.json."""
    return is_url(root) or (Path(root) / SHARDS).is_file()


def open_shards(root: Path | str, split: str) -> Opened:
    """Open one split.

    Args:
        root: Folder or URL with a shards.json.
        split: "train" or "val".

    Raises:
        InputError: If the split does not exist, or shards.json and the index contradict each other.
        Unreachable: If the store does not answer.
    """
    base = str(root).removesuffix("/") + "/"
    description = _read_description(base + SHARDS, split)
    if description.split is None or not description.split.shards:
        raise InputError(
            f"{root}: has no shards for {split!r}, only for "
            f"{', '.join(description.splits) or 'nothing'}; check the path"
        )
    file, sha256, shards = description.split
    for name in (file, *(shard.file for shard in shards)):
        if not PLAIN_NAME.fullmatch(name):
            raise InputError(f"{base}{SHARDS}: names {name!r}, expected files beside it")
    where = base + file
    index = _fetch_index(where, sha256) if is_url(root) else _read_index(Path(where), where)
    _check(index, shards, len(description.classes), where)
    columns = index.columns
    packed = Packed(
        tuple(base + shard.file for shard in shards), *(columns[name] for name in COLUMNS[1:])
    )
    return Opened(index.names, columns["labels"], description.classes, description.names, packed)


def _read_description(where: str, split: str) -> _Description:
    """Read shards.json."""
    with reached(where) as (files, path):
        content: bytes = files.cat_file(path)
    try:
        return _described(parse_json(content.decode("utf-8-sig"), where, PACK_AGAIN), split)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{where}: damaged, or not made by this program ({error!r}); {PACK_AGAIN}"
        ) from None


def _described(document: Any, split: str) -> _Description:
    """Interpret the content of shards.json; ValueError, KeyError or TypeError if it is damaged."""
    if document["format"] != FORMAT:
        raise ValueError(f"format {document['format']}, expected {FORMAT}")
    classes = tuple(str(item) for item in document["classes"])
    names = tuple(str(item) for item in document["names"])
    if not classes or len(set(classes)) != len(classes) or len(names) != len(classes):
        raise ValueError("classes")
    splits = dict(document["splits"])
    found = splits.get(split)
    if not found:
        return _Description(classes, names, list(splits), None)
    shards = [
        _Shard(str(shard["file"]), int(shard["images"]), int(shard["bytes"]))
        for shard in found["shards"]
    ]
    described = _Split(str(found["index"]), str(found["sha256"]), shards)
    return _Description(classes, names, list(splits), described)


def _fetch_index(url: str, sha256: str) -> Index:
    """Read the index behind a URL, from a copy in the cache folder."""
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise InputError(f"{url}: shards.json has no sha256 of it; {PACK_AGAIN}")
    copy = cache_folder() / "shards" / f"{sha256}.index"
    if not copy.is_file():
        copy = writable_folder(copy.parent) / copy.name
        with whole_file(copy) as partial:
            if _download(url, partial) != sha256:
                raise InputError(
                    f"{url}: not the index that shards.json describes; copy both again"
                )
    return _read_index(copy, url)


def _download(url: str, target: Path) -> str:
    """Copy a file from a URL; return the hex sha256 of its bytes."""
    digest = hashlib.sha256()
    with (
        reached(url) as (files, path),
        files.open(path, "rb") as source,
        open(target, "wb") as file,
    ):
        while data := source.read(CHUNK):
            digest.update(data)
            file.write(data)
    return digest.hexdigest()


def _read_index(path: Path, where: str) -> Index:
    try:
        return read_index(path)
    except (OSError, DamagedIndex) as error:
        raise InputError(f"{where}: no whole index ({error}); {PACK_AGAIN}") from None


def _check(index: Index, shards: list[_Shard], classes: int, where: str) -> None:
    """Refuse an index that leads out of its shards, or does not fit shards.json."""
    if set(index.columns) != set(COLUMNS) or not len(index.names):
        raise InputError(f"{where}: not the index of shards; {PACK_AGAIN}")
    for fault, is_sound in _conditions(index, shards, classes):
        if not is_sound:
            raise InputError(
                f"{where}: does not fit shards.json: {fault}; "
                "make both again with python -m train.pack"
            )


def _conditions(index: Index, shards: list[_Shard], classes: int) -> Iterator[tuple[str, bool]]:
    """Faults that an index may have, each with whether it is free of it.

    Later conditions rely on earlier ones.
    """
    labels, shard, begin, size, _ = (index.columns[name] for name in COLUMNS)
    counts = np.array([shard.images for shard in shards])
    lengths = np.array([shard.bytes for shard in shards])
    yield "a label is below 0", labels.min() >= 0
    yield f"a label is above {classes - 1}", labels.max() < classes
    yield "a shard is below 0", shard.min() >= 0
    yield f"a shard is above {len(shards) - 1}", shard.max() < len(shards)
    yield "its shards are not in order", bool((shard[1:] >= shard[:-1]).all())
    found = np.bincount(shard, minlength=len(shards))
    yield "a shard has another number of images", np.array_equal(found, counts)
    yield "an image starts before its shard", begin.min() >= 0
    yield "an image has a negative size", size.min() >= 0
    yield f"an image has more than {MOST_BYTES} bytes", size.max() <= MOST_BYTES
    yield "an image ends after its shard", (begin <= lengths[shard] - size).all()
    follows = begin[1:] >= (begin + size)[:-1]
    yield "its images overlap", bool((follows | (shard[1:] > shard[:-1])).all())
