"""The order in which training reads tar shards: arithmetic of seed and epoch, so that any step of it can be gone to.

Every epoch the shards are put in a new order. The images in this order are cut into `streams` lanes of equal length, each
read forward by itself, and within its lane an image moves by less than buffer / streams places. A batch takes the same
number from every lane. Which processes read which lanes therefore changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vgg_deploy.data.packed import Packed
from vgg_deploy.errors import InputError


@dataclass(frozen=True)
class ShardOrder:
    """How an epoch is cut and shuffled."""

    packed: Packed
    streams: int
    buffer: int  # images of all lanes together
    seed: int

    @property
    def length(self) -> int:
        """Images of a lane; fewer than `streams` are left over, others each epoch."""
        return len(self.packed.shard) // self.streams

    @cached_property
    def bounds(self) -> np.ndarray:
        """Where each shard's images begin, and the end."""
        return np.concatenate(
            [[0], np.flatnonzero(np.diff(self.packed.shard)) + 1, [len(self.packed.shard)]]
        )

    def reading(self, lane: int, epoch: int) -> np.ndarray:
        """(length,) int64: the lane's images in the order in which they lie in the shuffled shards."""
        bounds = self.bounds
        order = np.random.default_rng((self.seed, epoch)).permutation(len(bounds) - 1)
        ends = np.cumsum(np.diff(bounds)[order])
        first, last = lane * self.length, (lane + 1) * self.length
        parts = []
        for run in range(
            int(np.searchsorted(ends, first, "right")), int(np.searchsorted(ends, last)) + 1
        ):
            begin = bounds[order[run]] - (
                ends[run - 1] if run else 0
            )  # image = begin + place in the epoch
            parts.append(
                np.arange(max(first, ends[run - 1] if run else 0), min(last, ends[run])) + begin
            )
        return np.concatenate(parts)

    def shuffled(self, lane: int, epoch: int) -> np.ndarray:
        """(length,) int64: places in `reading`, in the order in which they are given out."""
        spread = self.buffer / self.streams
        drawn = np.random.default_rng((self.seed, epoch, lane, 2)).uniform(0, spread, self.length)
        return np.argsort(np.arange(self.length) + drawn, kind="stable")


class Lane:
    """One lane of one epoch, as an iterator over (image, what is stored or what is wrong with it)."""

    def __init__(
        self,
        lanes: ShardOrder,
        lane: int,
        epoch: int,
        begin: int,
        end: int,
        where: Callable[[int], str],
    ):
        """Args: begin and end, which images to give out, of the lane's; where, an image's name for messages."""
        order = lanes.shuffled(lane, epoch)
        due = np.empty(
            len(order), np.int64
        )  # when the image in a place of the reading is given out
        due[order] = np.arange(len(order))
        needed = np.flatnonzero((due >= begin) & (due < end))
        self.due, self.next = (
            iter(due[needed]),
            begin,
        )  # not as a list, whose numbers would take five times the memory
        self.stream = lanes.packed.stream(lanes.reading(lane, epoch)[needed], where)
        self.held: dict[
            int, tuple[int, bytes | InputError]
        ] = {}  # by when they are due; fewer than buffer / streams

    def __iter__(self) -> "Lane":
        return self

    def __next__(self) -> tuple[int, bytes | InputError]:
        while self.next not in self.held:
            self.held[int(next(self.due))] = next(self.stream)
        self.next += 1
        return self.held.pop(self.next - 1)
