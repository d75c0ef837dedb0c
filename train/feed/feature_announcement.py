"""States how large the features of a frozen trunk are and how long they take, before they begin."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import InputError
from vgg_deploy.images.decode import resized
from vgg_deploy.progress import clock

TRIAL_IMAGES = 4  # that are decoded to see how long it takes
MORE_SPACE = "make space, or set VGG_DEPLOY_CACHE to a folder with more, then run again"


class Announcement(NamedTuple):
    """What is announced.

    Attributes:
        kind: "training" or "validation".
        images: All of them.
        done: How many an earlier run has done.
        size: Bytes of all features.
        path: Of their file.
        seconds: How long the rest takes.
    """

    kind: str
    images: int
    done: int
    size: int
    path: Path
    seconds: float

    def print(self, log: Callable[[str], None], free: int) -> None:
        """Print it, and check that there is space for the rest.

        Args:
            log: Prints a line.
            free: Bytes of the disk.

        Raises:
            InputError: The disk has less space.
        """
        kept = f", {self.done} of them by an earlier run" if self.done else ""
        log(
            f"Features of {self.images} {self.kind} images are computed once and kept: about "
            f"{self.size / 1e6:,.1f} MB in {self.path.parent}{kept}; about {clock(self.seconds)} "
            "to go. A run that is stopped goes on from what was finished"
        )
        needed = self.size * (self.images - self.done) // self.images
        if needed > free:
            raise InputError(
                f"{self.path.parent}: {needed / 1e6:,.1f} MB are needed for features and "
                f"{free / 1e6:,.1f} MB are free; {MORE_SPACE}"
            )


def seconds_per_image(
    dataset: Dataset,
    pool5: Callable[[np.ndarray], Tensor],
    shape: tuple[int, int, int],
    side: int,
    filter: str,
    processes: int,
) -> float:
    """Try how long an image takes: a few are decoded, and the trunk sees blank ones.

    Args:
        dataset: The images.
        pool5: The trunk, see `trunk_of`.
        shape: (N, height, width) of the pixels that it gets at once.
        side: S or Q, pixels.
        filter: Pillow's name of the resampling filter, lower case.
        processes: That decode.

    Returns:
        Seconds; as if decoding and the trunk took turns, which is the most that it can be.
    """
    chosen = sorted({i * len(dataset) // TRIAL_IMAGES for i in range(TRIAL_IMAGES)})
    start = time.perf_counter()
    for index in chosen:
        try:
            resized(dataset.image(index), side, filter)
        except InputError:  # reported when the features are computed
            continue
    decoding = (time.perf_counter() - start) / len(chosen) / processes
    count, height, width = shape
    blank = np.zeros((count, 3, height, width), np.uint8)
    pool5(blank).cpu()  # the first is slower
    start = time.perf_counter()
    pool5(blank).cpu()
    return decoding + (time.perf_counter() - start) / count
