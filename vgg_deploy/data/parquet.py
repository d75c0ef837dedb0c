"""Reads a data set of images as Hugging Face's hub stores it: parquet files.

    data/train-00000-of-00294.parquet, data/validation-00000-of-00014.parquet, ...

Columns are image, {"bytes", "path"}, and label, a number whose names are in the schema. In
ILSVRC/imagenet-1k the names are words, and the path of an image ends with its wnid.
"""

import re
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np

from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.directory import is_image
from vgg_deploy.data.index_file import Names
from vgg_deploy.data.packed import Packed
from vgg_deploy.data.tar_reader import MOST_BYTES
from vgg_deploy.errors import InputError
from vgg_deploy.json_files import is_text, parse_json
from vgg_deploy.progress import progress
from vgg_deploy.regular_files import is_regular, open_regular

SPLITS = {"train": "train", "val": "val", "validation": "val"}  # by the start of a file's name
NAME = re.compile(r"([a-z]+)(?:-([0-9]{5})-of-([0-9]{5}))?(?:-[0-9a-f]+)?\.parquet")
WNID_LAST = re.compile(r".*_(n[0-9]{8})\.[A-Za-z]+")
STARTS = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"RIFF": ".webp", b"GIF8": ".gif"}
BATCH = 64  # rows


@dataclass
class _Rows:
    """The images of one split, as far as they were copied."""

    names: list[str] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    begins: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    crcs: list[int] = field(default_factory=list)


def parquet_files(folder: Path) -> dict[str, list[Path]]:
    """List the parquet files of a folder, or of `data` in it, by split.

    Args:
        folder: Any folder.

    Returns:
        Sorted files of the splits that have any. Files of a test split are left out.

    Raises:
        InputError: If one of the numbered files of a split is missing.
    """
    by_split: dict[str, list[Path]] = {}
    for inside in (folder, folder / "data"):
        for path in sorted(inside.glob("*.parquet")):
            match = NAME.fullmatch(path.name)
            if match and match[1] in SPLITS:
                by_split.setdefault(SPLITS[match[1]], []).append(path)
        if by_split:
            break
    for paths in by_split.values():
        last = NAME.fullmatch(paths[-1].name)
        if last and last[3] and len(paths) != int(last[3]):
            raise InputError(
                f"{paths[0].parent}: has {len(paths)} of the {int(last[3])} files "
                f"{last[1]}-*-of-{last[3]}.parquet; download the others"
            )
    return by_split


def open_parquet(by_split: dict[str, list[Path]], scratch: Path) -> dict[str, Dataset]:
    """Copy the images of parquet files into one file per split, where each can be read by itself.

    Args:
        by_split: As `parquet_files` lists them.
        scratch: An empty folder for the copies, which take as much as the parquet files.

    Returns:
        The data sets, by class, then by name. A class's id is the wnid that ends the names of its
        images; without wnids it is the name of its label, and without names its number.

    Raises:
        InputError: For files of another form, damaged ones, too little space on the disk, or if
            pyarrow is not installed.
    """
    _check_space(by_split, scratch)
    rows, label_names = {}, None
    for split, paths in by_split.items():
        rows[split] = _Rows()
        with (
            open(scratch / f"{split}.images", "wb") as copy,
            progress(f"copying {len(paths)} {split} parquet files", len(paths)) as bar,
        ):
            for path in paths:
                found = _copy(path, copy, rows[split])
                label_names = label_names or found
                bar.advance()
    classes, names, ids = _classes(rows, label_names, scratch)
    return {
        split: _dataset(one, scratch / f"{split}.images", classes, names, ids)
        for split, one in rows.items()
    }


def _check_space(by_split: dict[str, list[Path]], scratch: Path) -> None:
    """The copies and the shards each need the size of the parquet files."""
    files = [path for paths in by_split.values() for path in paths]
    # whatever else has such a name is refused when it is opened
    needed = 2 * sum(path.stat().st_size for path in files if is_regular(path))
    free = shutil.disk_usage(scratch).free
    if needed > free:
        raise InputError(
            f"{scratch.parent}: has {free / 1e9:.1f} GB free, and packing parquet files needs "
            f"{needed / 1e9:.1f} GB, half of it only while it runs; choose another disk"
        )


@contextmanager
def _readable(path: Path) -> Iterator[Any]:
    """Open a parquet file, with errors that name it."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise InputError(
            f"{path}: pyarrow is not installed, which reads parquet files; "
            'pip install "vgg-deploy[parquet]"'
        ) from None
    try:
        with open_regular(path) as opened, ParquetFile(opened) as file:
            yield file
    except (ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{path}: cannot be read as parquet ({reason}); download it again"
        ) from None


def _copy(path: Path, copy: BinaryIO, rows: _Rows) -> list[str] | None:
    """Append the images of one file; return the names of its labels, if its schema has them."""
    with _readable(path) as file:
        schema = file.schema_arrow
        if not {"image", "label"} <= set(schema.names):
            raise InputError(
                f"{path}: has the columns {', '.join(schema.names)}, expected image and label"
            )
        for batch in file.iter_batches(BATCH, columns=["image", "label"]):
            for row in batch.to_pylist():
                _append(row, copy, rows, f"{path}, image {len(rows.names)}")
        return _label_names(schema.metadata or {})


def _append(row: dict[str, Any], copy: BinaryIO, rows: _Rows, where: str) -> None:
    image, label = row["image"], row["label"]
    data = image.get("bytes") if isinstance(image, dict) else None
    if not isinstance(data, bytes) or not 0 < len(data) <= MOST_BYTES:
        raise InputError(f"{where}: has no bytes of an image; download the file again")
    if type(label) is not int or label < 0:
        raise InputError(f"{where}: has the label {label!r:.40}, expected the number of a class")
    given = image.get("path")
    name = PurePosixPath(given if isinstance(given, str) else "").name
    if not is_image(name):
        suffix = next((end for start, end in STARTS.items() if data.startswith(start)), None)
        if suffix is None:
            raise InputError(f"{where}: is no image by its name or its first bytes")
        name = f"{len(rows.names):08d}{suffix}"
    rows.names.append(name)
    rows.labels.append(label)
    rows.begins.append(copy.tell())
    rows.sizes.append(len(data))
    rows.crcs.append(zlib.crc32(data))
    copy.write(data)


def _label_names(metadata: dict[bytes, bytes]) -> list[str] | None:
    """Names of the labels in the schema's metadata; None without them."""
    try:
        described: Any = parse_json(metadata[b"huggingface"].decode(), "the schema")
        names = described["info"]["features"]["label"]["names"]
    except (KeyError, TypeError, ValueError, InputError):
        return None
    are_texts = isinstance(names, list) and all(isinstance(n, str) and is_text(n) for n in names)
    return names if are_texts else None


def _classes(
    rows: dict[str, _Rows], label_names: list[str] | None, where: Path
) -> tuple[tuple[str, ...], tuple[str, ...], dict[int, str]]:
    """Sorted ids and their names, and the id of every label that occurs."""
    wnid_of: dict[int, str] = {}
    complete = True
    for one in rows.values():
        for name, label in zip(one.names, one.labels, strict=True):
            match = WNID_LAST.fullmatch(name)
            if match is None:
                complete = False
            elif wnid_of.setdefault(label, match[1]) != match[1]:
                raise InputError(
                    f"{name}: its name says {match[1]}, other images of its label {label} are "
                    f"{wnid_of[label]}; download the parquet files again"
                )
    labels = sorted({label for one in rows.values() for label in one.labels})
    words = {
        label: label_names[label] if label_names and label < len(label_names) else str(label)
        for label in labels
    }
    ids = wnid_of if complete else words
    if len(set(ids.values())) < len(ids):
        raise InputError(f"{where.parent}: two labels have the same name; give each its own")
    order = sorted(labels, key=lambda label: ids[label])
    names = tuple(words[label].split(",")[0].strip() or ids[label] for label in order)
    return tuple(ids[label] for label in order), names, ids


def _dataset(
    rows: _Rows,
    copy: Path,
    classes: tuple[str, ...],
    names: tuple[str, ...],
    ids: dict[int, str],
) -> Dataset:
    files = [f"{ids[label]}/{name}" for name, label in zip(rows.names, rows.labels, strict=True)]
    order = np.array(sorted(range(len(files)), key=files.__getitem__), np.int64)
    ranks = {id: rank for rank, id in enumerate(classes)}
    labels = np.array([ranks[ids[label]] for label in rows.labels], np.int64)[order]
    packed = Packed(
        (str(copy),),
        np.zeros(len(files), np.int64),
        np.array(rows.begins, np.int64)[order],
        np.array(rows.sizes, np.int64)[order],
        np.array(rows.crcs, np.int64)[order],
    )
    sorted_files = Names.of(files[i] for i in order.tolist())
    return Dataset(copy, sorted_files, labels, classes, names, packed=packed)
