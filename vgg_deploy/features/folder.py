"""Reads a folder of features, without reading all of it into memory."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vgg_deploy.data.index_file import Names, NamesBuilder
from vgg_deploy.errors import InputError
from vgg_deploy.features.arrays import READERS, most_bytes
from vgg_deploy.features.image_list import read_list, repeated
from vgg_deploy.features.manifest import (
    MANIFEST,
    PART,
    Shard,
    array_name,
    list_name,
    read_manifest,
)
from vgg_deploy.features.settings import AGAIN, FeatureSettings
from vgg_deploy.files import sha256
from vgg_deploy.near_misses import did_you_mean
from vgg_deploy.progress import progress
from vgg_deploy.regular_files import MOST_TEXT_BYTES, open_regular

UNKNOWN = -1  # label of an image without a class


@dataclass(frozen=True, eq=False)
class FeatureFolder:
    """A complete folder of features.

    Attributes:
        path: The folder.
        settings: What it contains.
        shards: In their order.
        images: Names of all images, different from each other.
        labels: (images,) int64, index into `classes`; -1 without a class.
        classes: Ids of the classes, sorted.
    """

    path: Path
    settings: FeatureSettings
    shards: tuple[Shard, ...]
    images: Names
    labels: np.ndarray
    classes: tuple[str, ...]
    _finite: set[Path] = field(default_factory=set, repr=False)  # files whose values are

    def __len__(self) -> int:
        return len(self.images)

    def blocks(self, layer: str) -> Iterator[np.ndarray]:
        """The descriptors of one layer, shard by shard.

        Args:
            layer: One of `settings.layers`.

        Yields:
            (n, d) float32, read-only, finite; the rows of all shards are those of `images`.

        Raises:
            InputError: For an unknown layer, a file that cannot be read, or values that are not
                finite.
        """
        for shard in self.shards:
            yield self._rows(layer, shard)

    def take(self, layer: str, kept: np.ndarray) -> np.ndarray:
        """Read the descriptors of some images.

        Args:
            layer: One of `settings.layers`.
            kept: (k,) int64, indices into `images`.

        Returns:
            (k, d) float32, in the order of `kept`.

        Raises:
            InputError: As `blocks`.
        """
        rows = np.empty((len(kept), self.width(layer)), np.float32)
        ends = np.cumsum([shard.images for shard in self.shards])
        at = np.searchsorted(ends, kept, side="right")
        for index in np.unique(at):
            shard = self.shards[index]
            mine = at == index
            rows[mine] = self._rows(layer, shard)[kept[mine] - (ends[index] - shard.images)]
        return rows

    def width(self, layer: str) -> int:
        """Length d of a layer's descriptor.

        Args:
            layer: One of `settings.layers`.

        Raises:
            InputError: For an unknown layer.
        """
        known = self.settings.layers
        if layer not in known:
            raise InputError(
                f"{self.path}: has no layer {layer!r:.60}; choose from {', '.join(known)}"
                f"{did_you_mean(layer, known)}",
                about="layer",
            )
        return known[layer]

    def _rows(self, layer: str, shard: Shard) -> np.ndarray:
        shape = (shard.images, self.width(layer))
        path = self.path / array_name(layer, shard.index, self.settings.form)
        rows = READERS[self.settings.form](path, shape)
        if path not in self._finite:
            # the extremes carry NaN and infinity along, and take no memory
            if rows.size and not np.isfinite([rows.min(), rows.max()]).all():
                raise InputError(f"{path}: has values that are not finite", AGAIN)
            self._finite.add(path)
        return rows


def open_features(folder: str | os.PathLike[str], layers: Sequence[str] = ()) -> FeatureFolder:
    """Open a folder of features; compares its files with their checksums.

    Args:
        folder: As `feature_writer` wrote it.
        layers: Those that will be read; none for all.

    Raises:
        InputError: If it is no such folder, is not complete, or a file is missing, damaged or has
            another sha256; for an unknown layer.
    """
    path = Path(folder)
    _refuse_incomplete(path)
    manifest = read_manifest(path)
    settings = manifest.settings
    opened = FeatureFolder(path, settings, manifest.shards, Names.of(()), np.zeros(0, int), ())
    for layer in layers:
        opened.width(layer)
    _check_files(opened, tuple(layers) or tuple(settings.layers))
    names, ids, labels = NamesBuilder(), dict[str, int](), list[np.ndarray]()
    for shard in manifest.shards:
        file = path / list_name(shard.index)
        found = []
        for image, label in read_list(file):
            names.add(image)
            found.append(ids.setdefault(label, len(ids)))
        if len(found) != shard.images:
            raise InputError(f"{file}: has {len(found)} images, expected {shard.images}", AGAIN)
        labels.append(np.array(found, np.int64))
    images = names.names()
    if not len(images):
        raise InputError(f"{path}: has no images", AGAIN)
    if twice := repeated(images):
        raise InputError(f"{path}: lists {twice} twice", AGAIN)
    classes = tuple(sorted(label for label in ids if label))
    order = {label: index for index, label in enumerate(classes)}
    renumbered = np.array([order.get(label, UNKNOWN) for label in ids], np.int64)
    return FeatureFolder(
        path, settings, manifest.shards, images, renumbered[np.concatenate(labels)], classes
    )


def read_settings(folder: str | os.PathLike[str]) -> FeatureSettings:
    """Read what a complete folder of features contains; none of its other files is opened.

    Args:
        folder: As `feature_writer` wrote it.

    Raises:
        InputError: If it is no such folder, is not complete, or its manifest is damaged.
    """
    path = Path(folder)
    _refuse_incomplete(path)
    return read_manifest(path).settings


def _refuse_incomplete(path: Path) -> None:
    if not path.is_dir():
        raise InputError(f"{path}: is not a folder; give a folder of features", about="features")
    if os.path.lexists(path / MANIFEST):
        return
    if os.path.lexists(path / PART):
        raise InputError(
            f"{path}: is not complete; run the command that writes it again", about="features"
        )
    raise InputError(f"{path}: has no {MANIFEST}; give a folder of features", about="features")


def _check_files(opened: FeatureFolder, layers: Sequence[str]) -> None:
    """Compare the lists, and the files of some layers, with their checksums."""
    form = opened.settings.form
    with progress(f"checking {opened.path}", len(opened.shards)) as bar:
        for shard in opened.shards:
            most = {list_name(shard.index): MOST_TEXT_BYTES}
            for layer in layers:
                shape = (shard.images, opened.width(layer))
                most[array_name(layer, shard.index, form)] = most_bytes(shape)
            for name, size in most.items():
                _refuse_larger(opened.path / name, size)
                if sha256(opened.path / name) != shard.sha256[name]:
                    raise InputError(f"{opened.path / name}: has another sha256", AGAIN)
            bar.advance()


def _refuse_larger(path: Path, most: int) -> None:
    """Refuse a file that is larger than its content can be, before all of it is read.

    Raises:
        InputError: If it is, or cannot be opened.
    """
    try:
        open_regular(path, most).close()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})", AGAIN) from None
