"""Pictures of a data set as batches of equal size: decoded once, rescaled to every Q, never padded."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.decode_pool import Scale, decoded
from vgg_deploy.data.shards import Unreachable
from vgg_deploy.errors import InputError

HELD_BYTES = (
    512 * 2**20
)  # pixels waiting for others of their size; more than this and the fullest batch goes as it is


MemoryBudget = Callable[[tuple[int, ...]], np.ndarray]  # of a shape, uint8


class Batch(NamedTuple):
    """Whole images of one size."""

    scale: Scale
    indices: np.ndarray  # (N,) positions in the data set
    images: np.ndarray  # (N, 3, h, w) uint8 RGB, min(h, w) == scale.side


def default_budget(shape: tuple[int, ...]) -> np.ndarray:
    return np.empty(shape, np.uint8)


def size_batches(
    dataset: Dataset,
    wanted: Mapping[Scale, np.ndarray],
    batch: int,
    decoders: int,
    on_bad: Callable[[int, InputError], None] | None = None,
    room: MemoryBudget = default_budget,
) -> Iterator[Batch]:
    """Every wanted image at every scale that wants it, once; an image is decoded once for all of them.

    Batches depend on the order of the data set only, not on timing.
    Args: wanted, for each scale (images,) bool; batch, most images a batch; decoders, processes working ahead; on_bad,
        called with the position and the error of an unreadable image, which is then left out. Without it the error
        is raised, and so is that of a store that cannot be reached; room, where a batch is put.
    """
    waiting: dict[tuple[Scale, int, int], list[tuple[int, np.ndarray]]] = {}
    held = 0

    def release(key: tuple[Scale, int, int]) -> Batch:
        nonlocal held
        indices, images = zip(*waiting.pop(key), strict=True)
        held -= sum(image.size for image in images)
        return Batch(
            key[0], np.array(indices), np.stack(images, out=room((len(images), *images[0].shape)))
        )

    for index, scaled in decoded(dataset, wanted, decoders):
        if isinstance(scaled, InputError):
            if on_bad is None or isinstance(scaled, Unreachable):
                raise scaled
            on_bad(index, scaled)
            continue
        for scale, image in scaled.items():
            key = (scale, *image.shape[1:])
            waiting.setdefault(key, []).append((index, image.copy()))
            held += image.size
            if len(waiting[key]) == batch:
                yield release(key)
        while held > HELD_BYTES:
            yield release(max(waiting, key=lambda k: len(waiting[k])))
    while waiting:
        yield release(next(iter(waiting)))
