"""Decides in which order training reads tar shards, computed from seed and epoch only.

In every epoch the shards are put in a new order. The images in this order are cut into `streams`
lanes of equal length. Each lane is read forward by itself, and within its lane an image moves by
less than buffer / streams positions. A batch takes the same number from every lane. Which processes
read which lanes therefore changes nothing, and reading can start at any step.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vgg_deploy.data.packed import Packed
from vgg_deploy.errors import InputError


@dataclass(frozen=True)
class ShardOrder:
    """How an epoch is cut and shuffled.

    Attributes:
        packed: Where the images lie.
        streams: Number of lanes.
        buffer: Images held to be drawn from, in all lanes together.
        seed: Of the order, together with the epoch.
    """

    packed: Packed
    streams: int
    buffer: int
    seed: int

    @property
    def length(self) -> int:
        """Images per lane; fewer than `streams` are left over, different ones in each epoch."""
        return len(self.packed.shard) // self.streams

    @cached_property
    def bounds(self) -> np.ndarray:
        """(shards + 1,) int64: index of the first image of each shard, and the end."""
        changes = np.flatnonzero(np.diff(self.packed.shard)) + 1
        return np.concatenate([[0], changes, [len(self.packed.shard)]])

    def reading(self, lane: int, epoch: int) -> np.ndarray:
        """The images of a lane in the order in which they lie in the shuffled shards.

        Returns:
            (length,) int64, indices of images.
        """
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.bounds) - 1)
        # position in the epoch at which each shard of this order ends
        ends = np.cumsum(np.diff(self.bounds)[order])
        first, last = lane * self.length, (lane + 1) * self.length
        first_shard = int(np.searchsorted(ends, first, "right"))
        last_shard = int(np.searchsorted(ends, last))
        parts = []
        for shard in range(first_shard, last_shard + 1):
            begin = ends[shard - 1] if shard else 0
            index_minus_position = self.bounds[order[shard]] - begin
            positions = np.arange(max(first, begin), min(last, ends[shard]))
            parts.append(positions + index_minus_position)
        return np.concatenate(parts)

    def shuffled(self, lane: int, epoch: int) -> np.ndarray:
        """The order in which the images of a lane are given out.

        Returns:
            (length,) int64, positions in `reading`.
        """
        spread = self.buffer / self.streams
        drawn = np.random.default_rng((self.seed, epoch, lane, 2)).uniform(0, spread, self.length)
        return np.argsort(np.arange(self.length) + drawn, kind="stable")


class Lane:
    """One lane of one epoch, as an iterator.

    It yields an image's index and its stored bytes, or what is wrong with it.
    """

    def __init__(
        self,
        shard_order: ShardOrder,
        lane: int,
        epoch: int,
        begin: int,
        end: int,
        where: Callable[[int], str],
    ):
        """Open a part of a lane.

        Args:
            shard_order: How the epoch is cut and shuffled.
            lane: Its number.
            epoch: From 0.
            begin: First of the lane's images to give out, in the order of `shuffled`.
            end: One past the last.
            where: Returns the name of an image for messages.
        """
        order = shard_order.shuffled(lane, epoch)
        # when the image at each position of the reading is given out
        due = np.empty(len(order), np.int64)
        due[order] = np.arange(len(order))
        needed = np.flatnonzero((due >= begin) & (due < end))
        # iterated as an array: a list of its numbers would take five times the memory
        self._due = iter(due[needed])
        self._stream = shard_order.packed.stream(shard_order.reading(lane, epoch)[needed], where)
        self._next = begin
        # images read too early, by when they are due; fewer than buffer / streams
        self.waiting: dict[int, tuple[int, bytes | InputError]] = {}

    def __iter__(self) -> "Lane":
        return self

    def __next__(self) -> tuple[int, bytes | InputError]:
        while self._next not in self.waiting:
            self.waiting[int(next(self._due))] = next(self._stream)
        image = self.waiting.pop(self._next)
        self._next += 1
        return image
