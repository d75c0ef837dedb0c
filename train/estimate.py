"""How long a stage will take, from a few real updates and a few real images."""

import time
from dataclasses import dataclass, replace

import numpy as np
import torch

from train.feed.epoch_order import steps_per_epoch
from train.feed.examples import Examples
from train.feed.views import Views
from train.first_weights import describe, random_net
from train.recipe.config import TrainConfig
from train.session import RunSettings, Sources, settle
from train.step.trainee import shape_for_training, shaped
from train.step.update import Updater
from vgg_deploy.job import ALONE
from vgg_deploy.net.archs import ARCHS, macs
from vgg_deploy.net.spec import Preprocessing
from vgg_deploy.progress import elapsed

TRIAL_BATCH = 8  # images of a timed update on a CPU; a GPU takes its whole share
TRIAL_IMAGES = 8  # decoded and augmented
PASSES = 3  # an update costs about three times the forward pass


@dataclass(frozen=True)
class Speed:
    """Of this machine, all processes of the job together."""

    s_per_gmac: float  # of forward passes within updates
    s_per_image: float  # decoding and augmentation, at S=256

    def seconds_an_epoch(self, config: TrainConfig, sources: Sources) -> float:
        """Updates, or the loader where it is slower, and dense validation at Q = S."""
        arch, images = (
            ARCHS[config.arch],
            steps_per_epoch(len(sources.train), config.batch) * config.batch,
        )
        classes = len(sources.train.classes)
        gmacs = macs(arch, config.crop, config.crop, classes, config.width, config.crop) / 1e9
        test_side = round(sum(config.side) / 2)
        dense = (
            macs(arch, test_side, round(test_side * 4 / 3), classes, config.width, config.crop)
            / 1e9
        )
        return (
            images * max(gmacs * self.s_per_gmac, self.s_per_image)
            + len(sources.val) * dense * self.s_per_gmac / PASSES
        )


def measure_speed(base: TrainConfig, sources: Sources, settings: RunSettings) -> Speed:
    """Time two updates of net A and the views of a few images."""
    settle(settings)
    config = replace(base, arch="A", init="he")
    share = config.batch // settings.job.world
    trial = replace(config, batch=share if settings.device == "cuda" else min(share, TRIAL_BATCH))
    with elapsed("timing a few updates"):
        gmacs_s, image_s = (
            _update_seconds(trial, sources, settings),
            _image_seconds(config, sources, settings),
        )
    together = np.mean(settings.job.gather((gmacs_s, image_s)), axis=0) / settings.job.world
    return Speed(*together.tolist())


def _update_seconds(config: TrainConfig, sources: Sources, settings: RunSettings) -> float:
    """Seconds a GMAC of forward pass."""
    spec = describe(config, sources.train, Preprocessing(), "")
    net = shape_for_training(random_net(spec, config), settings.device, config.precision)
    updater = Updater(net, False, config, ALONE, compiled=False)
    updater.set_learning_rate(1e-6)
    inputs = shaped(
        torch.zeros(config.batch, 3, config.crop, config.crop, device=settings.device),
        config.precision,
    )
    labels = torch.zeros(config.batch, dtype=torch.int64, device=settings.device)
    examples = Examples(inputs, labels, torch.arange(config.batch, device=settings.device))
    updater.step(examples, 0, config.batch).cpu()
    begun = time.perf_counter()
    for step in (1, 2):
        updater.step(examples, step, config.batch).cpu()
    seconds = (time.perf_counter() - begun) / 2
    gmacs = (
        macs(ARCHS["A"], config.crop, config.crop, len(spec.classes), config.width, config.crop)
        / 1e9
    )
    return seconds / (config.batch * gmacs)


def _image_seconds(config: TrainConfig, sources: Sources, settings: RunSettings) -> float:
    views = Views(sources.train, config, Preprocessing(), np.zeros((3, 3)))
    chosen = [i * len(sources.train) // TRIAL_IMAGES for i in range(TRIAL_IMAGES)]
    begun = time.perf_counter()
    for index in chosen:
        views[0, index]
    return (time.perf_counter() - begun) / TRIAL_IMAGES / max(1, settings.workers)
