"""The descriptors that SVMs learn from: L2-normalised, of one or several nets."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vgg_deploy.data.index_file import Names
from vgg_deploy.errors import InputError
from vgg_deploy.features.folder import FeatureFolder, open_features, read_settings
from vgg_deploy.features.normalise import l2_normalised

PREFERRED = "relu7"  # the paper's descriptor
BLOCK_BYTES = 2**26  # of descriptors that are read at a time


@dataclass(frozen=True, eq=False)
class Part:
    """What one folder contributes.

    Attributes:
        folder: Of features.
        layer: One of its layers.
        average: Whether the scales of a stacked descriptor are averaged.
        order: (images,) int64, its row for each image of the first folder.
    """

    folder: FeatureFolder
    layer: str
    average: bool
    order: np.ndarray

    @property
    def width(self) -> int:
        """Length of the descriptor."""
        scales = len(self.folder.settings.scales) if self.average else 1
        return self.folder.width(self.layer) // scales

    def take(self, kept: np.ndarray) -> np.ndarray:
        """Read some descriptors.

        Args:
            kept: (k,) int64, indices of images.

        Returns:
            (k, width) float32, each divided by its norm.
        """
        rows = self.folder.take(self.layer, self.order[kept])
        if self.average:
            rows = rows.reshape(len(rows), -1, self.width).mean(1, np.float64)
        return l2_normalised(rows)


@dataclass(frozen=True, eq=False)
class Descriptors:
    """One descriptor per image: those of the parts side by side, each and the whole normalised.

    Attributes:
        parts: One per folder; the first one's order of images is that of all.
    """

    parts: tuple[Part, ...]

    @property
    def images(self) -> Names:
        """Names of the images."""
        return self.parts[0].folder.images

    @property
    def labels(self) -> np.ndarray:
        """(images,) int64, index into `classes`; -1 without a class."""
        return self.parts[0].folder.labels

    @property
    def classes(self) -> tuple[str, ...]:
        """Ids of the classes in the lists of images."""
        return self.parts[0].folder.classes

    @property
    def width(self) -> int:
        """Length of a descriptor."""
        return sum(part.width for part in self.parts)

    def take(self, kept: np.ndarray) -> np.ndarray:
        """Read some descriptors.

        Args:
            kept: (k,) int64, indices of images.

        Returns:
            (k, width) float32, of Euclidean norm 1; zeros where every part is zero.

        Raises:
            InputError: If a file cannot be read.
        """
        return l2_normalised(np.concatenate([part.take(kept) for part in self.parts], axis=1))

    def blocks(self, kept: np.ndarray) -> Iterator[np.ndarray]:
        """Read some descriptors a few at a time.

        Args:
            kept: (k,) int64, indices of images.

        Yields:
            (n, width) float32 as `take`; all of them are k rows.

        Raises:
            InputError: As `take`.
        """
        step = max(1, BLOCK_BYTES // (4 * self.width))
        for begin in range(0, len(kept), step):
            yield self.take(kept[begin : begin + step])


def open_descriptors(
    folders: Sequence[str | os.PathLike[str]], layer: str | None, join: str | None
) -> Descriptors:
    """Open folders of features of the same images.

    Args:
        folders: One, or one per net.
        layer: Of all folders; None for their only layer, or relu7 among several.
        join: "average" or "stack", what is done with several scales; None as they were written.

    Raises:
        InputError: If a folder cannot be read, has no such layer, cannot be joined so, or has
            other images or classes than the first.
    """
    parts: list[Part] = []
    for path in folders:
        chosen = layer or _only_layer(Path(path))
        folder = open_features(path, [chosen])
        average = _averages(folder, join)
        order = np.arange(len(folder)) if not parts else _order(parts[0].folder, folder)
        parts.append(Part(folder, chosen, average, order))
    return Descriptors(tuple(parts))


def other_images(descriptors: Descriptors) -> list[str]:
    """Lines about folders whose images have the same names and another identity."""
    first, *others = (part.folder for part in descriptors.parts)
    return [
        f"Warning: {other.path} and {first.path} have images of the same names whose identities "
        "differ; make sure that they are the same images"
        for other in others
        if other.settings.data.sha256 != first.settings.data.sha256
    ]


def _only_layer(path: Path) -> str:
    """The layer that is meant where none is named."""
    layers = tuple(read_settings(path).layers)
    if len(layers) == 1:
        return layers[0]
    if PREFERRED in layers:
        return PREFERRED
    raise InputError(
        f"{path}: has the layers {', '.join(layers)}", "choose one of them", about="layer"
    )


def _averages(folder: FeatureFolder, join: str | None) -> bool:
    settings = folder.settings
    if join == "stack" and settings.joined == "average" and len(settings.scales) > 1:
        raise InputError(
            f"{folder.path}: its scales were averaged when it was written; write it again with "
            "stacked scales"
        )
    return join == "average" and settings.joined == "stack" and len(settings.scales) > 1


def _order(first: FeatureFolder, other: FeatureFolder) -> np.ndarray:
    """For each image of the first folder its row in the other one.

    Raises:
        InputError: If they have different images, or an image has different classes.
    """
    rows = {name: row for row, name in enumerate(other.images)}
    order = np.empty(len(first), np.int64)
    for index, name in enumerate(first.images):
        row = rows.pop(name, None)
        if row is None:
            raise InputError(
                f"{other.path}: has no features of {name}, which {first.path} has; fused folders "
                "need the same images"
            )
        order[index] = row
        if (mine := _class(first, index)) != (its := _class(other, row)):
            raise InputError(
                f"{other.path}: the class of {name} is {its!r}, and {mine!r} in {first.path}; "
                "fused folders need the same images"
            )
    for name in rows:
        raise InputError(
            f"{first.path}: has no features of {name}, which {other.path} has; fused folders need "
            "the same images"
        )
    return order


def _class(folder: FeatureFolder, row: int) -> str:
    label = int(folder.labels[row])
    return folder.classes[label] if label >= 0 else ""
