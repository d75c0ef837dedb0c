"""Packs a folder into tar shards, or indexes shards of another program. Images keep their bytes."""

import io
import json
import re
import tarfile
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.index_file import Index, NamesBuilder, write_index
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.data.shard_samples import samples
from vgg_deploy.data.shards import COLUMNS, FORMAT, PLAIN_NAME, SHARDS
from vgg_deploy.errors import InputError
from vgg_deploy.files import sha256, whole_file, write_text
from vgg_deploy.net.class_lists import ClassList, read_class_list
from vgg_deploy.net.spec import numbered
from vgg_deploy.progress import progress

SPLITS = ("train", "val")
LONGEST_STEM = 60  # characters of a file's own name in its key


@dataclass
class Packing:
    """The index of one split as it grows.

    Attributes:
        names: SHARD/NAME of every image.
        columns: (images,) int64 per name of COLUMNS.
        shards: What shards.json says of each shard.
        fewest_classes: In one shard; None without shards.
    """

    names: NamesBuilder = field(default_factory=NamesBuilder)
    columns: dict[str, "array[int]"] = field(
        default_factory=lambda: {name: array("q") for name in COLUMNS}
    )
    shards: list[dict[str, Any]] = field(default_factory=list)
    fewest_classes: int | None = None

    def add(self, tar: Path) -> None:
        """Read through one shard and append its images.

        Args:
            tar: The shard.

        Raises:
            InputError: For a member that belongs to no sample; names shard and member.
        """
        count, labels = 0, set()
        with open(tar, "rb") as file:
            for sample in samples(file, str(tar)):
                self.names.add(f"{tar.name}/{sample.name}")
                row = (sample.label, len(self.shards), sample.begin, sample.size, sample.crc32)
                for name, value in zip(COLUMNS, row, strict=True):
                    self.columns[name].append(value)
                labels.add(sample.label)
                count += 1
        if not count:
            raise InputError(
                f"{tar}: contains no image beside its class, expected KEY.jpg and KEY.cls; "
                "remove it"
            )
        self.shards.append({"file": tar.name, "images": count, "bytes": tar.stat().st_size})
        self.fewest_classes = min(len(labels), self.fewest_classes or len(labels))

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


def pack(
    source: str, target: Path, images_per_shard: int, seed: int, on_error: str
) -> dict[str, Packing]:
    """Write the training and validation images of a data set as shards.

    Training images come in a random order, so that no shard is one class.

    Args:
        source: Folder or URL of the data set.
        target: Folder for the shards.
        images_per_shard: In every shard but the last.
        seed: Of the random order.
        on_error: "stop" or "skip", see `open_dataset`.

    Returns:
        What was packed, by split.

    Raises:
        InputError: For unusable images, or a target that already contains shards.
    """
    _refuse_old_shards(target)
    datasets = {split: open_dataset(source, split, on_error) for split in SPLITS}
    packings = {}
    for split, dataset in datasets.items():
        order = np.arange(len(dataset))
        if split == "train":
            order = np.random.default_rng(seed).permutation(len(dataset))
        packings[split] = _pack_split(dataset, order, target, split, images_per_shard)
    train = datasets["train"]
    _write_description(target, ClassList(train.classes, train.names), packings)
    return packings


def index_shards(folder: Path, class_list: Path | None) -> dict[str, Packing]:
    """Write shards.json for the shards of another program: train*.tar and val*.tar.

    Args:
        folder: With the shards.
        class_list: Names the classes in the order of their numbers; by default they are numbered.

    Returns:
        What was indexed, by split.

    Raises:
        InputError: For a member that belongs to no sample; names shard and member.
    """
    packings = {}
    for split, tars in _find_tars(folder).items():
        packing = packings[split] = Packing()
        with progress(f"indexing {len(tars)} {split} shards", len(tars)) as bar:
            for tar in tars:
                packing.add(tar)
                bar.advance()
    if class_list is None:
        ids = numbered(1 + max(int(packing.labels.max()) for packing in packings.values()))
        classes = ClassList(ids, ids)
    else:
        classes = read_class_list(class_list)
        _refuse_unlisted_classes(packings, folder, len(classes.ids), class_list)
    _write_description(folder, classes, packings)
    return packings


def _find_tars(folder: Path) -> dict[str, list[Path]]:
    """The shards of each split that has any, sorted."""
    tars = sorted(folder.glob("*.tar"))
    for tar in tars:
        if not tar.name.startswith(SPLITS):
            raise InputError(
                f"{tar}: is neither train*.tar nor val*.tar; rename it or move it away"
            )
    for tar in tars:
        if not PLAIN_NAME.fullmatch(tar.name):
            raise InputError(f"{tar}: use letters, digits, _, - and . in the names of shards")
    if not tars:
        raise InputError(
            f"{folder}: has no train*.tar or val*.tar", "name the folder of the shards", "shards"
        )
    by_split = {split: [tar for tar in tars if tar.name.startswith(split)] for split in SPLITS}
    return {split: found for split, found in by_split.items() if found}


def _refuse_old_shards(target: Path) -> None:
    if not target.is_dir():
        return
    for path in sorted(target.iterdir()):
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


def _write_description(folder: Path, classes: ClassList, packings: dict[str, Packing]) -> None:
    """Write the index of each split and shards.json."""
    document = {
        "format": FORMAT,
        "classes": classes.ids,
        "names": classes.names,
        "splits": {
            split: packing.write(folder / f"{split}.index") for split, packing in packings.items()
        },
    }
    write_text(folder / SHARDS, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def _refuse_unlisted_classes(
    packings: dict[str, Packing], folder: Path, classes: int, class_list: Path
) -> None:
    """Refuse the first image whose class the list lacks."""
    for packing in packings.values():
        unlisted = np.flatnonzero(packing.labels >= classes)
        if len(unlisted):
            name, label = packing.names.names()[unlisted[0]], packing.labels[unlisted[0]]
            raise InputError(
                f"{folder}/{name}: is of class {label}, but {class_list} lists {classes}, "
                "counted from 0; give the whole list"
            )
