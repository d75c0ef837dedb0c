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
from typing import NamedTuple

import numpy as np

from vgg_deploy.cache import cache_folder, writable_folder
from vgg_deploy.data.index_file import DamagedIndex, Index, Names, read_index
from vgg_deploy.data.packed import CHUNK, Packed
from vgg_deploy.data.remote import is_url, open_stored, reached, read_range
from vgg_deploy.data.tar_reader import MOST_BYTES
from vgg_deploy.errors import InputError
from vgg_deploy.files import sha256 as file_sha256
from vgg_deploy.files import whole_file
from vgg_deploy.json_files import LARGEST, JsonObject, as_object, entry, is_text, parse_json
from vgg_deploy.regular_files import is_regular
from vgg_deploy.sealed_json import check_seal

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
    return is_url(root) or is_regular(Path(root) / SHARDS)


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
        content = read_range(files, path, 0, LARGEST + 1)
    if len(content) > LARGEST:
        raise InputError(f"{where}: has more than {LARGEST // 2**20} MiB; {PACK_AGAIN}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: is not UTF-8 ({error}); {PACK_AGAIN}") from None
    content_of_file = parse_json(text, where, PACK_AGAIN)
    try:
        return _described(content_of_file, split, where)
    except InputError as error:
        raise InputError(
            f"{where}: damaged, or not made by this program ({error.what}); {PACK_AGAIN}"
        ) from None


def _described(content: object, split: str, where: str) -> _Description:
    """Interpret the content of shards.json; InputError if it is damaged."""
    document = as_object(content, where, PACK_AGAIN)
    if document.get("format") != FORMAT:
        raise InputError(f"{where}: format {document.get('format')!r:.60}, expected {FORMAT}")
    check_seal(document, where, PACK_AGAIN)
    classes, names = (_texts(document, key, where) for key in ("classes", "names"))
    if not classes or len(set(classes)) != len(classes) or len(names) != len(classes):
        raise InputError(f"{where}: its classes repeat or have not one name each; {PACK_AGAIN}")
    if document.get("splits") == []:  # as empty as {}
        return _Description(classes, names, [], None)
    splits: JsonObject = entry(document, "splits", dict, where, PACK_AGAIN)
    if not splits.get(split):
        return _Description(classes, names, list(splits), None)
    found: JsonObject = entry(splits, split, dict, where, PACK_AGAIN)
    shards = [_shard(one, where) for one in entry(found, "shards", list, where, PACK_AGAIN)]
    file, sha256 = (entry(found, key, str, where, PACK_AGAIN) for key in ("index", "sha256"))
    return _Description(classes, names, list(splits), _Split(file, sha256, shards))


def _texts(document: JsonObject, key: str, where: str) -> tuple[str, ...]:
    listed = entry(document, key, list, where, PACK_AGAIN)
    for text in listed:
        if not isinstance(text, str) or not is_text(text):
            raise InputError(f"{where}: {key} has {text!a:.60}, not a text; {PACK_AGAIN}")
    return tuple(listed)


def _shard(content: object, where: str) -> _Shard:
    fields = as_object(content, f"{where}: a shard", PACK_AGAIN)
    file = entry(fields, "file", str, where, PACK_AGAIN)
    images, size = (entry(fields, key, int, where, PACK_AGAIN) for key in ("images", "bytes"))
    if not (0 <= images < 2**63 and 0 <= size < 2**63):
        raise InputError(f"{where}: {file!a:.60} has {images} images in {size} bytes; {PACK_AGAIN}")
    return _Shard(file, images, size)


def _fetch_index(url: str, sha256: str) -> Index:
    """Read the index behind a URL, from a copy in the cache folder."""
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise InputError(f"{url}: shards.json has no sha256 of it; {PACK_AGAIN}")
    copy = cache_folder() / "shards" / f"{sha256}.index"
    if not is_regular(copy) or file_sha256(copy) != sha256:  # the copy may have been damaged
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
        open_stored(files, path) as source,
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
