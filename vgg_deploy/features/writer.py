"""Writes a folder of features shard by shard; a run that was stopped goes on after whole shards."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.features.arrays import WRITERS
from vgg_deploy.features.image_list import write_list
from vgg_deploy.features.manifest import (
    MANIFEST,
    PART,
    Manifest,
    Shard,
    file_names,
    read_manifest,
    read_part,
    record_name,
    write_manifest,
    write_part,
)
from vgg_deploy.features.settings import AGAIN, FeatureSettings
from vgg_deploy.files import sha256, whole_files, write_text
from vgg_deploy.job import ALONE, Job
from vgg_deploy.json_files import read_json_object
from vgg_deploy.locks import exclusive_lock
from vgg_deploy.printable import json_text
from vgg_deploy.regular_files import is_regular

LOCK = ".lock"
OTHER_FOLDER = "choose another folder, or remove this one"


@dataclass(frozen=True)
class FeatureWriter:
    """A folder of features that is being written.

    Attributes:
        folder: Of the features.
        settings: Of the folder.
        shards: Those that this process is to write, ascending; others write the rest. Those that
            were whole before are not among them.
        job: Of this run.
    """

    folder: Path
    settings: FeatureSettings
    shards: tuple[int, ...]
    job: Job = ALONE

    def write(
        self,
        shard: int,
        images: Sequence[str],
        classes: Sequence[str],
        rows: Mapping[str, np.ndarray],
    ) -> None:
        """Write a shard: all of its files get their names, or none does.

        Args:
            shard: One of `shards`.
            images: (n,) names relative to the data set, different in the whole folder. n is the
                length of `settings.images_of`, or less where images were left out.
            classes: (n,) ids of their classes; empty texts without labels.
            rows: By layer (n, d) float32, finite.

        Raises:
            InputError: If the disk is full, or the folder cannot be written.
            CheckFailed: If a descriptor is not finite.
            ValueError: If the arguments do not fit the settings.
        """
        self._check(shard, images, classes, rows)
        paths = [self.folder / name for name in file_names(self.settings, shard)]
        with whole_files(paths) as partials:
            write_list(partials[0], images, classes)
            for layer, partial in zip(self.settings.layers, partials[1:], strict=True):
                WRITERS[self.settings.form](partial, rows[layer])
            digests = {path.name: sha256(p) for path, p in zip(paths, partials, strict=True)}
        # a shard without its record is not whole, and is written again
        record = Shard(shard, len(images), digests)
        write_text(self.folder / record_name(shard), json_text(record.to_fields()) + "\n")

    def finish(self) -> None:
        """Write features.json when all processes have written their shards; all call it.

        Raises:
            InputError: If a shard is missing, no shard has an image, or the file cannot be written.
        """
        self.job.gather(None)  # until all have written
        self.job.on_main(_finish, self.folder, self.settings)

    def _check(
        self,
        shard: int,
        images: Sequence[str],
        classes: Sequence[str],
        rows: Mapping[str, np.ndarray],
    ) -> None:
        if not 0 <= shard < self.settings.shard_count:
            raise ValueError(f"there is no shard {shard}")
        if len(images) > len(self.settings.images_of(shard)) or len(classes) != len(images):
            raise ValueError(f"shard {shard}: {len(images)} images, {len(classes)} classes")
        if {*rows} != {*self.settings.layers}:
            raise ValueError(f"the layers are {', '.join(rows)}")
        for layer, width in self.settings.layers.items():
            array = rows[layer]
            if array.shape != (len(images), width) or array.dtype != np.float32:
                raise ValueError(f"{layer} is {array.shape} {array.dtype}")
            finite = np.isfinite(array).all(axis=1)
            if not finite.all():
                raise CheckFailed(
                    f"{images[int(np.argmin(finite))]}: its descriptor from {layer} has values "
                    "that are not finite; use a precision with a larger range, such as fp32"
                )


@contextmanager
def feature_writer(
    folder: Path, settings: FeatureSettings, job: Job = ALONE
) -> Iterator[FeatureWriter]:
    """Start or resume writing a folder of features. All processes of a job call it.

    The folder is locked meanwhile. What is missing is spread over the processes, every
    `world`-th shard to each.

    Args:
        folder: Is made if it is missing; else it is empty or holds a part of these features.
        settings: Of the folder.
        job: Of this run.

    Yields:
        The writer. Its `shards` are empty where the folder is complete already.

    Raises:
        InputError: If the folder holds other features or other files, is being written by another
            process, or cannot be written.
    """
    folder = Path(folder)
    with ExitStack() as stack:
        missing = job.on_main(_begin, folder, settings, stack)
        yield FeatureWriter(folder, settings, tuple(missing[job.rank :: job.world]), job)


def _begin(folder: Path, settings: FeatureSettings, stack: ExitStack) -> list[int]:
    """Lock and prepare the folder; returns the shards that are to be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = {entry.name for entry in os.scandir(folder)}
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be used ({error.strerror}); choose another folder"
        ) from None
    stack.enter_context(
        exclusive_lock(folder / LOCK, f"{folder}: another process is writing features here")
    )
    if MANIFEST in found:
        _refuse_others(read_manifest(folder).settings, settings, folder)
        _remove_records(folder)
        return []
    if PART in found:
        _refuse_others(read_part(folder), settings, folder)
    elif strangers := sorted(name for name in found if not name.startswith(".")):
        raise InputError(
            f"{folder}: contains {strangers[0]}, and no features; choose an empty folder"
        )
    else:
        write_part(folder, settings)
    return [i for i in range(settings.shard_count) if _whole(folder, settings, i) is None]


def _refuse_others(found: FeatureSettings, settings: FeatureSettings, folder: Path) -> None:
    """Refuse to mix features of different settings."""
    if different := found.difference(settings):
        raise InputError(f"{folder}: contains other features: {different}; {OTHER_FOLDER}")


def _whole(folder: Path, settings: FeatureSettings, index: int) -> Shard | None:
    """The record of a shard if it is whole and its files are there; else it is written again."""
    path = folder / record_name(index)
    if not os.path.lexists(path):
        return None
    try:
        shard = Shard.from_fields(read_json_object(path, AGAIN), settings, index, str(path))
    except InputError:  # damaged on the disk
        return None
    return shard if all(is_regular(folder / name) for name in shard.sha256) else None


def _finish(folder: Path, settings: FeatureSettings) -> None:
    if os.path.lexists(folder / MANIFEST):
        return
    shards = [_whole(folder, settings, index) for index in range(settings.shard_count)]
    whole = tuple(shard for shard in shards if shard)
    if len(whole) < len(shards):
        raise InputError(
            f"{folder}: shard {shards.index(None)} is missing; all processes must share this folder"
        )
    if not any(shard.images for shard in whole):
        raise InputError(f"{folder}: none of the {settings.count} images could be read")
    write_manifest(folder, Manifest(settings, whole))
    _remove_records(folder)


def _remove_records(folder: Path) -> None:
    """Remove what features.json has replaced; what stays behind does no harm."""
    with suppress(OSError):
        for path in [folder / PART, *folder.glob("shard-*.json")]:
            path.unlink(missing_ok=True)
