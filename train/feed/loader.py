"""Loads training batches in worker processes; batches do not depend on the number of workers."""

from collections.abc import Iterator

import torch
from torch.utils.data import DataLoader

from train.feed.epoch_order import EpochBatches
from train.feed.loader_workers import (
    Workers,
    collate_shared,
    share_from_worker,
    signals_blocked,
    workers_of_loader,
)
from train.feed.streamed_views import StreamedViews, whole_batches
from train.feed.views import TrainBatch, Views


def train_batches(
    views: Views, begin: int, workers: int, pin: bool, rank: int = 0, world: int = 1
) -> Iterator[TrainBatch]:
    """Load this process's batches to the end of the last epoch, without a gap between epochs.

    Args:
        views: Of the training images.
        begin: First step, counted over the run from 0.
        workers: Loader processes of this process; 0 loads in the process itself.
        pin: Whether to copy batches to page-locked memory, for a GPU.
        rank: This process, from 0.
        world: Number of processes.

    Returns:
        Batches; all processes together see what one alone would.
    """
    if views.dataset.packed:
        workers = min(workers, views.config.streams // world)
        parts = _streaming(StreamedViews(views, begin, rank, world), workers_of_loader(workers))
        with signals_blocked():
            started = iter(parts)
        return whole_batches(started, max(workers, 1), pin)
    config = views.config
    order = EpochBatches(
        len(views.dataset), config.batch, config.epochs, config.seed, begin, rank, world
    )
    loader = _random_access(views, order, workers_of_loader(workers), pin)
    with signals_blocked():
        return iter(loader)


def _random_access(
    views: Views, order: EpochBatches, workers: Workers, pin: bool
) -> "DataLoader[TrainBatch]":
    """Reads images that are files, in any order."""
    return DataLoader(
        views,  # type: ignore[arg-type]  # the type of a loader is taken for that of an item
        batch_sampler=order,
        collate_fn=collate_shared,
        pin_memory=pin,
        num_workers=workers.count,
        multiprocessing_context=workers.context,
        worker_init_fn=workers.start,
        generator=_own_generator(),
    )


def _streaming(parts: StreamedViews, workers: Workers) -> "DataLoader[TrainBatch | str]":
    """Reads images that lie in shards, forward only."""
    return DataLoader(
        parts,
        batch_size=None,
        collate_fn=_shared_part,  # type: ignore[arg-type]  # gets one item with batch_size=None
        num_workers=workers.count,
        multiprocessing_context=workers.context,
        worker_init_fn=workers.start,
        generator=_own_generator(),
    )


def _shared_part(part: TrainBatch | str) -> TrainBatch | str:
    if isinstance(part, TrainBatch):
        share_from_worker(part)
    return part


def _own_generator() -> torch.Generator:
    """A run must not depend on how often somebody asked the shared generator."""
    return torch.Generator()
