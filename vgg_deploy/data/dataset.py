"""Reads the images of a data set, wherever they are stored, and identifies the set by checksums."""

import hashlib
import operator
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vgg_deploy.boxes.box_lists import BoxLists
from vgg_deploy.data.imagenet import Benchmark
from vgg_deploy.data.index_file import Names
from vgg_deploy.data.packed import Packed
from vgg_deploy.data.remote import Unreachable
from vgg_deploy.data.tar_reader import MOST_BYTES
from vgg_deploy.errors import InputError
from vgg_deploy.progress import progress
from vgg_deploy.regular_files import read_regular

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

DIGEST_BYTES = 32  # of SHA-256
UNREADABLE = b"unreadable"  # in place of the digest of an image that cannot be read


class Sample(NamedTuple):
    """One image of a data set.

    Attributes:
        image: (3, H, W) uint8 RGB, as it is stored.
        label: Index into the classes of the data set; None without labels.
    """

    image: "Tensor"
    label: int | None


class DataContent(NamedTuple):
    """What reading every image of a data set shows.

    Attributes:
        sha256: Of the images' bytes in their order, hex.
        sizes: (images, 2) int64, height and width in pixels by the header; zeros where a file shows
            none.
        digests: (images, 32) uint8, SHA-256 of each image's bytes; zeros where it is unreadable.
    """

    sha256: str
    sizes: np.ndarray
    digests: np.ndarray


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images with or without labels. None of them is decoded yet.

    Attributes:
        root: Folder, or URL of shards.
        files: Names relative to root, with "/"; by class, then by name. Those of shards are
            SHARD/NAME, in the order of the shards.
        labels: (files,) int64, index into classes. Empty without labels.
        classes: Folder names or wnids, sorted. Empty without labels.
        names: What people call the classes; the ids where no list names them.
        skipped: Files that are not images by their names and were left out; relative to root.
        packed: Where the images lie in tar shards; None if each is a file.
        upright: Whether the EXIF rotation is applied when an image is decoded.
        right: (files, most) int64, all right classes of every image, -1 behind the last; None if
            only `labels` are right.
        benchmark: How the data set defines its errors; None for a plain top-1 and top-5 error.
        boxes: Of the objects of every image's own class; None where they are not known.
    """

    root: Path | str
    files: Sequence[str]
    labels: np.ndarray
    classes: tuple[str, ...]
    names: tuple[str, ...]
    skipped: tuple[str, ...] = ()
    packed: Packed | None = None
    upright: bool = False
    right: np.ndarray | None = None
    benchmark: Benchmark | None = None
    boxes: BoxLists | None = None

    def path(self, index: int) -> Path:
        """Path of an image that is a file."""
        return Path(self.root) / self.files[index]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> "Sample":
        """Decode an image; an iteration goes through all of them.

        Args:
            index: Of the image; negative from the end.

        Raises:
            IndexError: If there is no such image.
            InputError: If it cannot be read; names the image.
        """
        at = range(len(self))[operator.index(index)]
        return Sample(self.decode(at), int(self.labels[at]) if self.labelled else None)

    @property
    def labelled(self) -> bool:
        """Whether the true class of every image is known."""
        return bool(self.classes)

    def decode(self, index: int) -> "Tensor":
        """Decode an image, see `vgg_deploy.images.decode.decode`.

        Args:
            index: Of the image.

        Returns:
            (3, H, W) uint8 RGB.

        Raises:
            InputError: If it cannot be read; names the image.
        """
        from vgg_deploy.images.decode import decode  # here, so that listing needs no PyTorch

        return decode(*self._source(index), self.upright)

    def image(self, index: int) -> "Image":
        """Decode an image to Pillow's RGB, see `vgg_deploy.images.decode.read_image`.

        Args:
            index: Of the image.

        Raises:
            InputError: As `decode`.
        """
        from vgg_deploy.images.decode import read_image

        return read_image(*self._source(index), self.upright)

    def size(self, index: int) -> tuple[int, int]:
        """Read the size of an image from its header.

        Args:
            index: Of the image.

        Returns:
            (height, width) in pixels.

        Raises:
            InputError: As `decode`.
        """
        from vgg_deploy.images.decode import image_size

        return image_size(*self._source(index), self.upright)

    def orientation(self, index: int) -> int:
        """Read the EXIF orientation of an image, 1 to 8; 1 is upright.

        Args:
            index: Of the image.

        Raises:
            InputError: As `decode`.
        """
        from vgg_deploy.images.decode import image_orientation

        return image_orientation(*self._source(index))

    def read(self, index: int) -> bytes:
        """Read an image as it is stored.

        Args:
            index: Of the image.

        Raises:
            InputError: If it cannot be read; names the image.
        """
        if self.packed:
            return self.packed.read(index, self.where(index))
        try:
            return read_regular(self.path(index), MOST_BYTES)
        except OSError as error:
            raise InputError(
                f"{self.path(index)}: cannot be read ({error.strerror}); "
                "check the path and its permissions"
            ) from None

    def where(self, index: int) -> str:
        """An image's name for messages."""
        return f"{self.root}/{self.files[index]}"

    def fingerprint(self) -> str:
        """Hash names, labels, and what shows that an image has changed, as a key for caches.

        For a file that is its size and time of change, as the disk reports them; in shards it is
        the checksum in the index.

        Returns:
            Hex sha256.
        """
        digest = hashlib.sha256(repr(self.classes).encode() + self._turning)
        digest.update(self.labels.tobytes())
        if self.right is not None:
            digest.update(self.right.tobytes())
        for index, file in enumerate(self.files):
            mark = self.packed.mark(index) if self.packed else _size_and_time(f"{self.root}/{file}")
            digest.update(f"{file}\0{mark}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def content(self, threads: int) -> DataContent:
        """Hash the images' bytes in their order, and note their sizes; reads every image once.

        Names and labels do not count in the hash, nor does it matter how the images are stored.
        Images that are turned upright are others.

        Args:
            threads: That read at the same time.

        Raises:
            Unreachable: If a shard cannot be read.
        """
        label = f"sha256 of {len(self)} images"
        digest = hashlib.sha256(self._turning)
        sizes = np.zeros((len(self), 2), np.int64)
        digests = np.zeros((len(self), DIGEST_BYTES), np.uint8)
        with ThreadPoolExecutor(threads) as pool, progress(label, len(self)) as bar:
            found = pool.map(self._digest_and_size, range(len(self)))
            for index, (content, size) in enumerate(found):
                digest.update(content)
                sizes[index] = size
                if content != UNREADABLE:
                    digests[index] = np.frombuffer(content, np.uint8)
                bar.advance()
        return DataContent(digest.hexdigest(), sizes, digests)

    def content_sha256(self, threads: int) -> str:
        """Hash the images' bytes in their order, see `content`.

        Args:
            threads: That read at the same time.

        Returns:
            Hex sha256.

        Raises:
            Unreachable: If a shard cannot be read.
        """
        return self.content(threads).sha256

    def subset(self, count: int) -> "Dataset":
        """Select images spread evenly over the files, always the same ones.

        Args:
            count: How many; all of them if there are fewer.

        Raises:
            InputError: For a count below 1.
        """
        if count < 1:
            raise InputError(f"{count} images were asked for; ask for at least one")
        count = min(count, len(self))
        return self.take(np.arange(count) * len(self) // count)

    def take(self, kept: np.ndarray) -> "Dataset":
        """Select images.

        Args:
            kept: (images,) int64, their indices, in the order of the result; ascending for shards.
        """
        files: Sequence[str]
        if isinstance(self.files, Names):
            files = self.files.take(kept)
        else:
            files = tuple(self.files[i] for i in kept)
        return replace(
            self,
            files=files,
            labels=self.labels[kept] if self.labelled else self.labels,
            packed=self.packed.take(kept) if self.packed else None,
            right=self.right[kept] if self.right is not None else None,
            boxes=self.boxes.take(kept) if self.boxes is not None else None,
        )

    @property
    def _turning(self) -> bytes:
        """Part of the hashes: what is done with the EXIF rotation."""
        return b"upright" if self.upright else b""

    def _source(self, index: int) -> tuple[Path | BytesIO, str | None]:
        """What an image is decoded from, and its name if that is not the path."""
        if self.packed is None:
            return self.path(index), None
        return BytesIO(self.read(index)), self.where(index)

    def _digest_and_size(self, index: int) -> tuple[bytes, tuple[int, int]]:
        """Hash an image's bytes; the decoder reports one that cannot be read."""
        from vgg_deploy.images.decode import image_size

        try:
            data = self.read(index)
        except Unreachable:
            raise
        except InputError:
            return UNREADABLE, (0, 0)
        digest = hashlib.sha256(data).digest()
        try:
            return digest, image_size(BytesIO(data), self.where(index), self.upright)
        except InputError:
            return digest, (0, 0)


def _size_and_time(path: str) -> tuple[int, int]:
    """Bytes and nanoseconds; the decoder reports a file that does not exist."""
    try:
        status = os.stat(path)
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns
