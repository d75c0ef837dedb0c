"""Errors on the validation images while a net trains: dense evaluation at one scale (section 3.2), without mirrored images."""

import math
from collections.abc import Callable

import numpy as np
import torch

from train.loop import Errors, Validate
from train.signals import Signals
from train.trainee import mixed, shaped
from vgg_deploy.batches import size_batches
from vgg_deploy.data import Dataset
from vgg_deploy.decoding import Scale
from vgg_deploy.errors import InputError
from vgg_deploy.model import VGG, posterior
from vgg_deploy.progress import progress
from vgg_deploy.ranks import Ranks
from vgg_deploy.scoring import ranks as places

BATCH = 32


def dense_validation(net: VGG, precision: str, dataset: Dataset, threads: int, on_error: str, ranks: Ranks) -> Validate:
    """A function that gives the net's present errors (NaN for a net that has diverged) at the paper's single test scale, each process scoring its share.

    Args: precision, that of the updates; threads, processes that decode; on_error, "stop" or "skip" for unreadable images.
    """

    @torch.inference_mode()
    def validate(signals: Signals) -> Errors | None:
        net.eval()
        scale = Scale(net.spec.test_side, net.spec.preprocessing.filter)
        mine = ranks.mine(len(dataset))
        on_bad: Callable | None = (lambda index, error: None) if on_error == "skip" else None
        mean = torch.tensor(net.spec.preprocessing.mean, device=net.fc8.weight.device).view(1, 3, 1, 1)
        counts = np.zeros(4)  # images, beyond top-1, beyond top-5, signals
        # sizes of photos vary: a search for each one's fastest kernels would never pay
        few_sizes = torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=False)
        with few_sizes, mixed(mean.device.type, precision), progress("validation", int(mine.sum())) as bar:
            for batch in size_batches(dataset, {scale: mine}, BATCH, threads, on_bad):
                pixels = torch.from_numpy(batch.images).to(mean.device).float() - mean
                found = posterior(net(shaped(pixels, precision)).float()).cpu().numpy()
                counts[:3] += len(batch.indices), *_beyond(found, dataset.labels[batch.indices])
                bar.advance(len(batch.indices))
                if signals.noted:
                    counts[3] = 1
                    break
        return _errors(ranks.sum(counts), dataset)

    return validate


def _beyond(posteriors: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """How many labels are not the first, and not among the first five; NaN where posteriors are."""
    try:
        place = places(posteriors, labels)
    except FloatingPointError:
        return math.nan, math.nan
    return (place >= 1).sum(), (place >= 5).sum()


def _errors(counts: np.ndarray, dataset: Dataset) -> Errors | None:
    images, *beyond, stopped = counts
    if stopped:
        return None
    if not images:
        raise InputError(f"{dataset.root}: none of its {len(dataset)} validation images can be read")
    return Errors(*(float(100 * b / images) for b in beyond))
