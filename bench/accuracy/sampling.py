"""The order of images when scoring may stop early, and after how many verdicts are checked."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

SEED = "vgg-bench order 1"  # another number gives every data set another order
FIRST = 40  # images before the first check
GROWTH = 1 / 8  # of the images scored so far, from one check to the next
SMALLEST_STEP = 16  # images


def fixed_order(files: Sequence[str]) -> np.ndarray:
    """A random order of files that depends on their names alone.

    Files are listed by class, so the first images of the list would say little about the others.
    The order is that of a hash of each name: it is the same in every run and every process, and a
    file that is added moves no other.

    Args:
        files: Names, relative to the data set.

    Returns:
        (files,) int64, a permutation of indices.
    """
    hashes = [
        hashlib.sha256(f"{SEED}\0{file}".encode("utf-8", "surrogateescape")).digest()
        for file in files
    ]
    return np.array(sorted(range(len(hashes)), key=hashes.__getitem__), np.int64)


def looks(images: int) -> Iterator[int]:
    """Numbers of images after which the verdicts are checked, up to all of them.

    Example:
        >>> list(looks(100))
        [40, 56, 72, 88, 100]
    """
    count = min(FIRST, images)
    while count < images:
        yield count
        count = min(images, count + max(SMALLEST_STEP, int(count * GROWTH)))
    yield images
