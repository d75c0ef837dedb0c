"""Judges a mean of a few values that vary little, by Student's t; and differences of estimates."""

import math
from typing import NamedTuple

import numpy as np

from bench.statistics import student
from vgg_deploy.statistics.evidence import LEVEL, Evidence


class Estimate(NamedTuple):
    """A number with its interval."""

    value: float
    low: float
    high: float


def mean_estimate(values: np.ndarray, level: float = 0.025) -> Estimate:
    """A mean with its interval.

    Args:
        values: (n,), two or more.
        level: Chance of a mean beyond each end.
    """
    mean = float(values.mean())
    reach = student.quantile(1 - level, len(values) - 1) * _standard_error(values)
    return Estimate(mean, mean - reach, mean + reach)


def mean_evidence(values: np.ndarray, limit: float) -> Evidence:
    """What values show about their mean and a limit.

    Args:
        values: (n,), two or more.
        limit: The largest mean that is allowed, in their unit.

    Returns:
        In the unit of the values.
    """
    error, degrees = _standard_error(values), len(values) - 1
    estimate = mean_estimate(values, LEVEL)
    above = estimate.value - limit
    certain = math.inf if above > 0 else -math.inf
    t = above / error if error else certain
    return Evidence(
        estimate=estimate.value,
        low=estimate.low,
        high=estimate.high,
        p_pass=student.at_most(t, degrees),
        p_fail=student.at_most(-t, degrees),
        images=len(values),
    )


def difference(first: Estimate, second: Estimate) -> Estimate:
    """The second of two independent estimates minus the first, with an approximate interval.

    Args:
        first: With its interval.
        second: With its interval at the same level.

    Source:
        Zou and Donner, "Construction of confidence limits about effect measures: a general
        approach" (Statistics in Medicine, 2008).
    """
    value = second.value - first.value
    below = math.hypot(second.value - second.low, first.high - first.value)
    above = math.hypot(second.high - second.value, first.value - first.low)
    return Estimate(value, value - below, value + above)


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) / math.sqrt(len(values))
