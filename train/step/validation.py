"""Validates a net while it trains: dense evaluation at one scale, without mirrored images.

See section 3.2 of the paper.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from train.feed.unreadable import Skipped
from train.step.loop import Errors, Validate
from train.step.stop_signals import Signals
from train.step.trainee import mixed, shaped
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.decode_pool import Scale
from vgg_deploy.data.patience import SECONDS, Patience, StopWaiting
from vgg_deploy.data.size_batches import size_batches
from vgg_deploy.errors import InputError
from vgg_deploy.job import Job
from vgg_deploy.net.model import VGG, channel_mean, posterior
from vgg_deploy.progress import progress
from vgg_deploy.scoring import true_class_ranks

BATCH = 32
LABEL = "Left out of validation"  # of unreadable images


class Counts(NamedTuple):
    """Images that were scored, and errors among them; errors are NaN where posteriors are.

    Of a localiser: wrong boxes, and the sum of intersections over unions.
    """

    images: float
    top1_errors: float
    top5_errors: float


def dense_validation(
    net: VGG,
    precision: str,
    dataset: Dataset,
    threads: int,
    on_error: str,
    job: Job,
    log: Callable[[str], None],
    patience: float = SECONDS,
) -> Validate:
    """Prepare the validation at the paper's single test scale; each process scores its share.

    Args:
        net: In training, on its device.
        precision: That of the updates.
        dataset: Validation images.
        threads: Processes that decode.
        on_error: "stop" or "skip" for unreadable images.
        job: The processes that train together.
        log: Prints a line; each unreadable image is named once.
        patience: Longest wait for a decoding process, seconds.

    Returns:
        A function that returns the errors of the present weights: NaN for a net that has diverged,
        None if a signal came first.
    """

    def count(images: Tensor, indices: np.ndarray) -> Counts:
        return counted(net(shaped(images, precision)), dataset.labels[indices])

    return image_validation(net, precision, dataset, threads, on_error, job, log, patience, count)


def image_validation(
    net: VGG,
    precision: str,
    dataset: Dataset,
    threads: int,
    on_error: str,
    job: Job,
    log: Callable[[str], None],
    patience: float,
    count: Callable[[Tensor, np.ndarray], Counts],
) -> Validate:
    """Prepare a validation that looks at every image once, at the paper's single test scale.

    Args:
        net: As in `dense_validation`.
        precision: As in `dense_validation`.
        dataset: As in `dense_validation`.
        threads: As in `dense_validation`.
        on_error: As in `dense_validation`.
        job: As in `dense_validation`.
        log: As in `dense_validation`.
        patience: As in `dense_validation`.
        count: Judges (N, 3, h, w) whole images minus the mean, float32 on the device, whose indices
            in the data set are (N,) int64.

    Returns:
        As `dense_validation`.
    """
    skipped = Skipped(LABEL, log)
    scale = Scale(net.spec.test_side, net.spec.preprocessing.filter)
    mine = job.share(len(dataset))

    @torch.inference_mode()
    def score_share(signals: Signals, unreadable: list[str]) -> np.ndarray:
        """(4,) float64: `Counts` of this process's share, and whether a signal came."""

        def note(index: int, error: InputError) -> None:
            unreadable.append(error.what)

        net.eval()
        on_bad = note if on_error == "skip" else None
        mean = channel_mean(net.spec.preprocessing, net.convolution("fc8").weight.device)
        counts = np.zeros(4)
        with (
            few_sizes(),
            mixed(mean.device.type, precision),
            progress("validation", int(mine.sum())) as bar,
            suppress(StopWaiting),
        ):
            counts[3] = 1  # unless the loop comes to its end
            wait = Patience(patience, signals.arrived)
            for batch in size_batches(
                dataset, {scale: mine}, BATCH, threads, on_bad, patience=wait
            ):
                images = torch.from_numpy(batch.images).to(mean.device).float() - mean
                counts[:3] += count(images, batch.indices)
                bar.advance(len(batch.indices))
                if signals.noted:
                    break
            else:
                counts[3] = 0
        return counts

    def validate(signals: Signals) -> Errors | None:
        unreadable: list[str] = []
        *counts, interrupted = job.sum(score_share(signals, unreadable))
        for messages in job.gather(unreadable):
            skipped.report(messages)
        return None if interrupted else errors_of(Counts(*counts), dataset, log)

    return validate


def few_sizes() -> AbstractContextManager[None]:
    """A block without a search for the fastest kernels.

    Images have many sizes; a search for each of them would never pay.
    """
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=False)


def counted(score_maps: Tensor, labels: np.ndarray) -> Counts:
    """Count the images whose label is not the first, or not among the first five.

    Args:
        score_maps: (N, classes, h, w) logits.
        labels: (N,).

    Returns:
        The counts of N images.
    """
    posteriors = posterior(score_maps.float()).cpu().numpy()
    try:
        ranks = true_class_ranks(posteriors, labels)
    except FloatingPointError:
        return Counts(len(labels), math.nan, math.nan)
    return Counts(len(labels), (ranks >= 1).sum(), (ranks >= 5).sum())


def errors_of(counts: Counts, dataset: Dataset, log: Callable[[str], None]) -> Errors:
    """Errors in per cent of the images that could be read.

    Args:
        counts: Of the whole data set.
        dataset: Validation images.
        log: Prints a line if some could not be read.

    Returns:
        The errors.

    Raises:
        InputError: No image could be read.
    """
    images = int(counts.images)
    if not images:
        raise InputError(
            f"{dataset.root}: none of its {len(dataset)} validation images can be read"
        )
    if images < len(dataset):
        log(f"Validation errors are of {images} of {len(dataset)} images")
    return Errors(
        float(100 * counts.top1_errors / images), float(100 * counts.top5_errors / images), images
    )
