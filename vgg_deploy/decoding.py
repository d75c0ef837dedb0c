"""Images decoded and rescaled ahead of who needs them, in their order, by processes: threads would wait for each other's Python."""

import signal
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from vgg_deploy.data import Dataset
from vgg_deploy.errors import InputError
from vgg_deploy.preprocess import rescale
from vgg_deploy.ranks import by_torchrun

CHUNK = 4  # images a process hands over at once
WORTH_A_PROCESS = 64  # images; for fewer it would hardly have begun


class Scale(NamedTuple):
    """One way to rescale an image."""

    side: int  # of the shorter side, S or Q, pixels
    filter: str


class Chunk(NamedTuple):
    """Some images at the scales that want them."""

    pixels: Tensor  # flat uint8: all of `images`, one after the other, each (3, h, w)
    images: list[tuple[int, Scale, int, int]]  # position in the data set, scale, h, w
    unreadable: list[tuple[int, InputError]]


class Chunks(TorchDataset):
    """The images that any scale wants, CHUNK at a time."""

    def __init__(self, dataset: Dataset, wanted: Mapping[Scale, np.ndarray]):
        """Args: wanted, for each scale (images,) bool."""
        self.dataset, self.wanted = dataset, wanted
        self.positions = np.flatnonzero(np.any(list(wanted.values()), axis=0))

    def __len__(self) -> int:
        return -(-len(self.positions) // CHUNK)

    def __getitem__(self, number: int) -> Chunk:
        pixels, images, unreadable = [torch.empty(0, dtype=torch.uint8)], [], []
        for index in self.positions[number * CHUNK : (number + 1) * CHUNK].tolist():
            try:
                image = self.dataset.decode(index)
            except InputError as error:
                unreadable.append((index, error))
                continue
            for scale in (scale for scale, chosen in self.wanted.items() if chosen[index]):
                scaled = rescale(image, *scale)
                pixels.append(scaled.flatten())
                images.append((index, scale, *scaled.shape[1:]))
        return Chunk(torch.cat(pixels), images, unreadable)


def decoded(chunks: Chunks, workers: int) -> Iterator[Chunk]:
    """All chunks in order, whatever the number of processes. Args: workers, at the most."""
    loader = DataLoader(
        chunks,
        batch_size=None,
        num_workers=min(workers, len(chunks.positions) // WORTH_A_PROCESS),
        worker_init_fn=outlive_signals,
        generator=torch.Generator(),  # its own: nothing may hang on how often a shared one was asked
    )
    found = iter(loader)
    try:
        yield from found
    finally:
        del found  # an error keeps this frame, and what it holds, for as long as it lives itself; the workers must end before


def outlive_signals(worker: int) -> None:
    """Begin a loader's process. Ctrl-C and a scheduler's SIGTERM reach the whole process group; the main process alone decides what they mean.

    A second SIGTERM acts as usual: with two Python ends the workers it still has when it exits. torchrun sends a second
    one while the main process saves, and ends what is left by itself.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if by_torchrun():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda signum, frame: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    torch.set_num_threads(1)
