"""Feeds a run: training batches on the device, and validation, from images or frozen features."""

from collections.abc import Callable, Generator
from contextlib import closing
from typing import NamedTuple

import torch

from train.feed.box_targets import centre_targets
from train.feed.colour_statistics import Colours
from train.feed.examples import Examples
from train.feed.frozen_features import Extraction, feature_batches, pool5_features
from train.feed.loader import train_batches
from train.feed.unreadable import Skipped
from train.feed.views import TrainBatch, Views
from train.options.run_settings import RunSettings
from train.recipe.config import TrainConfig
from train.record.log import log
from train.record.state import State
from train.sources import Sources
from train.step.box_validation import box_validation
from train.step.head_validation import map_validation, whole_maps
from train.step.loop import Validate
from train.step.trainee import shaped
from train.step.validation import dense_validation
from vgg_deploy.command_line import say
from vgg_deploy.data.patience import Patience
from vgg_deploy.errors import InputError, UnreadableImage
from vgg_deploy.net.box_outputs import NUMBERS
from vgg_deploy.net.model import VGG

LABEL = "Left out"  # starts the lines about unreadable images


class Feed(NamedTuple):
    """What a run is trained and validated on.

    Attributes:
        batches: From the run's present step to its end; close it to end the loader processes.
        validate: Gives the net's present validation errors.
    """

    batches: Generator[Examples, None, None]
    validate: Validate


def open_feed(
    net: VGG,
    config: TrainConfig,
    sources: Sources,
    settings: RunSettings,
    state: State,
    stopping: Callable[[], bool],
) -> Feed:
    """Open the images, or compute the features of a frozen trunk.

    Args:
        net: In training, on its device.
        config: The recipe.
        sources: The images.
        settings: Of this process.
        state: How far the run has come.
        stopping: Whether a signal asks for the end; the next batch then raises StopWaiting if it is
            not ready.

    Raises:
        InputError: For unreadable images unless they are skipped.
    """
    if sources.freeze:
        return _feed_of_features(net, config, sources, settings, state.step)
    batches = _augmented_examples(net, config, sources, settings, state, stopping)
    return Feed(batches, _validation(net, config, sources, settings))


def _validation(net: VGG, config: TrainConfig, sources: Sources, settings: RunSettings) -> Validate:
    """Of images: dense for a classifier, on centre crops for a localiser."""
    validation = box_validation if config.localises else dense_validation
    return validation(
        net,
        config.precision,
        sources.val,
        settings.threads,
        settings.on_error,
        settings.job,
        log,
        settings.step_patience,
    )


def _feed_of_features(
    net: VGG, config: TrainConfig, sources: Sources, settings: RunSettings, step: int
) -> Feed:
    """Features of the frozen trunk, which are computed once."""
    how = Extraction(
        net,
        net.spec.test_side,
        settings.device,
        settings.threads,
        settings.on_error,
        log,
        Patience(settings.step_patience),
    )
    val = None if config.localises else whole_maps(sources.val, how)
    train = pool5_features(sources.train, how)
    Skipped(LABEL, log).report(train.unreadable.values())
    boxes = None
    if config.localises:
        boxes = centre_targets(sources.train, how.side, config.crop, config.box_form)
    batches = feature_batches(train, sources.train.labels, config, step, settings.device, boxes)
    if val is None:
        return Feed(batches, _validation(net, config, sources, settings))
    return Feed(batches, map_validation(how, val, sources.val, config.precision))


def _augmented_examples(
    net: VGG,
    config: TrainConfig,
    sources: Sources,
    settings: RunSettings,
    state: State,
    stopping: Callable[[], bool],
) -> Generator[Examples, None, None]:
    """Augmented crops with the mean subtracted, on the device.

    Raises:
        InputError: For unreadable images unless they are skipped, and then for a batch without a
            readable one.
    """
    assert state.colours is not None  # measured at the start
    preprocessing, job = net.spec.preprocessing, settings.job
    colours = Colours.from_json(state.colours)
    views = Views(sources.train, config, preprocessing, colours.components())
    mean = torch.tensor(preprocessing.mean, dtype=torch.float32, device=settings.device)
    skipped = Skipped(LABEL, log if job.is_main else _log_to_stderr)
    pin_memory = settings.device == "cuda"
    loaded = train_batches(
        views,
        state.step,
        settings.workers,
        pin_memory,
        job.rank,
        job.world,
        Patience(settings.step_patience, stopping),
    )
    with closing(loaded):
        for batch in loaded:
            if batch.unreadable and settings.on_error == "stop":
                raise UnreadableImage(batch.unreadable[0])
            skipped.report(batch.unreadable)
            if len(batch.labels):
                yield _examples(batch, mean.view(1, 3, 1, 1), config.precision)
            elif job.world > 1:  # the other processes may have readable images
                yield _no_examples(net, settings.device)
            else:
                raise InputError(
                    f"{sources.train.root}: not one image of a batch of {config.batch} could be "
                    "read"
                )


def _examples(batch: TrainBatch, mean: torch.Tensor, precision: str) -> Examples:
    """A batch on the device.

    Args:
        batch: Crops (N, 3, crop, crop) uint8, colour shifts (N, 3), labels (N,) and boxes.
        mean: (1, 3, 1, 1) float32 RGB, on the device.
        precision: Of the updates.
    """
    crops, shifts, labels, rows, boxes = (
        tensor.to(mean.device, non_blocking=True) for tensor in batch.tensors
    )
    inputs = crops.float() - mean + shifts[:, :, None, None]
    return Examples(shaped(inputs, precision), labels, rows, boxes)


def _no_examples(net: VGG, device: str) -> Examples:
    """A batch of no images."""
    crop = net.spec.crop
    none = torch.empty(0, dtype=torch.int64, device=device)
    boxes = torch.zeros(0, NUMBERS, device=device)
    return Examples(torch.zeros(0, 3, crop, crop, device=device), none, none, boxes)


def _log_to_stderr(text: str) -> None:
    """Print a line in a process that does not show its standard output."""
    say(text, err=True)
