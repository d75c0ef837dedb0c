"""Judges a loss of accuracy from a number of images: estimate, bounds, and a verdict on a limit.

All losses and limits are fractions of images, not per cent. Nothing here approximates: a verdict
"pass" or "fail" is wrong with at most the stated probability, whatever the true rates are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from vgg_deploy.statistics import binomial, paired_test
from vgg_deploy.statistics.paired_test import Table

LEVEL = 0.05  # one-sided
Z_POWER = 1.2815515655446004  # 90 % quantile of the normal distribution
Z_LEVEL = 1.6448536269514722  # 95 % quantile


class Verdict(StrEnum):
    """What the images show about a loss and its limit."""

    PASS = "pass"  # the loss is within the limit
    FAIL = "fail"  # the loss exceeds the limit
    UNDECIDED = "undecided"  # neither is shown


@dataclass(frozen=True)
class Evidence:
    """What the images show about one loss. All but `images` are fractions."""

    estimate: float
    low: float  # lower bound, one-sided, 95 % unless another level was asked for
    high: float  # upper bound, likewise
    p_pass: float  # p-value of "the loss exceeds the limit": small means shown to be within
    p_fail: float  # p-value of "the loss is at most the limit": small means shown to be outside
    images: int


def paired_evidence(
    only_reference: int, only_model: int, images: int, limit: float, level: float = LEVEL
) -> Evidence:
    """Evidence about a model's loss of accuracy against a reference on the same images.

    The bounds are the test inverted, so p_pass <= level exactly where high <= limit.

    Args:
        only_reference: Images that only the reference has right (b).
        only_model: Images that only the model has right (c).
        images: Number of all images (n).
        limit: The largest loss (b - c) / n that is allowed, in (-1, 1].
        level: Of each bound; they have the confidence 1 - level.

    Raises:
        ValueError: For impossible counts or limits.

    Source:
        The exact unconditional test of `vgg_deploy.statistics.paired_test`.
    """
    check_counts(only_reference, only_model, images, limit)
    table = Table(only_reference, only_model, images)
    low, high = paired_test.bounds(table, level, guesses=(limit,))
    # nobody can lose more than all images: a limit of 1 always holds
    return Evidence(
        estimate=(only_reference - only_model) / images,
        low=low,
        high=high,
        p_pass=paired_test.p_of_at_least(table, limit) if limit < 1 else 0.0,
        p_fail=paired_test.p_of_at_most(table, limit) if limit < 1 else 1.0,
        images=images,
    )


def proportion_evidence(count: int, images: int, limit: float, level: float = LEVEL) -> Evidence:
    """Evidence about a share of images, such as disagreements or errors.

    Args:
        count: Images counted.
        images: Number of all images.
        limit: The largest share that is allowed, in [0, 1].
        level: As `paired_evidence`.

    Raises:
        ValueError: For impossible counts or limits.

    Source:
        The exact binomial test, with the one-sided bounds of Clopper and Pearson (1934).
    """
    check_counts(count, 0, images, limit)
    if limit < 0:
        raise ValueError(f"a share of images cannot be limited to {limit}")
    # no share exceeds 1: a limit of 1 always holds
    return Evidence(
        estimate=count / images,
        low=binomial.lower_bound(count, images, level),
        high=binomial.upper_bound(count, images, level),
        p_pass=binomial.at_most(count, images, limit) if limit < 1 else 0.0,
        p_fail=binomial.at_least(count, images, limit) if limit < 1 else 1.0,
        images=images,
    )


def verdicts(evidence: Sequence[Evidence], level: float = LEVEL) -> list[Verdict]:
    """Give a verdict for every row of one gate.

    Many rows multiply the chance of a false alarm, so FAIL is corrected by Holm's method: the
    chance that any row fails falsely is at most `level`. A gate passes only if every row does, so
    PASS needs no correction: a false pass of the gate needs a false pass of a row beyond its limit,
    and each of those has a chance of at most `level`.

    Args:
        evidence: One per row.
        level: Largest probability of a wrong verdict.

    Source:
        Holm, "A simple sequentially rejective multiple test procedure" (1979). Berger,
        "Multiparameter hypothesis testing and acceptance sampling" (1982): the intersection-union
        test.
    """
    result = [Verdict.PASS if e.p_pass <= level else Verdict.UNDECIDED for e in evidence]
    by_p = sorted(range(len(evidence)), key=lambda row: evidence[row].p_fail)
    for rejected, row in enumerate(by_p):
        if evidence[row].p_fail > level / (len(evidence) - rejected):
            break
        result[row] = Verdict.FAIL
    return result


def images_to_decide(only_reference: int, only_model: int, images: int, limit: float) -> int | None:
    """Number of images at which the rates seen so far would give a verdict, with 90 % power.

    It is the normal approximation of the paired test. Half an image is added to both counts, so
    that zero differing images do not count as a rate of exactly zero.

    Args:
        only_reference: As `paired_evidence`.
        only_model: As `paired_evidence`.
        images: As `paired_evidence`.
        limit: As `paired_evidence`.

    Returns:
        None where no number would, because the observed loss equals the limit.

    Raises:
        ValueError: For impossible counts or limits.
    """
    check_counts(only_reference, only_model, images, limit)
    lost = (only_reference + 0.5) / (images + 1)
    won = (only_model + 0.5) / (images + 1)
    return _images(lost - won, lost + won - (lost - won) ** 2, images, limit)


def images_to_decide_proportion(count: int, images: int, limit: float) -> int | None:
    """Number of images at which the share seen so far would give a verdict, with 90 % power.

    Args:
        count: As `proportion_evidence`.
        images: As `proportion_evidence`.
        limit: As `proportion_evidence`.

    Returns:
        None where no number would, because the observed share equals the limit.

    Raises:
        ValueError: For impossible counts or limits.
    """
    check_counts(count, 0, images, limit)
    if count == 0 and limit == 0:
        return None
    share = (count + 0.5) / (images + 1)
    return _images(share, share * (1 - share), images, limit)


def least_images(limit: float, level: float) -> int | None:
    """Smallest number of images that can show a loss within the limit.

    It suffices if no image speaks against the model. All of n images speak for a model that loses
    `limit` with the chance (1 - limit)^n.

    Example:
        >>> least_images(0.005, 0.05)
        598

    Args:
        limit: A fraction.
        level: Chance of a false pass.

    Returns:
        None for a limit of 0, which no number of images shows.
    """
    if limit <= 0:
        return None
    if limit >= 1:
        return 1
    return math.ceil(math.log(level) / math.log1p(-limit))


def paired_to_decide(only_reference: int, only_model: int, images: int, limit: float) -> int | None:
    """Number of images that may decide about a loss: `images_to_decide`, or the least possible.

    Args:
        only_reference: As `paired_evidence`.
        only_model: As `paired_evidence`.
        images: As `paired_evidence`.
        limit: As `paired_evidence`.
    """
    if only_reference == only_model == 0:
        return least_images(limit, LEVEL)
    return images_to_decide(only_reference, only_model, images, limit)


def proportion_to_decide(count: int, images: int, limit: float) -> int | None:
    """Number of images that may decide about a share, as `paired_to_decide`.

    Args:
        count: As `proportion_evidence`.
        images: As `proportion_evidence`.
        limit: As `proportion_evidence`.
    """
    if count == 0:
        return least_images(limit, LEVEL)
    return images_to_decide_proportion(count, images, limit)


def check_counts(only_reference: int, only_model: int, images: int, limit: float) -> None:
    """Check the arguments of `paired_evidence`.

    Raises:
        ValueError: For counts that no images can give, or a limit outside (-1, 1].
    """
    possible = images > 0 and images >= only_reference + only_model
    if min(only_reference, only_model) < 0 or not possible:
        raise ValueError(f"{only_reference} and {only_model} of {images} images is impossible")
    if not -1 < limit <= 1:
        raise ValueError(f"the limit must be in (-1, 1], as a fraction; found {limit}")


def _images(loss: float, variance: float, images: int, limit: float) -> int | None:
    """Sample size n = (z_level + z_power)^2 variance / (limit - loss)^2, above `images`."""
    gap = abs(limit - loss)
    if gap < 1e-9:
        return None
    return max(images + 1, math.ceil((Z_LEVEL + Z_POWER) ** 2 * variance / gap**2))
