"""Errors on the validation images while a net trains: dense evaluation at one scale (section 3.2),
without mirrored images.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor

from train.feed.unreadable import Skipped
from train.step.loop import Errors, Validate
from train.step.stop_signals import Signals
from train.step.trainee import mixed, shaped
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.decode_pool import Scale
from vgg_deploy.data.size_batches import size_batches
from vgg_deploy.errors import InputError
from vgg_deploy.job import Job
from vgg_deploy.net.model import VGG, posterior
from vgg_deploy.progress import progress
from vgg_deploy.scoring import true_class_ranks

BATCH = 32
LABEL = "Left out of validation"  # of unreadable images


def dense_validation(
    net: VGG,
    precision: str,
    dataset: Dataset,
    threads: int,
    on_error: str,
    job: Job,
    say: Callable[[str], None],
) -> Validate:
    """A function that gives the net's present errors (NaN for a net that has diverged) at the
    paper's single test scale, each process scoring its share.

    Args: precision, that of the updates; threads, processes that decode; on_error, "stop" or "skip"
        for unreadable images; say, prints a line: each unreadable image is named once.
    """
    skipped = Skipped(LABEL, say)

    @torch.inference_mode()
    def validate(signals: Signals) -> Errors | None:
        net.eval()
        scale = Scale(net.spec.test_side, net.spec.preprocessing.filter)
        mine = job.share(len(dataset))
        unreadable: list[str] = []
        on_bad = (
            (lambda index, error: unreadable.append(error.what)) if on_error == "skip" else None
        )
        mean = torch.tensor(net.spec.preprocessing.mean, device=net.fc8.weight.device).view(
            1, 3, 1, 1
        )
        counts = np.zeros(4)  # images, beyond top-1, beyond top-5, signals
        with (
            few_sizes(),
            mixed(mean.device.type, precision),
            progress("validation", int(mine.sum())) as bar,
        ):
            for batch in size_batches(dataset, {scale: mine}, BATCH, threads, on_bad):
                pixels = torch.from_numpy(batch.images).to(mean.device).float() - mean
                counts[:3] += counted(net(shaped(pixels, precision)), dataset.labels[batch.indices])
                bar.advance(len(batch.indices))
                if signals.noted:
                    counts[3] = 1
                    break
        counts = job.sum(counts)
        for messages in job.gather(unreadable):
            skipped.report(messages)
        return None if counts[3] else errors_of(counts[:3], dataset, say)

    return validate


def few_sizes() -> AbstractContextManager:
    """Sizes of photos vary: a search for each one's fastest kernels would never pay."""
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=False)


def counted(score_maps: Tensor, labels: np.ndarray) -> tuple[float, float, float]:
    """How many images there are, how many labels are not the first, and how many are not among the
    first five.

    Args: score_maps, (N, classes, h, w) logits; labels, (N,). Returns: NaN for the errors where
        posteriors are.
    """
    found = posterior(score_maps.float()).cpu().numpy()
    try:
        place = true_class_ranks(found, labels)
    except FloatingPointError:
        return len(labels), math.nan, math.nan
    return len(labels), (place >= 1).sum(), (place >= 5).sum()


def errors_of(counts: np.ndarray, dataset: Dataset, say: Callable[[str], None]) -> Errors:
    """Per cent of what could be read.

    Args: counts, sums of `counted`. Raises: InputError if that is nothing.
    """
    images, beyond_top1, beyond_top5 = counts.tolist()
    if not images:
        raise InputError(
            f"{dataset.root}: none of its {len(dataset)} validation images can be read"
        )
    if images < len(dataset):
        say(f"Validation errors are of {int(images)} of {len(dataset)} images")
    return Errors(100 * beyond_top1 / images, 100 * beyond_top5 / images, int(images))
