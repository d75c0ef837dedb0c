"""Groups the members of a tar shard into samples: an image and its class (WebDataset's keys)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

from vgg_deploy.data.directory import SUFFIXES
from vgg_deploy.data.tar_reader import Member, members
from vgg_deploy.errors import InputError

# WebDataset's: the key ends at the first dot of the last part
KEY = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)", re.DOTALL)
MOST_LABEL_BYTES = 200
MOST_LABEL_DIGITS = 9


class Sample(NamedTuple):
    """An image in a shard with its class."""

    name: str
    label: int | str  # number of the class, counted from 0, or its id
    begin: int  # offset in the shard, bytes
    size: int  # bytes
    crc32: int


@dataclass
class _Group:
    """The members of one key, as far as they were read."""

    key: str
    image: Member | None = None
    label: int | str | None = None

    def add(self, member: Member, kind: str, where: str) -> None:
        """Take the image and the class; ignore members of other kinds."""
        if kind == "cls":
            self.label = _label(member.start, member.size, where)
        elif f".{kind}" in SUFFIXES:
            if self.image is not None:
                raise InputError(f"{where}: a second image of the key {self.key}, expected one")
            self.image = member

    def sample(self, tar: str) -> Sample:
        """The whole sample."""
        if self.image is None:
            raise self._incomplete(tar, "image")
        if self.label is None:
            raise self._incomplete(tar, f"{self.key}.cls")
        image = self.image
        return Sample(image.name, self.label, image.begin, image.size, image.crc32)

    def _incomplete(self, tar: str, missing: str) -> InputError:
        return InputError(
            f"{tar}, {self.key}: has no {missing}, expected KEY.jpg and KEY.cls one after the other"
        )


def samples(file: BinaryIO, tar: str) -> Iterator[Sample]:
    """Yield the images of a shard.

    Members of one key follow each other: KEY.jpg (or another image), KEY.cls, and others, which are
    ignored like members without a key.

    Args:
        file: The tar, read forward from its start.
        tar: Its name, for messages.

    Yields:
        One sample per key.

    Raises:
        InputError: For a key without its image or class, with two images, or that occurs twice.
    """
    group: _Group | None = None
    seen: set[str] = set()
    for member in members(file, tar):
        match = KEY.fullmatch(member.name)
        if not match:
            continue
        key, kind = match[1], match[2].lower()
        where = f"{tar}, {member.name}"
        if group is None or key != group.key:
            if group is not None:
                yield group.sample(tar)
            if key in seen:
                raise InputError(f"{where}: the key {key} occurs twice; each key must occur once")
            seen.add(key)
            group = _Group(key)
        group.add(member, kind, where)
    if group is not None:
        yield group.sample(tar)


def _label(text: bytes, size: int, where: str) -> int | str:
    """A number, or the id of a class: one line of text."""
    digits = text.strip()
    if digits.isdigit() and len(digits) <= MOST_LABEL_DIGITS:
        return int(digits)
    try:
        id = digits.decode() if size <= MOST_LABEL_BYTES else ""
    except UnicodeDecodeError:
        id = ""
    if not id.isprintable() or not any(character.isalpha() for character in id):
        raise InputError(
            f"{where}: contains {text[:20]!r}, expected the number of a class, counted from 0, or "
            "its id"
        )
    return id
