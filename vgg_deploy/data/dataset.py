"""Images and what their classes are: one folder a class, ILSVRC's flat validation set with its lists, or tar shards."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vgg_deploy.data.class_folders import list_classes
from vgg_deploy.data.directory import SUFFIXES, entries, is_image
from vgg_deploy.data.ilsvrc import flat_images
from vgg_deploy.data.index_file import Names
from vgg_deploy.data.shards import Packed, Unreachable, are_shards, open_shards
from vgg_deploy.errors import InputError, UnreadableImage
from vgg_deploy.net.class_lists import CLASS_INDEX, read_class_list, some
from vgg_deploy.net.class_matching import Matching, match_classes
from vgg_deploy.net.spec import NetSpec
from vgg_deploy.progress import progress

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images, labelled or not. Nothing is decoded yet.

    Without labels `labels` and `classes` are empty: see `unlabelled`.
    """

    root: Path | str  # folder, or URL of shards
    files: Sequence[
        str
    ]  # relative to root, with "/"; by class, then by name; of shards SHARD/NAME in the shards' order
    labels: np.ndarray  # (files,) int64, index into classes
    classes: tuple[str, ...]  # folder names or wnids, sorted
    names: tuple[str, ...]  # what people call them; the ids where nothing says better
    skipped: tuple[
        str, ...
    ] = ()  # relative to root: files left out because they are no images by their names
    packed: Packed | None = None  # where the images lie in tar shards; without it each is a file

    def path(self, index: int) -> Path:
        """Of an image that is a file."""
        return self.root / self.files[index]

    def __len__(self) -> int:
        return len(self.files)

    @property
    def labelled(self) -> bool:
        """Whether the true class of every image is known."""
        return bool(self.classes)

    def decode(self, index: int) -> "Tensor":
        """(3, H, W) uint8 RGB, see `preprocess.decode`. Raises: InputError, naming the image, if it cannot be read."""
        from vgg_deploy.images.decode import decode  # here, so that listing needs no PyTorch

        return decode(*self._source(index))

    def image(self, index: int) -> "Image":
        """RGB, see `preprocess.read_image`. Raises: as `decode`."""
        from vgg_deploy.images.decode import read_image

        return read_image(*self._source(index))

    def size(self, index: int) -> tuple[int, int]:
        """(height, width) in pixels, from the image's header. Raises: as `decode`."""
        from vgg_deploy.images.decode import image_size

        return image_size(*self._source(index))

    def read(self, index: int) -> bytes:
        """An image as it is stored. Raises: InputError, naming it, if it cannot be read."""
        if self.packed:
            return self.packed.read(index, self.where(index))
        try:
            return self.path(index).read_bytes()
        except OSError as error:
            raise InputError(
                f"{self.path(index)}: cannot be read ({error.strerror}); check the path and its permissions"
            ) from None

    def where(self, index: int) -> str:
        """An image's name for messages."""
        return f"{self.root}/{self.files[index]}"

    def fingerprint(self) -> str:
        """Hex sha256 of names, labels and what tells that an image has changed, as a key for caches.

        That is size and time of change of a file, for which the disk is asked, and the checksum in the index of shards.
        """
        digest = hashlib.sha256(repr(self.classes).encode())
        digest.update(self.labels.tobytes())
        for index, file in enumerate(self.files):
            mark = self.packed.mark(index) if self.packed else _size_and_time(f"{self.root}/{file}")
            digest.update(f"{file}\0{mark}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def content_sha256(self, threads: int) -> str:
        """Hex sha256 of the images' bytes in their order; names and labels do not count, nor how they are stored. Reads every image."""
        with (
            ThreadPoolExecutor(threads) as pool,
            progress(f"sha256 of {len(self)} images", len(self)) as bar,
        ):
            digest = hashlib.sha256()
            for one in pool.map(self._content, range(len(self))):
                digest.update(one)
                bar.advance()
        return digest.hexdigest()

    def subset(self, count: int) -> "Dataset":
        """`count` images spread evenly over the files, always the same ones; all of them if there are fewer."""
        if count < 1:
            raise InputError(f"{count} images were asked for; ask for at least one")
        count = min(count, len(self))
        return self.take(np.arange(count) * len(self) // count)

    def take(self, kept: np.ndarray) -> "Dataset":
        """The images at these positions, in this order. Args: kept, (images,) int64."""
        files = (
            self.files.take(kept)
            if isinstance(self.files, Names)
            else tuple(self.files[i] for i in kept)
        )
        labels = self.labels[kept] if self.labelled else self.labels
        return replace(
            self, files=files, labels=labels, packed=self.packed.take(kept) if self.packed else None
        )

    def _source(self, index: int) -> tuple[Path | BytesIO, str | None]:
        """What an image is decoded from, and its name where that is not the path."""
        if self.packed is None:
            return self.path(index), None
        return BytesIO(self.read(index)), self.where(index)

    def _content(self, index: int) -> bytes:
        """sha256 of an image's bytes; one that cannot be read is left to the decoder to report."""
        try:
            return hashlib.sha256(self.read(index)).digest()
        except Unreachable:
            raise
        except InputError:
            return b"unreadable"


def open_dataset(root: Path | str, split: str, on_error: str = "stop") -> Dataset:
    """The images of one split, "train" or "val".

    Layouts: ROOT/SPLIT/CLASS/*.JPEG, where a class's index is the rank of its folder name; or, for val, ROOT/val/*.JPEG
    with a ground truth (*ground_truth*.txt or val.txt) and a synset list (synsets.txt or synset_words.txt) in ROOT, see
    `ilsvrc`. The index is the rank of the wnid whatever the lists' order, as in torchvision and Keras. Where ROOT
    has neither train nor val, ROOT itself is taken for val; its lists may then lie in the folder above it.
    class_index.json (Keras' form) or synset_words.txt in the same places tells the names. Or tar shards beside a
    shards.json, see `shards`; ROOT may then be any URL that fsspec opens.

    Args: on_error, "stop" or "skip": whether a file without an image's suffix is an error or is listed in `skipped`.
        Hidden files are passed over in any case.
    Raises: InputError for anything missing, empty, left over or contradictory, naming the file.
    """
    if are_shards(root):
        return _of_shards(root, split)
    root = Path(root)
    folder = _split_folder(root, split)
    lists = (folder, root if folder != root else root.resolve().parent)
    folders = [entry.name for entry in entries(folder) if entry.is_dir()]
    if folders:
        classes, files, labels, strays = list_classes(folder, folders)
    elif split == "val":
        classes, flat, places, strays = flat_images(folder, lists)
        files, labels = Names.of(flat), np.array(places, np.int64)
    else:
        raise InputError(f"{folder}: has no class folders, expected {folder}/CLASS/image files")
    if split == "val" and folder != root:
        _compare_with_train(root, folder, classes)
    if strays and on_error == "stop":
        raise _stray_error(folder, strays)
    prefix = "" if folder == root else f"{split}/"
    return Dataset(
        root,
        files.prefixed(prefix),
        labels,
        classes,
        _names(lists, classes),
        tuple(prefix + file for file in strays),
    )


def _of_shards(root: Path | str, split: str) -> Dataset:
    opened = open_shards(root, split)
    return Dataset(
        root, opened.files, opened.labels, opened.classes, opened.names, packed=opened.packed
    )


def matching(dataset: Dataset, spec: NetSpec, where: str, stated: bool = False) -> Matching:
    """How a net's classes meet those of a data set.

    Args:
        where: The net's file, for errors.
        stated: Whether the user gave `spec.classes`, so that they are ids even if they are numbers.

    Raises:
        InputError, Unstated: As `match_classes`.
    """
    return match_classes(dataset.classes, spec, stated, str(dataset.root), where)


def matched_classes(
    dataset: Dataset, spec: NetSpec, where: str, stated: bool = False
) -> tuple[str, ...]:
    """A net's classes, in the order of its scores, by the ids that the data set uses. As `matching`."""
    return matching(dataset, spec, where, stated).classes


def labels_for(dataset: Dataset, classes: tuple[str, ...]) -> np.ndarray:
    """Labels of a data set as positions among `matched_classes`: (images,) int64."""
    place = {id: i for i, id in enumerate(classes)}
    return np.array([place[id] for id in dataset.classes], np.int64)[dataset.labels]


def _split_folder(root: Path, split: str) -> Path:
    """ROOT/SPLIT; for val ROOT itself when it is not divided."""
    here = {entry.name for entry in entries(root)}
    if split in here:
        return root / split
    if split == "val" and "train" not in here:
        return root
    raise InputError(
        f"{root}: has no folder {split!r}, expected {root / split}/CLASS/image files",
        "name the folder that holds it",
        "data",
    )


def _compare_with_train(root: Path, folder: Path, classes: tuple[str, ...]) -> None:
    """A class that only one split has would shift the index of others, or could never be right."""
    if not (root / "train").is_dir():
        return
    trained = {entry.name for entry in entries(root / "train") if entry.is_dir()}
    for has, lacks, only in (
        ("train", folder.name, trained - set(classes)),
        (folder.name, "train", set(classes) - trained),
    ):
        if trained and only:
            raise InputError(
                f"{root}: {has} has {len(only)} classes that {lacks} lacks: {some(sorted(only))}; give both the same classes"
            )


def _names(lists: tuple[Path, Path], classes: tuple[str, ...]) -> tuple[str, ...]:
    """What people call the classes, from the nearest file that says so."""
    for folder in lists:
        for name in (CLASS_INDEX, "synset_words.txt"):
            if (folder / name).is_file():
                listed = read_class_list(folder / name)
                known = dict(zip(listed.ids, listed.names, strict=True))
                return tuple(known.get(id, id) for id in classes)
    return classes


def _stray_error(folder: Path, strays: list[str]) -> InputError:
    more = f" (and {len(strays) - 1} more like it)" if len(strays) > 1 else ""
    if is_image(strays[0]):
        what = f"lies beside the class folders and has no class{more}"
        return InputError(f"{folder / strays[0]}: {what}", "move it", "stray")
    what = f"is not an image, expected {', '.join(SUFFIXES)}{more}"
    return UnreadableImage(f"{folder / strays[0]}: {what}")


def _size_and_time(path: str) -> tuple[int, int]:
    """Bytes and nanoseconds; a file that cannot be asked is left to the decoder to report."""
    try:
        found = os.stat(path)
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns
