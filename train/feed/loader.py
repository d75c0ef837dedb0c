"""Loads training batches in worker processes; batches do not depend on the number of workers."""

import ctypes
from collections.abc import Callable, Iterator
from multiprocessing import sharedctypes

import torch
from torch.utils.data import DataLoader

from train.feed.anonymous_memory import SentBatch
from train.feed.epoch_order import EpochBatches
from train.feed.loader_workers import Workers, collate_to_send, to_send, workers_of_loader
from train.feed.patient_loader import PatientLoader
from train.feed.streamed_views import StreamedViews, whole_batches
from train.feed.views import TrainBatch, Views
from vgg_deploy.data.decode_pool import USUAL
from vgg_deploy.data.patience import POLL, Patience


class Batches(Iterator[TrainBatch]):
    """Training batches; `close` ends the processes that load them."""

    def __init__(self, batches: Iterator[TrainBatch], close: Callable[[], object]):
        self.batches, self.close = batches, close

    def __next__(self) -> TrainBatch:
        return next(self.batches)


def train_batches(
    views: Views,
    begin: int,
    workers: int,
    pin: bool,
    rank: int = 0,
    world: int = 1,
    patience: Patience = USUAL,
) -> Batches:
    """Load this process's batches to the end of the last epoch, without a gap between epochs.

    Args:
        views: Of the training images.
        begin: First step, counted over the run from 0.
        workers: Loader processes of this process; 0 loads in the process itself.
        pin: Whether to copy batches to page-locked memory, for a GPU.
        rank: This process, from 0.
        world: Number of processes.
        patience: How to wait for the loader processes.

    Returns:
        Batches; all processes together see what one alone would. `next` raises StopWaiting after a
        signal, and CheckFailed when no batch comes within the patience.
    """
    if views.dataset.packed:
        workers = min(workers, views.config.streams // world)
    opened = sharedctypes.RawArray(ctypes.c_int64, workers)
    views.opened = opened

    def opened_last(worker: int) -> str:
        index = opened[worker] - 1
        name = views.dataset.where(index) if index >= 0 else "none yet"
        return f"image opened last: {name}"

    if views.dataset.packed:
        loader = _streaming(StreamedViews(views, begin, rank, world), workers_of_loader(workers))
        parts = PatientLoader(loader, patience, opened_last)
        return Batches(whole_batches(parts, max(workers, 1), pin), parts.close)
    config = views.config
    order = EpochBatches(
        len(views.dataset), config.batch, config.epochs, config.seed, begin, rank, world
    )
    whole = PatientLoader(
        _random_access(views, order, workers_of_loader(workers), pin),
        patience,
        opened_last,
    )
    return Batches(whole, whole.close)


def _random_access(
    views: Views, order: EpochBatches, workers: Workers, pin: bool
) -> "DataLoader[TrainBatch]":
    """Reads images that are files, in any order."""
    return DataLoader(
        views,  # type: ignore[arg-type]  # the type of a loader is taken for that of an item
        batch_sampler=order,
        collate_fn=collate_to_send,
        pin_memory=pin,
        num_workers=workers.count,
        multiprocessing_context=workers.context,
        worker_init_fn=workers.start,
        generator=_own_generator(),
        timeout=POLL if workers.count else 0,
    )


def _streaming(parts: StreamedViews, workers: Workers) -> "DataLoader[TrainBatch | str]":
    """Reads images that lie in shards, forward only."""
    return DataLoader(
        parts,
        batch_size=None,
        collate_fn=_part_to_send,  # type: ignore[arg-type]  # gets one item with batch_size=None
        num_workers=workers.count,
        multiprocessing_context=workers.context,
        worker_init_fn=workers.start,
        generator=_own_generator(),
        timeout=POLL if workers.count else 0,
    )


def _part_to_send(part: TrainBatch | str) -> TrainBatch | SentBatch | str:
    return to_send(part) if isinstance(part, TrainBatch) else part


def _own_generator() -> torch.Generator:
    """A run must not depend on how often somebody asked the shared generator."""
    return torch.Generator()
