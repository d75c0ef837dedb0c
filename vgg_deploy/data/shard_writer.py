"""Packs images into tar shards. They keep their bytes."""

import io
import json
import os
import re
import tarfile
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.index_file import Index, NamesBuilder, write_index
from vgg_deploy.data.shard_samples import samples
from vgg_deploy.data.shards import COLUMNS, FORMAT, SHARDS
from vgg_deploy.errors import InputError
from vgg_deploy.files import sha256, whole_file, write_text
from vgg_deploy.net.class_lists import ClassList
from vgg_deploy.progress import progress
from vgg_deploy.regular_files import open_regular
from vgg_deploy.sealed_json import sealed

LONGEST_STEM = 60  # characters of a file's own name in its key


@dataclass
class Packing:
    """The index of one split as it grows.

    Attributes:
        names: SHARD/NAME of every image.
        columns: (images,) int64 per name of COLUMNS.
        shards: What shards.json says of each shard.
        fewest_classes: In one shard; None without shards.
        ids: Number of every class that the shards name by its id, in the order of their finding.
            Splits of one data set share it.
        numbered: Whether classes are numbers; None as long as none was found.
    """

    names: NamesBuilder = field(default_factory=NamesBuilder)
    columns: dict[str, "array[int]"] = field(
        default_factory=lambda: {name: array("q") for name in COLUMNS}
    )
    shards: list[dict[str, Any]] = field(default_factory=list)
    fewest_classes: int | None = None
    ids: dict[str, int] = field(default_factory=dict)
    numbered: bool | None = None

    def add(self, tar: Path) -> None:
        """Read through one shard and append its images.

        Args:
            tar: The shard.

        Raises:
            InputError: For a member that belongs to no sample; names shard and member.
        """
        count, labels = 0, set()
        with _opened(tar) as file:
            size = os.fstat(file.fileno()).st_size
            for sample in samples(file, str(tar)):
                self.names.add(f"{tar.name}/{sample.name}")
                label = self._number(sample.label, f"{tar}, {sample.name}")
                row = (label, len(self.shards), sample.begin, sample.size, sample.crc32)
                for name, value in zip(COLUMNS, row, strict=True):
                    self.columns[name].append(value)
                labels.add(label)
                count += 1
        if not count:
            raise InputError(
                f"{tar}: contains no image beside its class, expected KEY.jpg and KEY.cls; "
                "remove it"
            )
        self.shards.append({"file": tar.name, "images": count, "bytes": size})
        self.fewest_classes = min(len(labels), self.fewest_classes or len(labels))

    def _number(self, label: int | str, where: str) -> int:
        """The number of a class, which all members give as a number, or all by its id."""
        is_number = isinstance(label, int)
        if self.numbered is None:
            self.numbered = is_number
        if is_number != self.numbered:
            raise InputError(
                f"{where}: gives its class as {'a number' if is_number else 'text'}, earlier ones "
                f"as {'text' if is_number else 'a number'}; use one form in all shards"
            )
        return label if isinstance(label, int) else self.ids.setdefault(label, len(self.ids))

    def renumber(self, numbers: np.ndarray) -> None:
        """Replace every label by its entry in an array.

        Args:
            numbers: (labels,) int64.
        """
        self.columns["labels"] = array("q", numbers[self.labels].tolist())

    @property
    def images(self) -> int:
        """Number of images so far."""
        return len(self.columns["labels"])

    @property
    def labels(self) -> np.ndarray:
        """(images,) int64."""
        return np.frombuffer(self.columns["labels"], np.int64)

    def write(self, path: Path) -> dict[str, Any]:
        """Write the index file.

        Args:
            path: Where.

        Returns:
            What shards.json says of the split.
        """
        columns = {name: np.frombuffer(column, np.int64) for name, column in self.columns.items()}
        write_index(path, Index({}, columns, self.names.names()))
        return {
            "images": self.images,
            "index": path.name,
            "sha256": sha256(path),
            "shards": self.shards,
        }


@contextmanager
def _opened(tar: Path) -> Iterator[BinaryIO]:
    """Open a shard; InputError if it cannot be read."""
    try:
        with open_regular(tar) as file:
            yield file
    except OSError as error:
        raise InputError(
            f"{tar}: cannot be read ({error.strerror}); check the path and its permissions"
        ) from None


def pack(
    datasets: dict[str, Dataset], target: Path, images_per_shard: int, seed: int
) -> dict[str, Packing]:
    """Write the images of data sets as shards.

    Training images come in a random order, so that no shard is one class.

    Args:
        datasets: By split; all with the same classes.
        target: Folder for the shards.
        images_per_shard: In every shard but the last.
        seed: Of the random order.

    Returns:
        What was packed, by split.

    Raises:
        InputError: For unusable images, or a target that already contains shards.
    """
    refuse_old_shards(target)
    packings = {}
    for split, dataset in datasets.items():
        order = np.arange(len(dataset))
        if split == "train":
            order = np.random.default_rng(seed).permutation(len(dataset))
        packings[split] = _pack_split(dataset, order, target, split, images_per_shard)
    # the lists that name the classes may lie beside one split only
    named = [one for one in datasets.values() if one.names != one.classes]
    first = (named or list(datasets.values()))[0]
    write_description(target, ClassList(first.classes, first.names), packings)
    return packings


def refuse_old_shards(target: Path) -> None:
    """Refuse a folder that contains shards.

    Raises:
        InputError: If it does.
    """
    if not target.is_dir():
        return
    try:
        present = sorted(target.iterdir())
    except OSError as error:
        raise InputError(
            f"{target}: cannot be listed ({error.strerror}); check its permissions, or give "
            "another folder"
        ) from None
    for path in present:
        if path.suffix in (".tar", ".index") or path.name == SHARDS:
            raise InputError(
                f"{target}: already contains {path.name}; remove what is there, "
                "or give another folder"
            )


def _pack_split(
    dataset: Dataset, order: np.ndarray, target: Path, split: str, images_per_shard: int
) -> Packing:
    packing = Packing()
    with progress(f"packing {len(order)} {split} images", len(order)) as bar:
        for number, first in enumerate(range(0, len(order), images_per_shard)):
            tar = target / f"{split}-{number:06d}.tar"
            indices = order[first : first + images_per_shard].tolist()
            with (
                whole_file(tar) as partial,
                tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as file,
            ):
                for position, index in enumerate(indices, start=first):
                    _write_sample(file, dataset, index, position)
                    bar.advance()
            packing.add(tar)
    return packing


def _write_sample(file: tarfile.TarFile, dataset: Dataset, index: int, position: int) -> None:
    """Append an image and its class; the key starts with the image's position in the split."""
    path = Path(dataset.files[index])
    stem = re.sub("[^A-Za-z0-9_-]", "_", path.stem)[:LONGEST_STEM]
    key = f"{position:08d}_{stem}"
    _write_member(file, key + path.suffix.lower(), dataset.read(index))
    _write_member(file, f"{key}.cls", str(dataset.labels[index]).encode())


def _write_member(file: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)  # without times and owners: the same images make the same shards
    info.size = len(data)
    file.addfile(info, io.BytesIO(data))


def write_description(folder: Path, classes: ClassList, packings: dict[str, Packing]) -> None:
    """Write the index of each split and shards.json.

    Args:
        folder: Of the shards.
        classes: In the order of the labels.
        packings: By split.
    """
    document = {
        "format": FORMAT,
        "classes": classes.ids,
        "names": classes.names,
        "splits": {
            split: packing.write(folder / f"{split}.index") for split, packing in packings.items()
        },
    }
    write_text(folder / SHARDS, json.dumps(sealed(document), indent=1, ensure_ascii=False) + "\n")
