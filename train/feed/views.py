"""Draws the random view of an image in an epoch, and stacks views to batches."""

import ctypes
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import get_worker_info

from train.feed.augment import Augmentation, RandomView, random_view
from train.feed.box_targets import Place, box_target
from train.feed.epoch_order import Key
from train.recipe.config import TrainConfig
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import InputError
from vgg_deploy.net.spec import Preprocessing

# A view with its label, or what is wrong with the image. An exception would lose its plain message
# on its way out of a worker.
Example = tuple[RandomView, int] | str
NO_BOXES = torch.empty(0)


class TrainBatch(NamedTuple):
    """Views of different images.

    Attributes:
        crops: (N, 3, crop, crop) uint8 RGB.
        shifts: (N, 3) float32, grey levels.
        labels: (N,) int64.
        rows: (N,) int64, positions in this process's share of the batch, skipped images counted.
        unreadable: What is wrong with each skipped image.
        boxes: (N, 4) float32, what a localiser should say; (N, 0) for a classifier.
    """

    crops: Tensor
    shifts: Tensor
    labels: Tensor
    rows: Tensor
    unreadable: list[str]
    boxes: Tensor = NO_BOXES

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All fields but the messages."""
        return self.crops, self.shifts, self.labels, self.rows, self.boxes


class Views(TorchDataset[Example]):
    """One random view per epoch and image.

    The draw depends on the seed, the epoch and the image alone, so runs can be repeated.

    Attributes:
        opened: For each loader process, 1 + the index of the image that it opened last, in memory
            that all processes share; 0 before the first.
    """

    def __init__(
        self,
        dataset: Dataset,
        config: TrainConfig,
        preprocessing: Preprocessing,
        components: np.ndarray,
    ):
        """Prepare the draws.

        Args:
            dataset: Training images.
            config: Crop, S, seed and strength of the colour shift.
            preprocessing: Of the net; its resampling filter is used.
            components: (3, 3) colour axes of `Colours.components`.
        """
        self.dataset, self.config = dataset, config
        self.opened: ctypes.Array[ctypes.c_int64] | None = None
        self.augmentation = Augmentation(
            config.crop, config.side, preprocessing.filter, components, config.colour_shift
        )

    def __getitem__(self, key: Key) -> Example:
        epoch, index = key
        return self.draw(epoch, index, partial(self.dataset.image, index))

    def draw(self, epoch: int, index: int, open_image: Callable[[], Image]) -> Example:
        """Draw the view of one image.

        Args:
            epoch: From 0.
            index: Of the image in the data set.
            open_image: Returns the image as RGB, or raises InputError.

        Returns:
            The view and its label, or what is wrong with the image.
        """
        rng = np.random.default_rng((self.config.seed, epoch, index, 1))
        worker = get_worker_info()
        if worker is not None and self.opened is not None:
            self.opened[worker.id] = index + 1
        try:
            image = open_image()
        except InputError as error:
            return error.what
        view = random_view(image, self.augmentation, rng)
        if self.config.localises:
            view = view._replace(box=self._box(index, image, view))
        return view, int(self.dataset.labels[index])

    def _box(self, index: int, image: Image, view: RandomView) -> np.ndarray:
        """What a localiser should say of a view."""
        assert self.dataset.boxes is not None  # given to localisers
        place = Place(view.side, view.top, view.left, self.config.crop, view.mirrored)
        size = (image.height, image.width)
        return box_target(self.dataset.boxes[index], size, place, self.config.box_form)


def collate(examples: Sequence[Example]) -> TrainBatch:
    """Stack the readable images of a batch.

    Args:
        examples: In the order of the batch.

    Returns:
        The batch; with empty tensors if no image can be read.
    """
    rows: list[int] = []
    views: list[RandomView] = []
    labels: list[int] = []
    unreadable: list[str] = []
    for row, example in enumerate(examples):
        if isinstance(example, str):
            unreadable.append(example)
            continue
        view, label = example
        rows.append(row)
        views.append(view)
        labels.append(label)
    if not rows:
        none = torch.empty(0, dtype=torch.int64)
        return TrainBatch(torch.empty(0), torch.empty(0), none, none, unreadable)
    return TrainBatch(
        torch.stack([view.crop for view in views]),
        torch.from_numpy(np.stack([view.shift for view in views])),
        torch.tensor(labels),
        torch.tensor(rows),
        unreadable,
        torch.from_numpy(np.stack([view.box for view in views])),
    )
