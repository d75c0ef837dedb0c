"""Estimates how long a stage takes, from a few real updates and a few real images."""

import time
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
import torch

from train.feed.epoch_order import steps_per_epoch
from train.feed.examples import Examples
from train.feed.views import Views
from train.first_weights import describe, random_net
from train.options.run_settings import RunSettings
from train.recipe.config import TrainConfig
from train.session import set_up_torch
from train.sources import Sources
from train.step.kept_memory import return_freed_memory
from train.step.trainee import shape_for_training, shaped
from train.step.update import Updater
from vgg_deploy.job import ALONE
from vgg_deploy.net.archs import ARCHS, macs
from vgg_deploy.net.spec import Preprocessing
from vgg_deploy.progress import elapsed

TRIAL_BATCH = 8  # images of a timed update on a CPU; a GPU takes its whole share
TRIAL_IMAGES = 8  # decoded and augmented
TRIAL_RATE = 1e-6  # learning rate
PASSES = 3  # an update costs about three times the forward pass


@dataclass(frozen=True)
class Speed:
    """Of this machine, all processes of the job together.

    Attributes:
        s_per_gmac: Seconds per GMAC of forward passes, within updates.
        s_per_image: Seconds per image for decoding and augmentation, at S=256.
    """

    s_per_gmac: float
    s_per_image: float

    def seconds_per_epoch(self, config: TrainConfig, sources: Sources) -> float:
        """The time of updates, or of the loader if it is slower, and of dense validation.

        Args:
            config: Of a stage.
            sources: The images.
        """
        images = steps_per_epoch(len(sources.train), config.batch) * config.batch
        classes = len(sources.train.classes)
        gmacs = _gmacs(config, config.crop, config.crop, classes)
        test_side = round(sum(config.side) / 2)
        dense_gmacs = _gmacs(config, test_side, round(test_side * 4 / 3), classes)
        return (
            images * max(gmacs * self.s_per_gmac, self.s_per_image)
            + len(sources.val) * dense_gmacs * self.s_per_gmac / PASSES
        )


def measure_speed(base: TrainConfig, sources: Sources, settings: RunSettings) -> Speed:
    """Time two updates of net A, and the views of a few images.

    Args:
        base: The recipe of a chain.
        sources: The images.
        settings: Of this process.

    Returns:
        The mean over the processes of the job.
    """
    set_up_torch(settings)
    config = replace(base, arch="A", init="he")
    share = config.batch // settings.job.world
    trial = replace(config, batch=share if settings.device == "cuda" else min(share, TRIAL_BATCH))
    with ExitStack() as stack, elapsed("timing a few updates"):
        stack.callback(return_freed_memory)
        gmac_s = _seconds_per_gmac(trial, sources, settings)
        image_s = _seconds_per_image(config, sources, settings)
    mean = np.mean(settings.job.gather((gmac_s, image_s)), axis=0) / settings.job.world
    return Speed(*mean.tolist())


def _gmacs(config: TrainConfig, height: int, width: int, classes: int) -> float:
    """GMAC of one image's forward pass."""
    arch = ARCHS[config.arch]
    return macs(arch, height, width, classes, config.width, config.crop) / 1e9


def _seconds_per_gmac(config: TrainConfig, sources: Sources, settings: RunSettings) -> float:
    """Time updates on images of zeros."""
    spec = describe(config, sources.train, Preprocessing(), "")
    net = shape_for_training(random_net(spec, config), settings.device, config.precision)
    updater = Updater(net, False, config, ALONE, compiled=False, log=_say_nothing)
    updater.set_learning_rate(TRIAL_RATE)
    images = torch.zeros(config.batch, 3, config.crop, config.crop, device=settings.device)
    labels = torch.zeros(config.batch, dtype=torch.int64, device=settings.device)
    rows = torch.arange(config.batch, device=settings.device)
    examples = Examples(shaped(images, config.precision), labels, rows)
    updater.step(examples, 0, config.batch).cpu()  # the first is slower
    start = time.perf_counter()
    for step in (1, 2):
        updater.step(examples, step, config.batch).cpu()
    seconds = (time.perf_counter() - start) / 2
    return seconds / (config.batch * _gmacs(config, config.crop, config.crop, len(spec.classes)))


def _say_nothing(text: str) -> None:
    """The parts of a trial's batch are not those of the chain's."""


def _seconds_per_image(config: TrainConfig, sources: Sources, settings: RunSettings) -> float:
    """Time the decoding and augmentation of images spread evenly over the data."""
    views = Views(sources.train, config, Preprocessing(), np.zeros((3, 3)))
    chosen = [i * len(sources.train) // TRIAL_IMAGES for i in range(TRIAL_IMAGES)]
    start = time.perf_counter()
    for index in chosen:
        views[0, index]
    return (time.perf_counter() - start) / TRIAL_IMAGES / max(1, settings.workers)
