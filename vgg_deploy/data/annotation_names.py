"""Matches annotations with images by their names.

Both are paths without a suffix. They belong together if the last parts are equal. Where several
fit, the one that shares more folders counts, from the last one upwards: `cat/0001` is that of
`train/cat/0001`, not of `train/dog/0001`.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence

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

    The two belong together if neither shares more of its path with another one.

    Args:
        files: Of the images, with suffix.
        names: Of the annotations, without.
        where: Names the annotations in errors.

    Returns:
        (files,) int64, index into `names`; -1 without one.

    Raises:
        InputError: If two annotations fit an image equally well, or the other way round.
    """
    paths = [image_name(file) for file in files]
    ends_of_images = {end for path in paths for end in _ends(path)}
    with_end: dict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(names):
        longest = next((end for end in _ends(name) if end in ends_of_images), None)
        if longest is not None:
            with_end[longest].append(index)
    found = np.full(len(files), -1, np.int64)
    image_of: dict[int, int] = {}
    for image, path in enumerate(paths):
        candidates = next((with_end[end] for end in _ends(path) if end in with_end), [])
        if len(candidates) > 1:
            first, second = (printable(names[one]) for one in candidates[:2])
            raise InputError(
                f"{where}: {first} and {second} both may be the annotation of "
                f"{printable(files[image])}",
                "keep one of them",
            )
        for one in candidates:
            if one in image_of:
                raise InputError(
                    f"{where}: {printable(names[one])} may be the annotation of "
                    f"{printable(files[image_of[one]])} and of {printable(files[image])}",
                    "name the folder of the image too, such as CLASS/IMAGE",
                )
            found[image], image_of[one] = one, image
    return found


def _ends(path: str) -> Iterator[str]:
    """A path, and what is left of it without its first folder, and so on to its last part."""
    yield path
    for at, char in enumerate(path):
        if char == "/":
            yield path[at + 1 :]
