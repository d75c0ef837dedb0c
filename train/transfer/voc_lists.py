"""Reads which images of Pascal VOC show which classes, from a folder as it is downloaded.

    VOCdevkit/VOC2007/ImageSets/Main/aeroplane_trainval.txt    000005 -1
    VOCdevkit/VOC2007/ImageSets/Main/trainval.txt              000005
    VOCdevkit/VOC2007/Annotations/000005.xml

In the lists of a class 1 stands for images that show it, -1 for others, and 0 for images that show
it only in objects marked as difficult. Where a set has no such lists, its labels are counted in the
annotations.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from train.transfer.average_precision import DIFFICULT, NEGATIVE, POSITIVE
from train.transfer.request import SETS
from vgg_deploy.data.directory import entries
from vgg_deploy.data.voc_xml import VocAnnotation, read_voc
from vgg_deploy.errors import InputError
from vgg_deploy.progress import progress
from vgg_deploy.regular_files import is_regular, read_regular_text

LIST = re.compile(rf"(.+)_({'|'.join(SETS)})\.txt")
YEAR = re.compile(r"VOC\d{4}")
IMAGE = re.compile(r"[\w-][\w.-]{0,199}")  # nothing that leads to another folder
LABELS = {"1": POSITIVE, "0": DIFFICULT, "-1": NEGATIVE}
MOST_LABELS = 10**9  # images times classes
HINT = "download it again"


@dataclass(frozen=True, eq=False)
class ImageSet:
    """The images of one set.

    Attributes:
        name: One of SETS.
        ids: Names of the images without suffix, different from each other.
        labels: (ids, classes) int8: 1, 0 or -1 as in the lists.
        source: "ImageSets" or "Annotations".
    """

    name: str
    ids: tuple[str, ...]
    labels: np.ndarray
    source: str


@dataclass(frozen=True, eq=False)
class VocTruth:
    """Sets for training and testing.

    Attributes:
        root: Such as VOCdevkit/VOC2007.
        classes: Names, sorted.
        train: The set to learn from.
        test: The set that is scored.
    """

    root: Path
    classes: tuple[str, ...]
    train: ImageSet
    test: ImageSet


def is_voc(folder: Path) -> bool:
    """Whether a folder, or one inside that a download makes, is Pascal VOC's."""
    return bool(_roots(folder))


def read_truth(folder: Path, train: str | None, test: str | None) -> VocTruth:
    """Read the labels of two sets.

    Args:
        folder: VOC2007, or a folder above it that has no other year.
        train: One of SETS; None for trainval if the images of test have labels, else for train.
        test: One of SETS; None for test if its images have labels, else for val.

    Raises:
        InputError: If a list or an annotation is missing, damaged or contradicts another, or if
            the two sets share images.
    """
    roots = _roots(folder)
    if len(roots) != 1:
        found = " and ".join(root.name for root in roots) or "no folder ImageSets/Main"
        raise InputError(
            f"{folder}: contains {found}, expected one folder such as VOC2007", about="annotations"
        )
    reader = _Reader(roots[0])
    if test is None:
        test = "test" if reader.is_labelled("test") else "val"
    if train is None:
        train = "train" if test == "val" else "trainval"
    first, second = reader.images(train), reader.images(test)
    if shared := sorted(first.keys() & second.keys()):
        raise InputError(
            f"{reader.main}: {shared[0]} is in {train} and in {test}; choose sets that share no "
            "images",
            about="sets",
        )
    classes = tuple(sorted({name for labels in first.values() for name in labels}))
    return VocTruth(
        reader.root,
        classes,
        reader.image_set(train, first, classes),
        reader.image_set(test, second, classes),
    )


class _Reader:
    """Reads the sets of one folder.

    Attributes:
        root: Such as VOC2007.
        main: Its folder of lists.
        lists: The lists of classes, by set and class.
    """

    def __init__(self, root: Path):
        self.root, self.main = root, root / "ImageSets" / "Main"
        self.lists: dict[str, dict[str, Path]] = {}
        for entry in entries(self.main):
            if match := LIST.fullmatch(entry.name):
                self.lists.setdefault(match[2], {})[match[1]] = Path(entry.path)

    def is_labelled(self, name: str) -> bool:
        """Whether the classes of a set's images are known; the test sets since 2008 are secret."""
        if name in self.lists:
            return True
        path = self.main / f"{name}.txt"
        if not is_regular(path):
            return False
        first = next(_rows(path, 1), None)
        return first is not None and is_regular(self._annotation(first[0]))

    def images(self, name: str) -> dict[str, dict[str, int]]:
        """The labels of a set by image and class.

        Raises:
            InputError: As `read_truth`.
        """
        if name in self.lists:
            return self._from_lists(name)
        if not self.is_labelled(name):
            known = ", ".join(s for s in SETS if self.is_labelled(s)) or "none"
            raise InputError(
                f"{self.main}: has no labels of the set {name}; sets with labels: {known}",
                about="sets",
            )
        return self._from_annotations(self.main / f"{name}.txt")

    def image_set(
        self, name: str, images: dict[str, dict[str, int]], classes: Sequence[str]
    ) -> ImageSet:
        """The labels of a set as an array.

        Raises:
            InputError: If it is empty or has other classes.
        """
        others = sorted({c for labels in images.values() for c in labels} - {*classes})
        if not images or others:
            what = (
                f"has the class {others[0]}, which the training set lacks" if others else "is empty"
            )
            raise InputError(f"{self.main}: the set {name} {what}", about="sets")
        if len(images) * len(classes) > MOST_LABELS:
            raise InputError(f"{self.main}: has more than {MOST_LABELS:,} labels")
        rows = [[labels.get(c, NEGATIVE) for c in classes] for labels in images.values()]
        source = "ImageSets" if name in self.lists else "Annotations"
        return ImageSet(name, tuple(images), np.array(rows, np.int8), source)

    def _from_lists(self, name: str) -> dict[str, dict[str, int]]:
        """Read the lists of all classes, which have the same images."""
        found: dict[str, dict[str, int]] = {}
        for number, (label, path) in enumerate(sorted(self.lists[name].items())):
            for image, words in _rows(path, 2):
                if words not in LABELS:
                    raise InputError(f"{path}: the label of {image} is {words!r:.20}", HINT)
                labels = found.setdefault(image, {}) if not number else found.get(image)
                if labels is None or label in labels:
                    wrong = "is not in the lists of other classes" if labels is None else "is twice"
                    raise InputError(f"{path}: {image} {wrong}", HINT)
                labels[label] = LABELS[words]
            for image, labels in found.items():
                if label not in labels:
                    raise InputError(f"{path}: lacks {image}, which other lists have", HINT)
        return found

    def _from_annotations(self, path: Path) -> dict[str, dict[str, int]]:
        """Read the annotations of the images of a list."""
        images = dict.fromkeys(image for image, _ in _rows(path, 1))
        found: dict[str, dict[str, int]] = {}
        with progress(f"reading {len(images)} annotations", max(1, len(images))) as bar:
            for image in images:
                found[image] = _labels(read_voc(self._annotation(image)))
                bar.advance()
        return found

    def _annotation(self, image: str) -> Path:
        return self.root / "Annotations" / f"{image}.xml"


def _labels(annotation: VocAnnotation) -> dict[str, int]:
    """The label of each class that an annotation names."""
    labels: dict[str, int] = {}
    for shown in annotation.objects:
        label = DIFFICULT if shown.difficult else POSITIVE
        labels[shown.name] = max(label, labels.get(shown.name, label))
    return labels


def _rows(path: Path, words: int) -> Iterator[tuple[str, str]]:
    """The lines of a list: an image, and what follows it.

    Raises:
        InputError: If it cannot be read, or has other lines.
    """
    try:
        text = read_regular_text(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: cannot be read ({reason})", HINT) from None
    for number, line in enumerate(text.splitlines(), start=1):
        parts = line.split()
        if not parts:
            continue
        if len(parts) != words or not IMAGE.fullmatch(parts[0]):
            expected = "an image and 1, 0 or -1" if words > 1 else "an image"
            raise InputError(f"{path}, line {number}: is not {expected}", HINT)
        yield parts[0], parts[-1] if words > 1 else ""


def _roots(folder: Path) -> list[Path]:
    """Folders with ImageSets/Main: this one, else those of the years in it or in its VOCdevkit."""
    if (folder / "ImageSets" / "Main").is_dir():
        return [folder]
    for above in (folder, folder / "VOCdevkit"):
        if above.is_dir():
            years = [Path(entry.path) for entry in entries(above) if YEAR.fullmatch(entry.name)]
            if found := [year for year in years if (year / "ImageSets" / "Main").is_dir()]:
                return found
    return []
