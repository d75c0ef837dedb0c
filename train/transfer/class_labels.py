"""Gives each image its class: by the lists of the features, or by class folders as downloaded."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vgg_deploy.data.directory import entries, is_image
from vgg_deploy.errors import InputError

INSIDE = ("101_ObjectCategories", "256_ObjectCategories")  # of Caltech's downloads
CALTECH = {  # by the folder that is no object: data set, and number of classes with it
    "BACKGROUND_Google": ("Caltech-101", 102),
    "257.clutter": ("Caltech-256", 257),
}
NO_CLASS = -1


@dataclass(frozen=True, eq=False)
class ClassLabels:
    """The class of every image.

    Attributes:
        classes: Ids, sorted.
        labels: (images,) int64, index into classes; -1 for images that are not in the data set.
        without: Images of the class folders that have no features.
    """

    classes: tuple[str, ...]
    labels: np.ndarray
    without: int = 0

    @property
    def caltech(self) -> str:
        """Caltech-101 or Caltech-256, recognised by the names of the classes; else empty."""
        for name, (data, count) in CALTECH.items():
            if name in self.classes and len(self.classes) == count:
                return data
        return ""


def listed_classes(classes: tuple[str, ...], labels: np.ndarray) -> ClassLabels:
    """The classes of the lists of images.

    Args:
        classes: Ids.
        labels: (images,) int64; -1 without a class.

    Raises:
        InputError: If there are not two classes, or an image has none.
    """
    if len(classes) < 2 or (labels < 0).any():
        raise InputError(
            f"the lists of images name {len(classes)} classes and leave "
            f"{int((labels < 0).sum())} images without one",
            "name the folder of the classes",
            about="annotations",
        )
    return ClassLabels(classes, labels)


def folder_classes(folder: Path, images: Sequence[str]) -> ClassLabels:
    """The classes of the folders FOLDER/CLASS/IMAGE, or of the folder in it that Caltech has.

    Files that are no images by their names, and folders inside a class, are left out, as Caltech's
    downloads have some.

    Args:
        folder: Of the class folders.
        images: Names that end with CLASS/IMAGE.

    Raises:
        InputError: If there are not two class folders with images, or no image has features.
    """
    root = next((folder / name for name in INSIDE if (folder / name).is_dir()), folder)
    by_name: dict[str, str] = {}
    for entry in entries(root):
        if entry.is_dir():
            names = [file.name for file in entries(Path(entry.path)) if is_image(file.name)]
            by_name |= {f"{entry.name}/{name}": entry.name for name in names}
    classes = tuple(sorted(set(by_name.values())))
    if len(classes) < 2:
        raise InputError(
            f"{root}: has {len(classes)} class folders with images, expected two or more",
            about="annotations",
        )
    order = {name: index for index, name in enumerate(classes)}
    labels = np.full(len(images), NO_CLASS, np.int64)
    for index, image in enumerate(images):
        label = by_name.pop("/".join(image.split("/")[-2:]), None)
        if label is not None:
            labels[index] = order[label]
    if (labels < 0).all():
        raise InputError(
            f"{root}: none of its images has features; the features are of images such as "
            f"{os.fspath(images[0])}",
            about="annotations",
        )
    return ClassLabels(classes, labels, len(by_name))
