"""Compares two models on the same images: how much they differ, and whether by more than chance."""

import math
from dataclasses import dataclass
from math import nan
from typing import NamedTuple

import numpy as np
import pandas as pd

from bench.accuracy.accuracy_rows import ClassIndex, Scored
from bench.accuracy.distance import Distance
from vgg_deploy.name_frames import named_frame
from vgg_deploy.scoring import Interval
from vgg_deploy.statistics import paired_test


@dataclass(frozen=True)
class Comparison:
    """A row against the reference's row of the same protocol.

    Field names are the columns of comparisons.csv. What needs labels is missing without them;
    distances are missing between nets with different classes.
    """

    reference: str
    model: str
    runtime: str
    precision: str
    protocol: str
    scales: str
    flips: bool
    images: int
    agreement_pct: float  # images with the same best class
    only_reference_right: int | None
    only_model_right: int | None
    top1_difference_pct: float  # the model's error minus the reference's
    top1_low_pct: float  # 95 % interval of the paired difference
    top1_high_pct: float
    top1_p: float  # McNemar's exact test: chance of such a split if both were equally good
    top5_difference_pct: float
    top5_low_pct: float
    top5_high_pct: float
    top5_p: float
    largest_posterior_difference: float  # of any class on any image, 0 to 1
    # mean over the images of half the sum of absolute differences, 0 to 1
    mean_total_variation: float


class Pair(NamedTuple):
    """A row of a model beside the reference's row of the same protocol."""

    reference: Scored
    other: Scored
    comparison: Comparison
    distance: Distance | None  # None for nets with different classes


def compare(reference: Scored, other: Scored, distance: Distance | None) -> Comparison:
    """Compare two rows of the same images.

    Args:
        reference: A row of the reference.
        other: A row of the same protocol.
        distance: Of their posteriors; None if they do not have the same classes.
    """
    top1, top5 = (_paired_errors(reference, other, k) for k in (1, 5))
    record = other.record
    return Comparison(
        reference=reference.record.model,
        model=record.model,
        runtime=record.runtime,
        precision=record.precision,
        protocol=record.protocol,
        scales=record.scales,
        flips=record.flips,
        images=record.images,
        agreement_pct=float(100 * np.mean(reference.best == other.best)),
        only_reference_right=top1.only_reference,
        only_model_right=top1.only_other,
        top1_difference_pct=top1.difference_pct,
        top1_low_pct=top1.interval_pct.low,
        top1_high_pct=top1.interval_pct.high,
        top1_p=top1.p,
        top5_difference_pct=top5.difference_pct,
        top5_low_pct=top5.interval_pct.low,
        top5_high_pct=top5.interval_pct.high,
        top5_p=top5.p,
        largest_posterior_difference=float(distance.largest.max()) if distance else nan,
        mean_total_variation=float(distance.total_variation.mean()) if distance else nan,
    )


class _PairedErrors(NamedTuple):
    """Top-k errors of two rows on the same images; None and NaN without labels."""

    only_reference: int | None = None  # images that only the reference has right
    only_other: int | None = None
    difference_pct: float = nan  # the other's error minus the reference's
    interval_pct: Interval = Interval(nan, nan)
    p: float = nan  # McNemar's


def _paired_errors(reference: Scored, other: Scored, k: int) -> _PairedErrors:
    if not reference.labelled:
        return _PairedErrors()
    images = len(other.ranks)
    b, c = one_right(reference, other, k)
    return _PairedErrors(
        b, c, 100 * (b - c) / images, paired_interval_pct(b, c, images), mcnemar_p(b, c)
    )


def one_right(reference: Scored, other: Scored, k: int) -> tuple[int, int]:
    """Count the images that only one of two rows has right: the true class is among its best k.

    Args:
        reference: A row with labels.
        other: A row of the same images.
        k: 1 or 5.

    Returns:
        Images that only the reference has right (b), and that only the other has right (c).
    """
    first, second = reference.ranks < k, other.ranks < k
    return int((first & ~second).sum()), int((second & ~first).sum())


def compare_all(scored: list[Scored]) -> list[tuple[Scored, Scored]]:
    """Pairs of rows to compare.

    Args:
        scored: All rows of the run.

    Returns:
        (reference, other) for every row whose protocol the first model was measured in too.
    """
    of_first = {}
    for one in scored:
        if [member.model for member in one.row.members] == [0]:
            of_first[_protocol(one)] = one
    pairs = []
    for other in scored:
        reference = of_first.get(_protocol(other))
        if reference is not None and reference is not other:
            pairs.append((reference, other))
    return pairs


def differing_images(
    reference: Scored, other: Scored, files: list[str], classes: ClassIndex
) -> pd.DataFrame:
    """List the images with different best classes.

    Args:
        reference: A row of the reference.
        other: A row of the same images.
        files: Names of the images that the rows hold.
        classes: The numbering of classes.

    Returns:
        One row per image; columns of differences.csv.
    """
    at = np.flatnonzero(reference.best != other.best)
    return named_frame(
        {
            "reference": reference.record.model,
            "model": other.record.model,
            "protocol": other.record.protocol,
            "scales": other.record.scales,
            "flips": other.record.flips,
            "image": [files[i] for i in at],
            "label": [classes.ids[reference.labels[i]] if reference.labelled else "" for i in at],
            "reference_best": [classes.ids[reference.best[i]] for i in at],
            "reference_posterior": reference.confidence[at],
            "model_best": [classes.ids[other.best[i]] for i in at],
            "model_posterior": other.confidence[at],
        }
    )


def paired_interval_pct(only_first: int, only_second: int, images: int) -> Interval:
    """95 % interval of the second model's error minus the first's, in percentage points.

    It covers the true difference with at least 95 %, whatever the error rates are: the exact test
    that gives the gate's verdicts, inverted with 2.5 % on each side.

    Args:
        only_first: Images that only the first model has right (b).
        only_second: Images that only the second model has right (c).
        images: Number of all images (n).
    """
    table = paired_test.Table(only_first, only_second, images)
    low, high = paired_test.bounds(table, level=0.025)
    return Interval(100 * low, 100 * high)


def mcnemar_p(only_first: int, only_second: int) -> float:
    """McNemar's exact test, two-sided.

    Under the hypothesis that both models are equally good, each image that just one of them has
    right is the throw of a fair coin. The p-value is the chance of a split at least as uneven.

    Args:
        only_first: Images that only the first model has right (b).
        only_second: Images that only the second model has right (c).

    Example:
        >>> round(mcnemar_p(0, 3), 6)
        0.25

    Source:
        McNemar, "Note on the sampling error of the difference between correlated proportions or
        percentages" (Psychometrika, 1947); the tail of the binomial distribution, not its normal
        approximation.
    """
    n, fewer = only_first + only_second, min(only_first, only_second)
    log_chances = [
        math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) - n * math.log(2)
        for i in range(fewer + 1)
    ]
    return min(1.0, 2 * math.fsum(map(math.exp, log_chances)))


def _protocol(scored: Scored) -> tuple[str, str, bool]:
    """Key of rows that are compared.

    By each net's S the sizes may differ between nets; "single" and "multi" are compared anyway.
    """
    kind = scored.row.scales.split()[0]
    return scored.row.protocol, kind, scored.row.flips
