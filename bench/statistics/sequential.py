"""Evidence that stays valid however often it is checked, so that scoring may stop early.

Every image has a loss X: 1, 0 or -1 where two models are compared, 1 or 0 for a share of images.
Against the claim "the mean loss exceeds m" one bets on small losses. A bettor who stakes the
fraction f multiplies the wealth by 1 + f (m - X) / (1 - m) at every image. If the claim is true,
the wealth is a supermartingale that starts at 1, and the probability that it ever reaches 1 / alpha
is at most alpha (Ville's inequality). So 1 / wealth is a p-value at every moment. The mean wealth
of bettors with different fractions has the same property. Because their fractions stay the same, it
depends on the counts alone, not on the order of the images.

The images must come in random order.

Sources: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting" (JRSS B,
2023); Ville, "Etude critique de la notion de collectif" (1939).
"""

from typing import NamedTuple

import numpy as np

from vgg_deploy.statistics.evidence import LEVEL, Evidence, check_counts
from vgg_deploy.statistics.inversion import invert

SEQUENTIAL_LEVEL = 0.01  # of each side of a gate that stops early
# Share of the money of the bettor who stakes everything: one image can ruin that bettor, but as
# long as none does, no other wins as fast
ALL_IN = 0.2
STAKES = np.geomspace(0.02, 1.0, 20)  # fractions that can decide within some 50,000 images
STAKES_ON_EXCESS = np.geomspace(0.001, 1.0, 30)  # the same where a small share may be exceeded
RUINED = -700.0  # log of a wealth that counts as nothing
MOST_IMAGES = 2**40  # undecidable if so many do not decide
LOSSES = np.array([1, 0, -1])  # X of an image, in the order of all counts below


class Bets(NamedTuple):
    """Bettors against one claim."""

    log_growth: np.ndarray  # (bettors, 3): log of the wealth's factor at a loss of 1, 0 and -1
    log_money: np.ndarray  # (bettors,): log of the wealth at the start, 1 in all


def paired_evidence_anytime(
    only_reference: int, only_model: int, images: int, limit: float
) -> Evidence:
    """As `evidence.paired_evidence`, but valid when scoring stops depending on the results so far.

    Args:
        only_reference: Images that only the reference has right.
        only_model: Images that only the model has right.
        images: Number of images scored so far.
        limit: The largest loss that is allowed, in (-1, 1].

    Returns:
        p-values valid at any stopping time, and bounds that are 95 % confidence sequences.

    Raises:
        ValueError: For impossible counts or limits.
    """
    check_counts(only_reference, only_model, images, limit)
    return _evidence(only_reference, only_model, images, limit, least=-1)


def proportion_evidence_anytime(count: int, images: int, limit: float) -> Evidence:
    """As `evidence.proportion_evidence`, also when the results so far decide when scoring stops.

    Args:
        count: Images counted.
        images: Number of images scored so far.
        limit: The largest share that is allowed, in [0, 1].

    Returns:
        As `paired_evidence_anytime`.

    Raises:
        ValueError: For impossible counts or limits.
    """
    check_counts(count, 0, images, limit)
    if limit < 0:
        raise ValueError(f"a share of images cannot be limited to {limit}")
    return _evidence(count, 0, images, limit, least=0)


def images_to_decide_anytime(
    only_reference: int, only_model: int, images: int, limit: float
) -> int | None:
    """Number of images at which the shares seen so far give a verdict at SEQUENTIAL_LEVEL.

    Args:
        only_reference: As `paired_evidence_anytime`.
        only_model: As `paired_evidence_anytime`.
        images: As `paired_evidence_anytime`.
        limit: As `paired_evidence_anytime`.

    Returns:
        None where no number would, because the observed loss is too near the limit.

    Raises:
        ValueError: For impossible counts or limits.
    """
    check_counts(only_reference, only_model, images, limit)
    counts = np.array([only_reference, images - only_reference - only_model, only_model])
    return _images_to_decide(counts, images, limit, least=-1)


def images_to_decide_proportion_anytime(count: int, images: int, limit: float) -> int | None:
    """As `images_to_decide_anytime`, for a share of images.

    Args:
        count: As `proportion_evidence_anytime`.
        images: As `proportion_evidence_anytime`.
        limit: As `proportion_evidence_anytime`.
    """
    check_counts(count, 0, images, limit)
    return _images_to_decide(np.array([count, images - count, 0]), images, limit, least=0)


def bets_on_small_losses(limit: float) -> Bets:
    """Bets against the claim "the mean loss exceeds the limit".

    Args:
        limit: m, below 1.
    """
    return _bets(STAKES, (limit - LOSSES) / (1 - limit))


def bets_on_large_losses(limit: float, least: int) -> Bets:
    """Bets against the claim "the mean loss is at most the limit".

    Args:
        limit: m, above `least`.
        least: The smallest loss that an image can have, -1 or 0.
    """
    stakes = STAKES if least < 0 else STAKES_ON_EXCESS
    return _bets(stakes, (LOSSES - limit) / (limit - least))


def log_wealth(bets: Bets, images: np.ndarray) -> np.ndarray:
    """Log of the bettors' mean wealth.

    Args:
        bets: The bettors.
        images: (..., 3), numbers of images with a loss of 1, 0 and -1.

    Returns:
        (...).
    """
    of_bettors = images @ bets.log_growth.T + bets.log_money
    largest = of_bettors.max(axis=-1)
    log_mean: np.ndarray = largest + np.log(np.exp(of_bettors - largest[..., None]).sum(axis=-1))
    return log_mean


def _bets(stakes: np.ndarray, gains: np.ndarray) -> Bets:
    """Bettors who share the money.

    Args:
        stakes: (bettors,) fractions; the last one is everything.
        gains: (3,), what the largest stake wins at a loss of 1, 0 and -1, never below -1.
    """
    with np.errstate(divide="ignore"):  # log(0) where everything is staked and lost
        log_growth = np.log1p(np.maximum(-1.0, stakes[:, None] * gains))
    money = np.full(len(stakes), (1 - ALL_IN) / (len(stakes) - 1))
    money[-1] = ALL_IN
    return Bets(np.maximum(RUINED, log_growth), np.log(money))


def _evidence(lost: int, won: int, images: int, limit: float, least: int) -> Evidence:
    estimate = (lost - won) / images
    counts = np.array([lost, images - lost - won, won])

    def p_exceeds(mean: float) -> float:
        return _p_exceeds(mean, counts)

    def p_at_most(mean: float) -> float:
        return _p_at_most(mean, counts, least)

    low = invert(p_at_most, estimate, float(least), LEVEL, [limit])
    high = invert(p_exceeds, estimate, 1.0, LEVEL, [limit])
    return Evidence(estimate, low, high, p_exceeds(limit), p_at_most(limit), images)


def _p_exceeds(mean: float, counts: np.ndarray) -> float:
    """p-value of the claim "the mean loss exceeds `mean`".

    Args:
        mean: m.
        counts: (3,), numbers of images with a loss of 1, 0 and -1.
    """
    if mean >= 1:  # no loss exceeds 1
        return 0.0
    return _p(bets_on_small_losses(mean), counts)


def _p_at_most(mean: float, counts: np.ndarray, least: int) -> float:
    """p-value of the claim "the mean loss is at most `mean`"."""
    if mean >= 1:
        return 1.0
    if mean <= least:  # only possible if every image has the least loss
        return 1.0 if counts[0] - counts[2] == least * counts.sum() else 0.0
    return _p(bets_on_large_losses(mean, least), counts)


def _images_to_decide(counts: np.ndarray, images: int, limit: float, least: int) -> int | None:
    """Grow the counts in proportion. The log of the wealth is convex in the number of images.

    So once the wealth is large enough it stays so, and bisection finds the first such number.
    """

    def decided(total: int) -> bool:
        grown = counts * (total / images)
        p_pass, p_fail = _p_exceeds(limit, grown), _p_at_most(limit, grown, least)
        return min(p_pass, p_fail) <= SEQUENTIAL_LEVEL

    undecided, enough = images, images + 1
    while not decided(enough):
        undecided, enough = enough, 2 * enough
        if enough > MOST_IMAGES:
            return None
    while enough - undecided > 1:
        middle = (undecided + enough) // 2
        undecided, enough = (undecided, middle) if decided(middle) else (middle, enough)
    return enough


def _p(bets: Bets, counts: np.ndarray) -> float:
    return float(np.exp(-np.maximum(0.0, log_wealth(bets, counts))))
