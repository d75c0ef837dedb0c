"""Chooses the images of each batch when images are files: a new order in every epoch."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler

from vgg_deploy.errors import InputError

Key = tuple[int, int]  # epoch and index of the image


def steps_per_epoch(images: int, batch: int) -> int:
    """Count the whole batches in one pass over the data.

    Args:
        images: Size of the training set.
        batch: Images per update.

    Returns:
        Updates per epoch.

    Raises:
        InputError: The images do not fill one batch.
    """
    if images < batch:
        raise InputError(
            f"{images} training images do not fill one batch of {batch}; lower --batch"
        )
    return images // batch


@dataclass(frozen=True, eq=False)
class EpochBatches(Sampler[list[Key]]):
    """Yields the keys of each batch; the last short batch of an epoch is dropped.

    Every image comes once per epoch. Each process of a job takes its rows of every batch, so that
    all processes together see what one alone would.

    Attributes:
        images: Size of the training set.
        batch: Images per update, of all processes together.
        epochs: Length of the run.
        seed: Of the order, together with the epoch.
        begin: First step, counted over the run from 0.
        rank: This process, from 0.
        world: Number of processes.
    """

    images: int
    batch: int
    epochs: int
    seed: int
    begin: int
    rank: int = 0
    world: int = 1

    def __iter__(self) -> Iterator[list[Key]]:
        steps = steps_per_epoch(self.images, self.batch)
        share = slice(
            self.rank * self.batch // self.world, (self.rank + 1) * self.batch // self.world
        )
        for epoch in range(self.begin // steps, self.epochs):
            order = np.random.default_rng((self.seed, epoch)).permutation(self.images)
            for step in range(first_step(self.begin, epoch, steps), steps):
                batch = order[step * self.batch : (step + 1) * self.batch]
                yield [(epoch, int(index)) for index in batch[share]]


def first_step(begin: int, epoch: int, steps: int) -> int:
    """The first step of an epoch that is still to be done.

    Args:
        begin: First step to be done, counted over the run.
        epoch: From 0; not before the epoch of `begin`.
        steps: Per epoch.

    Returns:
        A step of the epoch, from 0.
    """
    return begin % steps if epoch == begin // steps else 0
