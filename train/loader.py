"""Training batches: decoded and augmented by worker processes, the same for a seed however many workers there are."""

import signal
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from train.augment import random_view
from train.config import TrainConfig
from vgg_deploy.data import Dataset
from vgg_deploy.errors import InputError
from vgg_deploy.preprocess import decode
from vgg_deploy.spec import Preprocessing


class TrainBatch(NamedTuple):
    """Views of different images."""

    crops: Tensor  # (N, 3, crop, crop) uint8 RGB
    shifts: Tensor  # (N, 3) float32, grey levels
    labels: Tensor  # (N,) int64
    unreadable: list[str]  # what was wrong with images left out


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """Lists of (epoch, image): every image once an epoch in a new order, the last short batch dropped.

    Each process of a job takes its rows of every batch, so that all together see what one alone would.
    """

    def __init__(self, images: int, batch: int, epochs: int, seed: int, begin: int, rank: int = 0, world: int = 1):
        self.images, self.batch, self.epochs, self.seed, self.begin = images, batch, epochs, seed, begin
        self.mine = slice(rank * batch // world, (rank + 1) * batch // world)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        steps = steps_per_epoch(self.images, self.batch)
        for epoch in range(self.begin // steps, self.epochs):
            order = np.random.default_rng((self.seed, epoch)).permutation(self.images)
            first = self.begin % steps if epoch == self.begin // steps else 0
            for step in range(first, steps):
                yield [(epoch, int(i)) for i in order[step * self.batch : (step + 1) * self.batch][self.mine]]


def steps_per_epoch(images: int, batch: int) -> int:
    """Whole batches in one pass over the data."""
    if images < batch:
        raise InputError(f"{images} training images do not fill one batch of {batch}; lower --batch")
    return images // batch


class Views(TorchDataset):
    """(epoch, image) -> one random view; the draw depends on seed, epoch and image alone, so runs can be repeated."""

    def __init__(self, dataset: Dataset, config: TrainConfig, preprocessing: Preprocessing, components: np.ndarray):
        self.dataset, self.config, self.components = dataset, config, components
        self.filter = preprocessing.filter

    def __getitem__(self, key: tuple[int, int]):
        epoch, index = key
        rng = np.random.default_rng((self.config.seed, epoch, index, 1))
        try:
            image = decode(self.dataset.path(index))
        except InputError as error:
            return error.message  # an exception would lose its plain message on the way out of the worker
        view = random_view(image, self.config.crop, self.config.side, self.filter, self.components, self.config.colour_shift, rng)
        return view, int(self.dataset.labels[index])


def collate(examples: list) -> TrainBatch:
    """Stack what could be read."""
    read = [e for e in examples if not isinstance(e, str)]
    unreadable = [e for e in examples if isinstance(e, str)]
    if not read:
        return TrainBatch(torch.empty(0), torch.empty(0), torch.empty(0, dtype=torch.int64), unreadable)
    crops = torch.stack([view.crop for view, _ in read])
    shifts = torch.from_numpy(np.stack([view.shift for view, _ in read]))
    return TrainBatch(crops, shifts, torch.tensor([label for _, label in read]), unreadable)


def train_batches(views: Views, begin: int, workers: int, pin: bool, rank: int = 0, world: int = 1) -> Iterator[TrainBatch]:
    """This process's batches of step `begin` and on, to the end of the last epoch, without a gap between epochs."""
    config = views.config
    sampler = EpochBatches(len(views.dataset), config.batch, config.epochs, config.seed, begin, rank, world)
    loader = DataLoader(
        views,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin,
        worker_init_fn=_outlive_signals,
        generator=torch.Generator(),  # its own: nothing of a run may hang on how often a shared one was asked
    )
    return iter(loader)


def _outlive_signals(worker: int) -> None:
    """Ctrl-C and a scheduler's SIGTERM reach the whole process group; the main process alone decides what they mean.

    A second SIGTERM acts as usual: with two Python ends the workers it still has when it exits.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda signum, frame: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    torch.set_num_threads(1)
