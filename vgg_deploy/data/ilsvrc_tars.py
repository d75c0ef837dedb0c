"""Opens ILSVRC's tars as they are downloaded. Nothing is unpacked.

    ILSVRC2012_img_train.tar     a tar per class, n01440764.tar, of its images
    ILSVRC2012_img_val.tar       the images; their classes are in the devkit or in lists beside it

Each tar is read once from its start to its end. That finds every image, and a tar that is cut
short. After that an image is a range of bytes.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple, cast

import numpy as np

from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.directory import is_image, stray_error
from vgg_deploy.data.ilsvrc import find_labelling
from vgg_deploy.data.index_file import Names
from vgg_deploy.data.packed import Packed
from vgg_deploy.data.tar_reader import Member, members, nested_members
from vgg_deploy.errors import InputError
from vgg_deploy.progress import Bar, progress
from vgg_deploy.regular_files import open_regular, real_path

CLASS_TAR = re.compile(r"(n[0-9]{8})\.tar")


class _Image(NamedTuple):
    """An image in a tar; sorted as the files of a folder are."""

    name: str  # CLASS/NAME or NAME
    begin: int  # offset in the tar
    size: int
    crc32: int


def open_train_tar(path: Path, on_error: str = "stop") -> Dataset:
    """Open the training images of a tar of tars.

    Args:
        path: ILSVRC2012_img_train.tar.
        on_error: "stop" or "skip": whether a member that is not an image is an error or is listed
            in `skipped`.

    Returns:
        Images by class, then by name, as in class folders.

    Raises:
        InputError: For a file of another form, or one that is cut short.
    """

    def found(file: BinaryIO) -> Iterator[tuple[str, Member]]:
        for tar, member in nested_members(file, str(path)):
            match = CLASS_TAR.fullmatch(PurePosixPath(tar).name)
            if not match:
                raise InputError(f"{path}, {tar}: is not named by a class, such as n01440764.tar")
            yield f"{match[1]}/{PurePosixPath(member.name).name}", member

    images, strays = _images(path, found, on_error)
    classes = tuple(sorted({image.name.split("/")[0] for image in images}))
    ranks = {id: rank for rank, id in enumerate(classes)}
    labels = [ranks[image.name.split("/")[0]] for image in images]
    return _dataset(path, images, labels, classes, classes, strays)


def open_val_tar(path: Path, lists: Path | None = None, on_error: str = "stop") -> Dataset:
    """Open the validation images of a tar.

    Args:
        path: ILSVRC2012_img_val.tar.
        lists: Folder of the devkit's archive, or of a ground truth and a synset list; by default
            the folder of the tar.
        on_error: As in `open_train_tar`.

    Returns:
        Images by name, as in a flat folder.

    Raises:
        InputError: As `open_train_tar`; also for missing lists, or lists that do not fit.
    """

    def found(file: BinaryIO) -> Iterator[tuple[str, Member]]:
        for member in members(file, str(path)):
            yield PurePosixPath(member.name).name, member

    folder = lists or real_path(path).parent
    labelling = find_labelling(
        (folder, folder),
        f"{path}: the classes of its images are not known, there is",
        f"put ILSVRC2012_devkit_t12.tar.gz or both lists into {folder}",
    )
    images, strays = _images(path, found, on_error)
    listed, positions = labelling.of([image.name for image in images])
    classes = tuple(sorted(listed.ids))
    ranks = {id: rank for rank, id in enumerate(classes)}
    names = dict(zip(listed.ids, listed.names, strict=True))
    labels = [ranks[listed.ids[position]] for position in positions]
    return _dataset(path, images, labels, classes, tuple(names[id] for id in classes), strays)


def _images(
    path: Path,
    found: Callable[[BinaryIO], Iterator[tuple[str, Member]]],
    on_error: str,
) -> tuple[list[_Image], list[str]]:
    """Images of a tar sorted by name, and names of what is no image."""
    images: list[_Image] = []
    strays: list[str] = []
    try:
        with ExitStack() as opened:
            file = opened.enter_context(open_regular(path))
            size = os.fstat(file.fileno()).st_size
            bar = opened.enter_context(progress(f"reading {path.name}, GB", size / 1e9))
            for name, member in found(cast(BinaryIO, _Counting(file, bar))):
                if is_image(name):
                    images.append(_Image(name, member.begin, member.size, member.crc32))
                else:
                    strays.append(name)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); check the path and its permissions"
        ) from None
    if strays and on_error == "stop":
        raise stray_error(path, strays)
    if not images:
        raise InputError(f"{path}: contains no images; download it again")
    images.sort()
    for one, other in pairwise(images):
        if one.name == other.name:
            raise InputError(f"{path}: contains {one.name} twice; download it again")
    return images, strays


def _dataset(
    path: Path,
    images: list[_Image],
    labels: list[int],
    classes: tuple[str, ...],
    names: tuple[str, ...],
    strays: list[str],
) -> Dataset:
    """The data set of some ranges of bytes."""
    packed = Packed(
        (str(path),),
        np.zeros(len(images), np.int64),
        np.array([image.begin for image in images], np.int64),
        np.array([image.size for image in images], np.int64),
        np.array([image.crc32 for image in images], np.int64),
    )
    files = Names.of(image.name for image in images)
    of_files = np.array(labels, np.int64)
    return Dataset(path, files, of_files, classes, names, tuple(strays), packed)


class _Counting:
    """Advances a bar, in GB, as a file is read."""

    def __init__(self, file: BinaryIO, bar: Bar):
        self.file, self.bar = file, bar

    def read(self, size: int) -> bytes:
        data = self.file.read(size)
        self.bar.advance(len(data) / 1e9)
        return data
