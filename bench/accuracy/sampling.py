"""In which order images are scored when scoring may stop early, and when it is looked at."""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np

SEED = "vgg-bench order 1"  # change the number, and every data set gets another order
FIRST = 40  # images before the first look
GROWTH = 1 / 8  # of the images scored so far, from one look to the next


def fixed_order(files: Sequence[str]) -> np.ndarray:
    """Positions of the files in a random order that depends on their names alone.

    Files are listed by class; the first images of the list would say little about the others. The
    order is that of a hash of each name, so it is the same in every run and every process, and a
    file that is added moves no other.

    Returns:
        (files,) int64, a permutation.
    """
    keys = [
        hashlib.sha256(f"{SEED}\0{file}".encode("utf-8", "surrogateescape")).digest()
        for file in files
    ]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)


def looks(images: int) -> Iterator[int]:
    """Numbers of images after which the verdicts are looked at, up to all of them."""
    count = min(FIRST, images)
    while count < images:
        yield count
        count = min(images, count + max(16, int(count * GROWTH)))
    yield images
