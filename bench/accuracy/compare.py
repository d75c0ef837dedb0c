"""Two models on the same images: is the difference more than chance, and where do they differ."""

import math
from dataclasses import dataclass
from math import nan
from typing import NamedTuple

import numpy as np
import pandas as pd

from bench.accuracy.accuracy_rows import ClassIndex, Scored
from bench.accuracy.distance import Distance
from bench.statistics import paired_test
from vgg_deploy.scoring import Interval


@dataclass(frozen=True)
class Comparison:
    """A row against the reference's row of the same protocol; field names are the columns of comparisons.csv.

    What needs labels is missing without them, distances between nets with different classes too.
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
    mean_total_variation: (
        float  # mean over the images of half the sum of absolute differences, 0 to 1
    )


class Pair(NamedTuple):
    """A row of a model beside the reference's row of the same protocol."""

    reference: Scored
    other: Scored
    comparison: Comparison
    distance: Distance | None  # None for nets with different classes


def compare(reference: Scored, other: Scored, distance: Distance | None) -> Comparison:
    """Both rows must be of the same images. Args: distance, of their posteriors, if they have the same classes."""
    (counts1, difference1, interval1, p1), (_, difference5, interval5, p5) = (
        _paired(reference, other, k) for k in (1, 5)
    )
    r = other.record
    return Comparison(
        reference.record.model, r.model, r.runtime, r.precision, r.protocol, r.scales, r.flips, r.images,
        agreement_pct=float(100 * np.mean(reference.best == other.best)),
        only_reference_right=counts1[0], only_model_right=counts1[1],
        top1_difference_pct=difference1, top1_low_pct=interval1.low, top1_high_pct=interval1.high, top1_p=p1,
        top5_difference_pct=difference5, top5_low_pct=interval5.low, top5_high_pct=interval5.high, top5_p=p5,
        largest_posterior_difference=float(distance.largest.max()) if distance else nan,
        mean_total_variation=float(distance.total_variation.mean()) if distance else nan,
    )  # fmt: skip


def _paired(
    reference: Scored, other: Scored, k: int
) -> tuple[tuple[int | None, int | None], float, Interval, float]:
    """Images that only one of the two has right, difference of top-k errors, its interval, McNemar's p."""
    if not reference.labelled:
        return (None, None), nan, Interval(nan, nan), nan
    split = one_right(reference, other, k)
    difference = 100 * (split[0] - split[1]) / len(other.ranks)
    return split, difference, paired_interval_pct(*split, len(other.ranks)), mcnemar_p(*split)


def one_right(reference: Scored, other: Scored, k: int) -> tuple[int, int]:
    """Images whose true class only the reference, and only the other has among its best k."""
    return _split(reference.ranks < k, other.ranks < k)


def compare_all(scored: list[Scored]) -> list[tuple[Scored, Scored]]:
    """(reference, other) for every row whose protocol the first model was measured in too."""
    of_first = {_protocol(s): s for s in scored if [m.model for m in s.row.members] == [0]}
    pairs = [(of_first.get(_protocol(s)), s) for s in scored]
    return [
        (reference, other)
        for reference, other in pairs
        if reference is not None and reference is not other
    ]


def differing_images(
    reference: Scored, other: Scored, files: list[str], classes: ClassIndex
) -> pd.DataFrame:
    """One line for each image with another best class. Args: files, of the images that the rows hold."""
    at = np.flatnonzero(reference.best != other.best)
    return pd.DataFrame(
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

    Args: images that only the first or only the second model has right; images in all.
    """
    table = paired_test.Table(only_first, only_second, images)
    low, high = paired_test.bounds(table, level=0.025)
    return Interval(100 * low, 100 * high)


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Two-sided exact p: a fair coin thrown once for every image that just one of the two has right."""
    n, fewer = only_first + only_second, min(only_first, only_second)
    log_tail = [
        math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) - n * math.log(2)
        for i in range(fewer + 1)
    ]
    return min(1.0, 2 * math.fsum(map(math.exp, log_tail)))


def _split(first: np.ndarray, second: np.ndarray) -> tuple[int, int]:
    """Images that only the first has right, and only the second."""
    return int((first & ~second).sum()), int((second & ~first).sum())


def _protocol(scored: Scored) -> tuple[str, str, bool]:
    """By each net's S the sizes may differ between nets; "single" and "multi" are compared all the same."""
    kind = scored.row.scales.split()[0]
    return scored.row.protocol, kind, scored.row.flips
