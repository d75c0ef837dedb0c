"""Data sets in tar shards (WebDataset's convention), in a folder or behind any URL that fsspec opens.

    shards.json       classes, and of each split its shards and the checksum of its index
    train.index       of every image: name, label, shard, place, size, CRC-32 (see `index`)
    train-000000.tar  KEY.jpg and KEY.cls, the class as a number; uncompressed
    val.index, val-000000.tar, ...

The index is made once, by whoever packs (python -m train.pack), so nothing is listed and no tar is parsed at a start: an
image anywhere is one range of bytes, and a stream reads forward from one to the next.
"""

import hashlib
import json
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from vgg_deploy.cache import cache_folder
from vgg_deploy.data.index_file import DamagedIndex, Index, Names, read_index
from vgg_deploy.data.tar_reader import MOST_BYTES
from vgg_deploy.errors import InputError
from vgg_deploy.files import whole_file

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

SHARDS = "shards.json"
FORMAT = 1
COLUMNS = ("labels", "shard", "begin", "size", "crc32")
PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")  # of a file beside shards.json


class Unreachable(InputError):
    """A store that does not answer; unlike a damaged image it is nothing to be passed over."""


@dataclass(frozen=True, eq=False)
class Packed:
    """Where images lie in shards; ascending by shard, then by place."""

    shards: tuple[str, ...]  # paths or URLs
    shard: np.ndarray  # (images,) int64, index into shards
    begin: np.ndarray  # (images,) int64, first byte in the shard
    size: np.ndarray  # (images,) int64, bytes
    crc32: np.ndarray  # (images,) int64

    def take(self, kept: np.ndarray) -> "Packed":
        """Some of them. Args: kept, ascending."""
        return Packed(
            self.shards, self.shard[kept], self.begin[kept], self.size[kept], self.crc32[kept]
        )

    def mark(self, index: int) -> tuple[int, int]:
        """What another image in the same place would change."""
        return int(self.size[index]), int(self.crc32[index])

    def read(self, index: int, name: str) -> bytes:
        """One image as it is stored. Args: name, for messages. Raises: InputError, naming it; Unreachable, naming its shard."""
        begin = int(self.begin[index])
        with reached(self.shards[self.shard[index]]) as (files, path):
            data = files.cat_file(path, start=begin, end=begin + int(self.size[index]))
        return self._checked(index, data, name)

    def stream(
        self, indices: np.ndarray, where: Callable[[int], str]
    ) -> Iterator[tuple[int, bytes | InputError]]:
        """(index, what is stored) of images in this order, each shard opened once and read forward only.

        Args: indices, ascending within a shard, one shard after another; where, an image's name for messages.
        Yields: an InputError in place of an image that is damaged.
        Raises: Unreachable for a shard that cannot be opened or stops giving bytes.
        """
        file, opened, place = None, -1, 0
        try:
            for index in map(int, indices):
                if opened != self.shard[index]:
                    if file:
                        file.close()
                    opened, place = int(self.shard[index]), 0
                    with reached(self.shards[opened]) as (files, path):
                        file = files.open(path, "rb")
                begin, size = int(self.begin[index]), int(self.size[index])
                with reached(self.shards[opened]):
                    _forward(file, begin - place, begin)
                    data = _up_to(file, size)
                place = begin + size
                try:
                    yield index, self._checked(index, data, where(index))
                except InputError as error:
                    yield index, error
        finally:
            if file:
                file.close()

    def _checked(self, index: int, data: bytes, name: str) -> bytes:
        if len(data) != self.size[index]:
            raise InputError(
                f"{name}: its shard is cut short, {len(data)} of {self.size[index]} bytes are left; copy the shard again"
            )
        if zlib.crc32(data) != self.crc32[index]:
            raise InputError(
                f"{name}: other bytes than when the shard was indexed; copy the shard again, or make the index again with python -m train.pack"
            )
        return data


class Opened(NamedTuple):
    """One split."""

    files: Names  # SHARD/NAME
    labels: np.ndarray  # (files,) int64
    classes: tuple[str, ...]
    names: tuple[str, ...]
    packed: Packed


def are_shards(root: Path | str) -> bool:
    """Whether a place is a URL or a folder with a shards.json."""
    return is_url(root) or (Path(root) / SHARDS).is_file()


def is_url(root: Path | str) -> bool:
    return "://" in str(root)


def open_shards(root: Path | str, split: str) -> Opened:
    """One split, "train" or "val".

    Raises: InputError if it is not there, or if shards.json and the index do not fit each other.
    """
    where = f"{root}/{SHARDS}".replace(f"//{SHARDS}", f"/{SHARDS}")
    base = where.removesuffix(SHARDS)
    with reached(where) as (files, path):
        text = files.cat_file(path)
    try:
        held = json.loads(text)
        if held["format"] != FORMAT:
            raise ValueError(f"format {held['format']}, expected {FORMAT}")
        classes, names = (tuple(str(item) for item in held[key]) for key in ("classes", "names"))
        if not classes or len(set(classes)) != len(classes) or len(names) != len(classes):
            raise ValueError("classes")
        splits = dict(held["splits"])
        described = splits.get(split)
        shards = (
            [
                (str(shard["file"]), int(shard["images"]), int(shard["bytes"]))
                for shard in described["shards"]
            ]
            if described
            else []
        )
        file, sha256 = (
            (str(described["index"]), str(described["sha256"])) if described else ("", "")
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{where}: damaged, or not made by this program ({error!r}); make it again with python -m train.pack"
        ) from None
    if not shards:
        raise InputError(
            f"{root}: has no shards for {split!r}, only for {', '.join(splits) or 'nothing'}; check the path"
        )
    for name in (file, *(shard for shard, *_ in shards)):
        if not PLAIN_NAME.fullmatch(name):
            raise InputError(f"{where}: names {name!r}, expected files beside it")
    index = _index(base + file, sha256) if is_url(root) else _read(Path(base + file), base + file)
    _check(index, shards, len(classes), f"{base}{file}")
    columns = index.columns
    packed = Packed(
        tuple(base + name for name, *_ in shards), *(columns[name] for name in COLUMNS[1:])
    )
    return Opened(index.names, columns["labels"], classes, names, packed)


@contextmanager
def reached(url: str) -> Iterator[tuple["AbstractFileSystem", str]]:
    """The file system and the path that a URL means there; what goes wrong with it in the block becomes Unreachable.

    Asked for anew each time: fsspec keeps connections, and makes others in a forked process.
    """
    import fsspec  # here: folders do without

    try:
        yield fsspec.url_to_fs(url)
    except InputError:
        raise
    except Exception as error:  # every kind of store has errors of its own
        raise Unreachable(
            f"{url}: cannot be read ({type(error).__name__}: {error}); check the address and the connection"
        ) from error


def _index(url: str, sha256: str) -> Index:
    """The index behind a URL, from a copy in the cache folder."""
    if not re.fullmatch("[0-9a-f]{64}", sha256):
        raise InputError(
            f"{url}: shards.json has no sha256 of it; make it again with python -m train.pack"
        )
    copy = cache_folder() / "shards" / f"{sha256}.index"
    if not copy.is_file():
        with whole_file(copy) as partial:
            digest = hashlib.sha256()
            with (
                reached(url) as (files, path),
                files.open(path, "rb") as source,
                open(partial, "wb") as file,
            ):
                while data := source.read(2**20):
                    digest.update(data)
                    file.write(data)
            if digest.hexdigest() != sha256:
                raise InputError(
                    f"{url}: not the index that shards.json describes; copy both again"
                )
    return _read(copy, url)


def _read(path: Path, where: str) -> Index:
    try:
        return read_index(path)
    except (OSError, DamagedIndex) as error:
        raise InputError(
            f"{where}: no whole index ({error}); make it again with python -m train.pack"
        ) from None


def _check(index: Index, shards: list[tuple[str, int, int]], classes: int, where: str) -> None:
    """Nothing in an index may lead out of its shards."""
    if set(index.columns) != set(COLUMNS) or not len(index.names):
        raise InputError(
            f"{where}: not the index of shards; make it again with python -m train.pack"
        )
    labels, shard, begin, size, _ = (index.columns[name] for name in COLUMNS)
    counts, most = (np.array([entry[i] for entry in shards]) for i in (1, 2))
    sound = (
        labels.min() >= 0
        and labels.max() < classes
        and shard.min() >= 0
        and shard.max() < len(shards)
        and (shard[1:] >= shard[:-1]).all()
    )
    if sound:
        sound = (
            (np.bincount(shard, minlength=len(shards)) == counts).all()
            and begin.min() >= 0
            and size.min() >= 0
            and size.max() <= MOST_BYTES
        )
        sound = (
            sound
            and (begin <= most[shard] - size).all()
            and ((begin[1:] >= (begin + size)[:-1]) | (shard[1:] > shard[:-1])).all()
        )
    if not sound:
        raise InputError(
            f"{where}: does not fit shards.json; make both again with python -m train.pack"
        )


def _forward(file: BinaryIO, gap: int, to: int) -> None:
    """Go on to a later place; by reading where the store has no places. Stores read ahead, so a short way is no new request."""
    try:
        file.seek(to)
        return
    except (OSError, ValueError, NotImplementedError):
        pass
    while gap and (data := file.read(min(gap, 2**20))):
        gap -= len(data)


def _up_to(file: BinaryIO, size: int) -> bytes:
    """So many bytes, fewer only at the file's end."""
    data = file.read(size)
    while len(data) < size and (more := file.read(size - len(data))):
        data += more
    return data
