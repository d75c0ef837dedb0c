"""Collects images of equal size in batches. Each is decoded once and never padded."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.decode_pool import USUAL, Scale, decoded
from vgg_deploy.data.patience import Patience
from vgg_deploy.data.remote import Unreachable
from vgg_deploy.errors import InputError

# Images that wait for others of their size; above this, the largest group is released early
MOST_WAITING_BYTES = 512 * 2**20

Allocator = Callable[[tuple[int, ...]], np.ndarray]  # allocates uint8 of a shape


class Batch(NamedTuple):
    """Whole images of one size."""

    scale: Scale
    indices: np.ndarray  # (N,) int64, of the images in the data set
    images: np.ndarray  # (N, 3, h, w) uint8 RGB, min(h, w) == scale.side


class _Size(NamedTuple):
    """What the images of a batch have in common."""

    scale: Scale
    height: int
    width: int


class _Waiting:
    """Images that wait for others of their size."""

    def __init__(self, allocate: Allocator):
        self.allocate = allocate
        self.images: dict[_Size, list[tuple[int, np.ndarray]]] = {}
        self.bytes = 0

    def add(self, size: _Size, index: int, image: np.ndarray) -> int:
        """Copy an image; return how many of its size now wait."""
        waiting = self.images.setdefault(size, [])
        waiting.append((index, image.copy()))
        self.bytes += image.size
        return len(waiting)

    def release(self, size: _Size) -> Batch:
        """Make a batch of all images of a size."""
        indices, images = zip(*self.images.pop(size), strict=True)
        self.bytes -= sum(image.size for image in images)
        memory = self.allocate((len(images), *images[0].shape))
        return Batch(size.scale, np.array(indices), np.stack(images, out=memory))

    def fullest(self) -> _Size:
        """The size with the most waiting images."""
        return max(self.images, key=lambda size: len(self.images[size]))


def plain_memory(shape: tuple[int, ...]) -> np.ndarray:
    """Allocate ordinary memory: uint8 of this shape, not initialised."""
    return np.empty(shape, np.uint8)


def size_batches(
    dataset: Dataset,
    wanted: Mapping[Scale, np.ndarray],
    batch: int,
    decoders: int,
    on_bad: Callable[[int, InputError], None] | None = None,
    allocate: Allocator = plain_memory,
    patience: Patience = USUAL,
) -> Iterator[Batch]:
    """Yield every image once at every scale that it is selected for. It is decoded once.

    Batches depend on the order of the data set only, not on timing.

    Args:
        dataset: The images.
        wanted: For each scale, (images,) bool.
        batch: Largest number of images per batch.
        decoders: Processes that work ahead.
        on_bad: Called with the index and the error of an unreadable image, which is then skipped.
            Without it the error is raised.
        allocate: Makes the memory of a batch.
        patience: How to wait for the decoders.

    Yields:
        Batches of one scale, height and width.

    Raises:
        InputError: For an unreadable image, without `on_bad`.
        Unreachable: For a store that does not answer.
        CheckFailed: As `decoded`.
        StopWaiting: As `decoded`.
    """
    waiting = _Waiting(allocate)
    for index, scaled in decoded(dataset, wanted, decoders, patience):
        if isinstance(scaled, InputError):
            if on_bad is None or isinstance(scaled, Unreachable):
                raise scaled
            on_bad(index, scaled)
            continue
        for scale, image in scaled.items():
            size = _Size(scale, *image.shape[1:])
            if waiting.add(size, index, image) == batch:
                yield waiting.release(size)
        while waiting.bytes > MOST_WAITING_BYTES:
            yield waiting.release(waiting.fullest())
    for size in list(waiting.images):
        yield waiting.release(size)
