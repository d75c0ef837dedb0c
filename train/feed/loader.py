"""Training batches: decoded and augmented by worker processes, the same for a seed however many workers there are."""

import atexit
import mmap
import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from operator import setitem
from typing import NamedTuple

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Sampler, get_worker_info
from torch.utils.data import Dataset as TorchDataset

from train.feed.augment import RandomView, random_view
from train.feed.shard_order import Lane, ShardOrder
from train.recipe.config import TrainConfig
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.images.decode import read_image
from vgg_deploy.net.spec import Preprocessing


class TrainBatch(NamedTuple):
    """Views of different images."""

    crops: Tensor  # (N, 3, crop, crop) uint8 RGB
    shifts: Tensor  # (N, 3) float32, grey levels
    labels: Tensor  # (N,) int64
    rows: (
        Tensor  # (N,) int64, places in this process's share of the batch, unreadable images counted
    )
    unreadable: list[str]  # what was wrong with images left out


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """Lists of (epoch, image): every image once an epoch in a new order, the last short batch dropped.

    Each process of a job takes its rows of every batch, so that all together see what one alone would.
    """

    def __init__(
        self,
        images: int,
        batch: int,
        epochs: int,
        seed: int,
        begin: int,
        rank: int = 0,
        world: int = 1,
    ):
        self.images, self.batch, self.epochs, self.seed, self.begin = (
            images,
            batch,
            epochs,
            seed,
            begin,
        )
        self.mine = slice(rank * batch // world, (rank + 1) * batch // world)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        steps = steps_per_epoch(self.images, self.batch)
        for epoch in range(self.begin // steps, self.epochs):
            order = np.random.default_rng((self.seed, epoch)).permutation(self.images)
            first = self.begin % steps if epoch == self.begin // steps else 0
            for step in range(first, steps):
                yield [
                    (epoch, int(i))
                    for i in order[step * self.batch : (step + 1) * self.batch][self.mine]
                ]


def steps_per_epoch(images: int, batch: int) -> int:
    """Whole batches in one pass over the data."""
    if images < batch:
        raise InputError(
            f"{images} training images do not fill one batch of {batch}; lower --batch"
        )
    return images // batch


class Views(TorchDataset):
    """(epoch, image) -> one random view; the draw depends on seed, epoch and image alone, so runs can be repeated."""

    def __init__(
        self,
        dataset: Dataset,
        config: TrainConfig,
        preprocessing: Preprocessing,
        components: np.ndarray,
    ):
        self.dataset, self.config, self.components = dataset, config, components
        self.filter = preprocessing.filter

    def __getitem__(self, key: tuple[int, int]):
        epoch, index = key
        return self.draw(epoch, index, partial(self.dataset.image, index))

    def draw(
        self, epoch: int, index: int, opened: Callable[[], Image]
    ) -> tuple[RandomView, int] | str:
        """A view and its label, or what is wrong with the image: an exception would lose its plain message on the way out of a worker."""
        rng = np.random.default_rng((self.config.seed, epoch, index, 1))
        try:
            image = opened()
        except InputError as error:
            return error.what
        view = random_view(
            image,
            self.config.crop,
            self.config.side,
            self.filter,
            self.components,
            self.config.colour_shift,
            rng,
        )
        return view, int(self.dataset.labels[index])


class StreamedViews(IterableDataset):
    """This process's or loader process's rows of every batch, read from shards in a stream: a TrainBatch a step.

    An error is yielded as its message, for the same reason as in `Views.draw`.
    """

    def __init__(self, views: Views, begin: int, rank: int, world: int):
        self.views, self.begin, self.rank, self.world = views, begin, rank, world

    def __iter__(self) -> Iterator[TrainBatch | str]:
        worker = get_worker_info()
        mine = range(
            self.views.config.streams // self.world * self.rank,
            self.views.config.streams // self.world * (self.rank + 1),
        )
        try:
            yield from self._batches(
                _share(mine, worker.id, worker.num_workers) if worker else mine
            )
        except InputError as error:
            yield error.what

    def _batches(self, mine: range) -> Iterator[TrainBatch]:
        dataset, config = self.views.dataset, self.views.config
        lanes, steps = (
            ShardOrder(dataset.packed, config.streams, config.shuffle_buffer, config.seed),
            steps_per_epoch(len(dataset), config.batch),
        )
        share = config.batch // config.streams
        for epoch in range(self.begin // steps, config.epochs):
            first = self.begin % steps if epoch == self.begin // steps else 0
            running = [
                Lane(lanes, lane, epoch, first * share, steps * share, dataset.where)
                for lane in mine
            ]
            for _ in range(first, steps):
                yield collate(
                    [self._example(epoch, *next(lane)) for lane in running for _ in range(share)]
                )

    def _example(
        self, epoch: int, index: int, data: bytes | InputError
    ) -> tuple[RandomView, int] | str:
        if isinstance(data, InputError):
            return data.message
        return self.views.draw(
            epoch, index, partial(read_image, BytesIO(data), self.views.dataset.where(index))
        )


def collate(examples: list) -> TrainBatch:
    """Stack what could be read."""
    rows = [row for row, e in enumerate(examples) if not isinstance(e, str)]
    unreadable = [e for e in examples if isinstance(e, str)]
    if not rows:
        none = torch.empty(0, dtype=torch.int64)
        return TrainBatch(torch.empty(0), torch.empty(0), none, none, unreadable)
    read = [examples[row] for row in rows]
    crops = torch.stack([view.crop for view, _ in read])
    shifts = torch.from_numpy(np.stack([view.shift for view, _ in read]))
    return TrainBatch(
        crops, shifts, torch.tensor([label for _, label in read]), torch.tensor(rows), unreadable
    )


def train_batches(
    views: Views, begin: int, workers: int, pin: bool, rank: int = 0, world: int = 1
) -> Iterator[TrainBatch]:
    """This process's batches of step `begin` and on, to the end of the last epoch, without a gap between epochs."""
    # its own generator: nothing of a run may hang on how often a shared one was asked
    atexit.register(setitem, ending := mmap.mmap(-1, 1), 0, 1)
    common = {
        "worker_init_fn": partial(_outlive_signals, ending=ending),
        "generator": torch.Generator(),
    }
    # of more workers than cores; the plan of a run says so in plain words
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    config = views.config
    if views.dataset.packed:
        workers = min(workers, config.streams // world)
        parts = DataLoader(
            StreamedViews(views, begin, rank, world),
            batch_size=None,
            num_workers=workers,
            collate_fn=_as_it_is,
            **common,
        )
        return _joined(parts, max(workers, 1), pin)
    sampler = EpochBatches(
        len(views.dataset), config.batch, config.epochs, config.seed, begin, rank, world
    )
    loader = DataLoader(
        views,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin,
        **common,
    )
    return iter(loader)


@contextmanager
def explain_lost_worker(resume_command: str) -> Iterator[None]:
    """Say what it means when PyTorch finds, in the block, that one of its loader processes is gone.

    Args: resume_command, the command that resumes the run.
    """
    try:
        yield
    except (
        RuntimeError,
        OSError,
        EOFError,
    ) as error:  # the pipe or the shared memory of a process that is gone fails in many ways
        if isinstance(error, RuntimeError) and not any(
            word in str(error) for word in ("DataLoader worker", "shared memory", "ancdata")
        ):
            raise
        signal.signal(
            signal.SIGCHLD, signal.SIG_DFL
        )  # PyTorch's handler would raise the same again, wherever the way out has come to
        raise CheckFailed(
            f"a loader process was killed ({str(error).partition('.')[0]}), perhaps for want of "
            f"memory; resume with fewer loader processes: {resume_command} --workers N"
        ) from None


def check_streams(config: TrainConfig, world: int) -> None:
    """Raises: InputError if a batch is not made of whole shares of the streams, or a process does not read whole streams."""
    if config.batch % config.streams:
        raise InputError(
            f"--batch {config.batch} cannot take the same from each of {config.streams} streams; give a multiple, or another --streams"
        )
    if config.streams % world:
        raise InputError(
            f"--streams {config.streams} cannot be shared evenly by {world} processes; give a multiple of {world}"
        )


def _share(lanes: range, worker: int, workers: int) -> range:
    """Lanes that lie together, so that the workers' parts in their order are a batch."""
    return lanes[len(lanes) * worker // workers : len(lanes) * (worker + 1) // workers]


def _joined(loader: DataLoader, workers: int, pin: bool) -> Iterator[TrainBatch]:
    """Whole batches from the workers' parts, which come in turn."""
    parts = iter(loader)
    try:
        while part := next(parts, None):
            found = (
                [part, *(next(parts) for _ in range(workers - 1))]
                if isinstance(part, TrainBatch)
                else [part]
            )
            for broken in found:
                if isinstance(broken, str):
                    raise InputError(broken)
            begins = np.cumsum([0, *(len(p.labels) + len(p.unreadable) for p in found)])
            found = [part._replace(rows=part.rows + begin) for part, begin in zip(found, begins)]
            read = [p for p in found if len(p.labels)] or found[:1]
            tensors = [
                torch.cat(column) if len(read) > 1 else column[0] for column in list(zip(*read))[:4]
            ]
            yield TrainBatch(
                *(t.pin_memory() if pin else t for t in tensors),
                [message for p in found for message in p.unreadable],
            )
    finally:
        del parts  # an error keeps this frame, and what it holds, for as long as it lives itself; the workers must end before


def _as_it_is(part: TrainBatch | str) -> TrainBatch | str:
    return part


def _outlive_signals(worker: int, ending: mmap.mmap) -> None:
    """Begin a loader's process. Ctrl-C and a scheduler's SIGTERM reach all processes; the main one alone decides what they mean.

    Args: ending, one byte that all see, set when the main process exits: from then on SIGTERM acts as usual, for Python ends by it what is
        left. Unlike an Event it has no lock, which a process that is killed would leave taken.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda signum, frame: os._exit(0) if ending[0] else None)
    torch.set_num_threads(1)
