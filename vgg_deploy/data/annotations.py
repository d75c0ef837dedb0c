"""Reads where the objects of a data set's images are: Pascal VOC's XML files, or a CSV table.

A table has the columns image, class, xmin, ymin, xmax, ymax. XML files lie in a folder, one per
image, as in VOC and ILSVRC.

Coordinates are those of the image as it is decoded: as it is stored, or turned upright where the
data set is opened so.
"""

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vgg_deploy.boxes.box_lists import BoxLists
from vgg_deploy.data.annotation_names import match_names
from vgg_deploy.data.annotation_records import Annotation, Annotations, Marked
from vgg_deploy.data.annotations_csv import read_table
from vgg_deploy.data.annotations_xml import list_folder
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.remote import Unreachable
from vgg_deploy.errors import InputError
from vgg_deploy.near_misses import did_you_mean
from vgg_deploy.printable import printable
from vgg_deploy.progress import progress

CONVENTIONS = {  # what the coordinates of annotations mean: what is added to xmin, ymin, xmax, ymax
    "voc": (-1.0, -1.0, 0.0, 0.0),  # numbers of pixels from 1, the last one belongs to the box
    "edges": (0.0, 0.0, 0.0, 0.0),  # edges from 0, as in ILSVRC's files
}
TOLERANCE = 1.0  # pixels that a box may leave its image by, where writers count otherwise
HINT = "correct the annotation or remove it"
NONE = np.zeros((0, 4))


class WithBoxes(NamedTuple):
    """A data set with its boxes.

    Attributes:
        dataset: The images that have a box of their own class; `boxes` holds these.
        left_out: Names of others that can be read.
        unreadable: What is wrong with images that cannot be read.
        strangers: How many annotations are of no image of the data set.
    """

    dataset: Dataset
    left_out: list[str]
    unreadable: list[str]
    strangers: int

    def lines(self, kind: str) -> list[str]:
        """What people should know, one sentence each.

        Args:
            kind: Of the images, such as "training".
        """
        images, boxes = len(self.dataset), self.dataset.boxes
        count = len(boxes.boxes) if boxes else 0
        lines = [f"Boxes: {count:,} objects of {images:,} {kind} images"]
        if self.left_out:
            lines.append(
                f"{len(self.left_out):,} {kind} images have no box of their class and are left out "
                f"(first: {self.left_out[0]})"
            )
        if self.unreadable:
            lines.append(
                f"{len(self.unreadable):,} {kind} images cannot be read and are left out "
                f"(first: {self.unreadable[0]})"
            )
        if self.strangers:
            lines.append(f"{self.strangers:,} annotations are of no {kind} image")
        return lines


def open_annotations(path: str | os.PathLike[str]) -> Annotations:
    """Open a folder of XML files, or a CSV table.

    Args:
        path: The folder; or the table, whose name ends with .csv.

    Raises:
        InputError: If it is neither, or cannot be read.
    """
    path = Path(path)
    try:
        is_folder = path.is_dir()
    except (OSError, ValueError):
        is_folder = False
    if is_folder:
        return list_folder(path)
    if path.suffix.lower() == ".csv":
        return read_table(path)
    raise InputError(
        f"{printable(str(path))}: is neither a folder of XML files nor a table that ends with .csv",
        "name the annotations of the images",
    )


def with_boxes(
    dataset: Dataset, annotations: Annotations, convention: str, threads: int, on_error: str
) -> WithBoxes:
    """Give a data set the boxes of its images.

    Of an image, the boxes of its own class count; it may show objects of others.

    Args:
        dataset: Images with labels.
        annotations: Of these images, and perhaps of more.
        convention: Name in CONVENTIONS.
        threads: That read at the same time.
        on_error: "stop" or "skip" at images that cannot be read.

    Raises:
        InputError: If an annotation of an image cannot be used, no image has a box, or an image
            cannot be read and is not skipped.
    """
    if not dataset.labelled:
        raise InputError(f"{dataset.root}: its images have no labels, and boxes belong to classes")
    found = match_names(dataset.files, annotations.names, annotations.where)
    classes = _ClassNumbers(dataset)
    unreadable: dict[int, str] = {}

    def boxes_of(index: int) -> np.ndarray:
        if found[index] < 0:
            return NONE
        annotation = annotations.read(int(found[index]))
        try:
            height, width = dataset.size(index)
        except InputError as error:
            if on_error == "stop" or isinstance(error, Unreachable):
                raise
            unreadable[index] = error.what
            return NONE
        if annotation.size not in (None, (width, height)):
            raise InputError(_other_size(annotation, dataset.where(index), width, height))
        boxes = [
            box
            for marked in annotation.objects
            for box in [_checked(marked, convention, width, height)]
            if classes.number(marked) == dataset.labels[index]
        ]
        return np.array(boxes, np.float64).reshape(-1, 4)

    label = f"boxes of {len(dataset)} images"
    with progress(label, len(dataset)) as bar, ThreadPoolExecutor(threads) as pool:
        lists = []
        for boxes in pool.map(boxes_of, range(len(dataset))):
            lists.append(boxes)
            bar.advance()
    known = BoxLists.of(lists)
    kept = np.flatnonzero(known.counts)
    if not len(kept):
        raise InputError(
            f"{annotations.where}: none of its {len(annotations.names):,} annotations gives a box "
            f"of the class of one of the {len(dataset):,} images of {dataset.root}",
            "images and annotations belong together by their names",
        )
    boxless = [i for i in np.flatnonzero(known.counts == 0).tolist() if i not in unreadable]
    return WithBoxes(
        replace(dataset, boxes=known).take(kept),
        left_out=[dataset.files[index] for index in boxless],
        unreadable=[unreadable[index] for index in sorted(unreadable)],
        strangers=len(annotations.names) - len(set(found[found >= 0].tolist())),
    )


class _ClassNumbers:
    """Finds classes by their ids, or by names that only one class has."""

    def __init__(self, dataset: Dataset):
        self.root, self.classes = dataset.root, dataset.classes
        counts = Counter(dataset.names)
        self.numbers = {
            name: number for number, name in enumerate(dataset.names) if counts[name] == 1
        } | {id: number for number, id in enumerate(dataset.classes)}

    def number(self, marked: Marked) -> int:
        """The class of an object.

        Raises:
            InputError: If the data set has no such class.
        """
        number = self.numbers.get(marked.name)
        if number is None:
            guess = did_you_mean(marked.name, self.numbers)
            raise InputError(
                f"{marked.where}: the class {printable(marked.name)!r:.60} is none of the "
                f"{len(self.classes):,} of {self.root}{printable(guess)}",
                HINT,
            )
        return number


def _other_size(annotation: Annotation, image: str, width: int, height: int) -> str:
    assert annotation.size is not None
    stated = f"{annotation.size[0]} x {annotation.size[1]} pixels"
    turned = annotation.size == (height, width)
    advice = (
        "the image is turned: mark boxes in the image as it is decoded, or change whether its EXIF "
        "rotation is applied"
        if turned
        else "take the annotation of this image, or the image that was annotated"
    )
    return (
        f"{annotation.where}: is of an image of {stated}, and {printable(image)} has {width} x "
        f"{height}; {advice}"
    )


def _checked(marked: Marked, convention: str, width: int, height: int) -> np.ndarray:
    """(4,) float64 edges inside the image.

    Raises:
        InputError: If the box is empty or leaves the image.
    """
    box = np.array(marked.corners) + CONVENTIONS[convention]
    written = ", ".join(f"{number:g}" for number in marked.corners)
    if not np.isfinite(box).all():
        raise InputError(f"{marked.where}: its box {written} is not four finite numbers", HINT)
    if box[2] <= box[0] or box[3] <= box[1]:
        raise InputError(
            f"{marked.where}: its box {written} (xmin, ymin, xmax, ymax) holds no pixel", HINT
        )
    limits = np.array([width, height, width, height])
    if (box < -TOLERANCE).any() or (box > limits + TOLERANCE).any():
        raise InputError(
            f"{marked.where}: its box {written} leaves the image of {width} x {height} pixels", HINT
        )
    inside: np.ndarray = np.clip(box, 0, limits)
    if inside[2] <= inside[0] or inside[3] <= inside[1]:
        raise InputError(
            f"{marked.where}: its box {written} lies outside the image of {width} x {height} "
            "pixels",
            HINT,
        )
    return inside
