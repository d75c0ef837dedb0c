"""Builds training batches from tar shards, which are read forward only."""

from collections.abc import Iterator
from functools import partial
from io import BytesIO

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from train.feed.epoch_order import first_step, steps_per_epoch
from train.feed.shard_order import Lane, ShardOrder
from train.feed.views import Example, TrainBatch, Views, collate
from train.recipe.config import TrainConfig
from vgg_deploy.errors import InputError
from vgg_deploy.images.decode import read_image


class StreamedViews(IterableDataset[TrainBatch | str]):
    """Yields one worker's rows of every batch of this process.

    A batch takes the same number of images from each lane. The workers of a process read lanes that
    lie together, so `whole_batches` only has to concatenate their parts.
    """

    def __init__(self, views: Views, begin: int, rank: int, world: int):
        """Choose the batches.

        Args:
            views: Of a data set in shards.
            begin: First step, counted over the run from 0.
            rank: This process, from 0.
            world: Number of processes.
        """
        self.views, self.begin, self.rank, self.world = views, begin, rank, world

    def __iter__(self) -> Iterator[TrainBatch | str]:
        """Yield the parts of all batches; an error as its message, as in `Views.draw`."""
        per_process = self.views.config.streams // self.world
        lanes = range(per_process * self.rank, per_process * (self.rank + 1))
        worker = get_worker_info()
        if worker:
            lanes = _share(lanes, worker.id, worker.num_workers)
        try:
            yield from self._parts(lanes)
        except InputError as error:
            yield error.what

    def _parts(self, lane_numbers: range) -> Iterator[TrainBatch]:
        dataset, config = self.views.dataset, self.views.config
        if dataset.packed is None:
            raise ValueError(f"{dataset.root} is not in shards")
        order = ShardOrder(dataset.packed, config.streams, config.shuffle_buffer, config.seed)
        steps = steps_per_epoch(len(dataset), config.batch)
        per_lane = config.batch // config.streams
        for epoch in range(self.begin // steps, config.epochs):
            first = first_step(self.begin, epoch, steps)
            lanes = [
                Lane(order, number, epoch, first * per_lane, steps * per_lane, dataset.where)
                for number in lane_numbers
            ]
            for _ in range(first, steps):
                yield collate(
                    [self._example(epoch, *next(lane)) for lane in lanes for _ in range(per_lane)]
                )

    def _example(self, epoch: int, index: int, data: bytes | InputError) -> Example:
        if isinstance(data, InputError):
            return data.message
        open_image = partial(read_image, BytesIO(data), self.views.dataset.where(index))
        return self.views.draw(epoch, index, open_image)


def check_streams(config: TrainConfig, world: int) -> None:
    """Check that the streams divide the batch, and the processes the streams evenly.

    Args:
        config: With batch and streams.
        world: Number of processes.

    Raises:
        InputError: A batch does not take the same number of images from each stream, or a process
            does not read whole streams.
    """
    if config.batch % config.streams:
        raise InputError(
            f"--batch {config.batch} cannot take the same from each of {config.streams} streams; "
            "give a multiple, or another --streams"
        )
    if config.streams % world:
        raise InputError(
            f"--streams {config.streams} cannot be shared evenly by {world} processes; "
            f"give a multiple of {world}"
        )


def whole_batches(
    parts: Iterator[TrainBatch | str], workers: int, pin: bool
) -> Iterator[TrainBatch]:
    """Join the parts of each batch.

    Args:
        parts: Of `StreamedViews`, from all workers in turn.
        workers: Parts per batch.
        pin: Whether to copy the batch to page-locked memory.

    Yields:
        Batches in their order.

    Raises:
        InputError: A worker cannot continue, for example because a shard is unreachable.
    """
    try:
        for part in parts:
            batch = [_checked(part)]
            while len(batch) < workers:
                batch.append(_checked(next(parts)))
            yield _joined(batch, pin)
    finally:
        # An error keeps this frame alive; the workers must end with the loop, not with the error
        del parts


def _checked(part: TrainBatch | str) -> TrainBatch:
    if isinstance(part, str):
        raise InputError(part)
    return part


def _joined(parts: list[TrainBatch], pin: bool) -> TrainBatch:
    """One batch from the parts of all workers."""
    sizes = [len(part.labels) + len(part.unreadable) for part in parts]
    begins = np.cumsum([0, *sizes[:-1]]).tolist()
    shifted = [
        part._replace(rows=part.rows + begin) for part, begin in zip(parts, begins, strict=True)
    ]
    readable = [part for part in shifted if len(part.labels)] or shifted[:1]
    return TrainBatch(
        _column([part.crops for part in readable], pin),
        _column([part.shifts for part in readable], pin),
        _column([part.labels for part in readable], pin),
        _column([part.rows for part in readable], pin),
        [message for part in parts for message in part.unreadable],
        _column([part.boxes for part in readable], pin),
    )


def _column(tensors: list[Tensor], pin: bool) -> Tensor:
    joined = torch.cat(tensors) if len(tensors) > 1 else tensors[0]
    return joined.pin_memory() if pin else joined


def _share(lanes: range, worker: int, workers: int) -> range:
    """Lanes that lie together, so that the workers' parts in their order are a batch."""
    return lanes[len(lanes) * worker // workers : len(lanes) * (worker + 1) // workers]
