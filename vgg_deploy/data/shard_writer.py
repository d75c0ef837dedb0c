"""Tar shards made from a folder, or found in one and indexed. Images keep their bytes."""

import io
import json
import re
import tarfile
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vgg_deploy.data.dataset import Dataset, open_dataset
from vgg_deploy.data.directory import SUFFIXES
from vgg_deploy.data.index_file import Index, NamesBuilder, write_index
from vgg_deploy.data.shards import COLUMNS, FORMAT, PLAIN_NAME, SHARDS
from vgg_deploy.data.tar_reader import members
from vgg_deploy.errors import InputError
from vgg_deploy.files import sha256, whole_file, write_text
from vgg_deploy.net.class_lists import read_class_list
from vgg_deploy.net.spec import numbered
from vgg_deploy.progress import progress

SPLITS = ("train", "val")
KEY = re.compile(
    r"((?:.*/)?[^./][^./]*)\.([^/]+)", re.DOTALL
)  # WebDataset's: the key ends at the first dot of the last part
LONGEST_STEM = 60  # characters of a file's own name in its key


class Sample(NamedTuple):
    """An image in a shard with its class."""

    name: str
    label: int
    begin: int
    size: int
    crc32: int


@dataclass
class Packing:
    """The index of one split as it grows."""

    names: NamesBuilder = field(default_factory=NamesBuilder)
    columns: dict[str, array] = field(
        default_factory=lambda: {name: array("q") for name in COLUMNS}
    )
    shards: list[dict] = field(default_factory=list)
    fewest_classes: int | None = None  # in one shard

    def add(self, tar: Path) -> None:
        """Read through one shard. Raises: InputError, naming shard and member, for what is no sample."""
        count, labels = 0, set()
        with open(tar, "rb") as file:
            for sample in samples(file, str(tar)):
                self.names.add(f"{tar.name}/{sample.name}")
                for name, value in zip(
                    COLUMNS,
                    (sample.label, len(self.shards), sample.begin, sample.size, sample.crc32),
                    strict=True,
                ):
                    self.columns[name].append(value)
                labels.add(sample.label)
                count += 1
        if not count:
            raise InputError(
                f"{tar}: holds no image beside its class, expected KEY.jpg and KEY.cls; remove it"
            )
        self.shards.append({"file": tar.name, "images": count, "bytes": tar.stat().st_size})
        self.fewest_classes = min(len(labels), self.fewest_classes or len(labels))

    @property
    def images(self) -> int:
        return len(self.columns["labels"])

    def write(self, path: Path) -> dict:
        """The index file. Returns: what shards.json says of the split."""
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
    """Write SOURCE's training and validation images as shards: training in a random order, so that no shard is one class.

    Raises: InputError for unusable images, or a target that holds shards.
    """
    if target.is_dir() and (
        found := sorted(
            p.name for p in target.iterdir() if p.suffix in (".tar", ".index") or p.name == SHARDS
        )
    ):
        raise InputError(
            f"{target}: holds {found[0]} already; remove what is there, or give another folder"
        )
    sets = {split: open_dataset(source, split, on_error) for split in SPLITS}
    made = {}
    for split, dataset in sets.items():
        order = (
            np.arange(len(dataset))
            if split == "val"
            else np.random.default_rng(seed).permutation(len(dataset))
        )
        made[split] = _pack_split(dataset, order, target, split, images_per_shard)
    _describe(target, sets["train"].classes, sets["train"].names, made)
    return made


def index_shards(folder: Path, class_list: Path | None) -> dict[str, Packing]:
    """Write shards.json for the shards of another program: train*.tar and val*.tar.

    Args: class_list, names the classes in the order of their numbers; by default they are numbered.
    Raises: InputError, naming shard and member, for what is no sample.
    """
    tars = sorted(folder.glob("*.tar"))
    of_split = {split: [tar for tar in tars if tar.name.startswith(split)] for split in SPLITS}
    if left := [tar for tar in tars if not tar.name.startswith(SPLITS)]:
        raise InputError(
            f"{left[0]}: is neither train*.tar nor val*.tar; rename it or move it away"
        )
    if odd := [tar for tar in tars if not PLAIN_NAME.fullmatch(tar.name)]:
        raise InputError(f"{odd[0]}: use letters, digits, _, - and . in the names of shards")
    if not tars:
        raise InputError(
            f"{folder}: has no train*.tar or val*.tar", "name the folder of the shards", "shards"
        )
    made = {}
    for split, found in of_split.items():
        if found:
            made[split] = Packing()
            with progress(f"indexing {len(found)} {split} shards", len(found)) as bar:
                for tar in found:
                    made[split].add(tar)
                    bar.advance()
    count = 1 + max(max(packing.columns["labels"]) for packing in made.values())
    classes, names = read_class_list(class_list) if class_list else (numbered(count),) * 2
    if count > len(classes):
        _refuse_class(made, folder, len(classes), class_list)
    _describe(folder, classes, names, made)
    return made


def samples(file: io.BufferedIOBase, tar: str) -> Iterator[Sample]:
    """The images of a shard; members with one key lie together, KEY.jpg (or another image) and KEY.cls among them.

    Raises: InputError, naming shard and member.
    """
    key, image, label, seen = None, None, None, set()

    def whole() -> Sample:
        if image is None or label is None:
            raise InputError(
                f"{tar}, {key}: has no {'image' if image is None else key + '.cls'}, expected KEY.jpg and KEY.cls one after the other"
            )
        return Sample(image.name, label, image.begin, image.size, image.crc32)

    for member in members(file, tar):
        found = KEY.fullmatch(member.name)
        if not found:
            continue
        kind = found[2].lower()
        if found[1] != key:
            if key is not None:
                yield whole()
            key, image, label = found[1], None, None
            if key in seen:
                raise InputError(
                    f"{tar}, {member.name}: the key {key} is there twice, expected each once"
                )
            seen.add(key)
        if kind == "cls":
            label = _label(member.start, member.size, f"{tar}, {member.name}")
        elif f".{kind}" in SUFFIXES:
            if image is not None:
                raise InputError(
                    f"{tar}, {member.name}: a second image of the key {key}, expected one"
                )
            image = member
    if key is not None:
        yield whole()


def _label(text: bytes, size: int, where: str) -> int:
    digits = text.strip()
    if size > 32 or not digits.isdigit() or len(digits) > 9:
        raise InputError(
            f"{where}: holds {text[:20]!r}, expected the number of a class, counted from 0"
        )
    return int(digits)


def _pack_split(
    dataset: Dataset, order: np.ndarray, target: Path, split: str, images_per_shard: int
) -> Packing:
    packing = Packing()
    with progress(f"packing {len(order)} {split} images", len(order)) as bar:
        for number, first in enumerate(range(0, len(order), images_per_shard)):
            tar = target / f"{split}-{number:06d}.tar"
            with (
                whole_file(tar) as partial,
                tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as file,
            ):
                for place, index in enumerate(
                    order[first : first + images_per_shard].tolist(), start=first
                ):
                    path = Path(dataset.files[index])
                    key = f"{place:08d}_{re.sub('[^A-Za-z0-9_-]', '_', path.stem)[:LONGEST_STEM]}"
                    _write(file, key + path.suffix.lower(), dataset.read(index))
                    _write(file, f"{key}.cls", str(dataset.labels[index]).encode())
                    bar.advance()
            packing.add(tar)
    return packing


def _write(file: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)  # without times and owners: the same images make the same shards
    info.size = len(data)
    file.addfile(info, io.BytesIO(data))


def _describe(
    folder: Path, classes: tuple[str, ...], names: tuple[str, ...], made: dict[str, Packing]
) -> None:
    splits = {split: packing.write(folder / f"{split}.index") for split, packing in made.items()}
    document = {"format": FORMAT, "classes": classes, "names": names, "splits": splits}
    write_text(folder / SHARDS, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def _refuse_class(made: dict[str, Packing], folder: Path, classes: int, class_list: Path) -> None:
    """Name the first image of a class that the list lacks."""
    for packing in made.values():
        labels = np.frombuffer(packing.columns["labels"], np.int64)
        for place in np.flatnonzero(labels >= classes)[:1]:
            name = packing.names.names()[place]
            raise InputError(
                f"{folder}/{name}: is of class {labels[place]}, but {class_list} lists {classes}, counted from 0; give the whole list"
            )
