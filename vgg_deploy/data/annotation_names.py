"""Matches annotations with images by their names.

Both are paths without a suffix. They belong together if the last parts are equal. Where several
fit, the one that shares more folders counts, from the last one upwards: `cat/0001` is that of
`train/cat/0001`, not of `train/dog/0001`.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from vgg_deploy.data.directory import SUFFIXES
from vgg_deploy.errors import InputError
from vgg_deploy.printable import printable


def image_name(file: str) -> str:
    """A path without the suffix of an image, if it has one.

    Example:
        >>> image_name("train/n01440764/n01440764_10026.JPEG"), image_name("a.b")
        ('train/n01440764/n01440764_10026', 'a.b')
    """
    stem, dot, suffix = file.rpartition(".")
    return stem if f"{dot}{suffix}".lower() in SUFFIXES else file


def match_names(files: Sequence[str], names: Sequence[str], where: str) -> np.ndarray:
    """Find the annotation of each image.

    Args:
        files: Of the images, with suffix.
        names: Of the annotations, without.
        where: Names the annotations in errors.

    Returns:
        (files,) int64, index into `names`; -1 without one.

    Raises:
        InputError: If two annotations fit an image equally well, or the other way round.
    """
    of_stem: dict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(names):
        of_stem[name.rpartition("/")[2]].append(index)
    found = np.full(len(files), -1, np.int64)
    taken: dict[int, tuple[int, int]] = {}  # annotation: its image, and the parts that they share
    for image, file in enumerate(files):
        path = image_name(file)
        candidates = of_stem.get(path.rpartition("/")[2])
        if not candidates:
            continue
        shared = [_shared_parts(path, names[candidate]) for candidate in candidates]
        most = max(shared)
        best = [one for one, parts in zip(candidates, shared, strict=True) if parts == most]
        if len(best) > 1:
            first, second = (printable(names[one]) for one in best[:2])
            raise InputError(
                f"{where}: {first} and {second} both may be the annotation of {printable(file)}",
                "keep one of them",
            )
        (one,) = best
        other, parts = taken.get(one, (-1, 0))
        if parts == most:
            raise InputError(
                f"{where}: {printable(names[one])} may be the annotation of "
                f"{printable(files[other])} and of {printable(file)}",
                "name the folder of the image too, such as CLASS/IMAGE",
            )
        if parts > most:
            continue
        if other >= 0:
            found[other] = -1
        found[image], taken[one] = one, (image, most)
    return found


def _shared_parts(one: str, other: str) -> int:
    """How many parts of two paths are equal, from the last one upwards."""
    pairs = zip(reversed(one.split("/")), reversed(other.split("/")), strict=False)
    count = 0
    for first, second in pairs:
        if first != second:
            break
        count += 1
    return count
