"""Evidence that stays valid however often it is looked at, so that scoring may stop early.

Every image has a loss X: 1, 0 or -1 where two models are compared, 1 or 0 for a share of images.
Against the claim "the mean loss exceeds m" one bets on small losses. A bettor who stakes the
fraction f multiplies the wealth by 1 + f (m - X) / (1 - m) at every image. If the claim is true,
the wealth is a supermartingale that starts at 1, and it ever reaches 1 / alpha with probability at
most alpha (Ville's inequality). So 1 / wealth is a p-value at every moment. The mean wealth of
bettors with different fractions has the same property; because their fractions stay the same, it
depends on the counts alone, not on the order of the images.

The images must come in random order.

Sources: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting" (JRSS B,
2023); Ville, "Etude critique de la notion de collectif" (1939).
"""

import math

import numpy as np

from bench.evidence import LEVEL, Evidence, check_counts
from bench.inversion import invert

SEQUENTIAL_LEVEL = 0.01  # of each side of a gate that stops early
WHOLE = 0.2  # share of the bettors' money with those who stake everything: one image can ruin them,
# but as long as none does, no other bettor wins as fast
STAKES = np.geomspace(0.02, 1.0, 20)  # fractions that can decide within some 50,000 images
STAKES_ON_EXCESS = np.geomspace(0.001, 1.0, 30)  # the same where a small share may be exceeded


def paired_evidence_anytime(
    only_reference: int, only_model: int, images: int, limit: float
) -> Evidence:
    """As `evidence.paired_evidence`, but valid when scoring stops because of what was seen.

    Args: images that only the reference or only the model has right; images scored so far; limit
        in (-1, 1].
    Returns: p-values valid at any stopping time, and bounds that are 95 % confidence sequences.
    """
    check_counts(only_reference, only_model, images, limit)
    return _evidence(only_reference, only_model, images, limit, least=-1)


def proportion_evidence_anytime(count: int, images: int, limit: float) -> Evidence:
    """As `evidence.proportion_evidence`, but valid when scoring stops because of what was seen."""
    check_counts(count, 0, images, limit)
    if limit < 0:
        raise ValueError(f"a share of images cannot be limited to {limit}")
    return _evidence(count, 0, images, limit, least=0)


def log_wealth_of_small_losses(lost: int, won: int, images: int, limit: float) -> float:
    """Log of the wealth won against the claim "the mean loss exceeds the limit".

    Args: images with a loss of 1 and of -1; images in all; limit below 1.
    """
    gains = STAKES[:, None] * (limit - np.array([1, 0, -1])) / (1 - limit)
    return _log_mean_wealth(gains, np.array([lost, images - lost - won, won]))


def log_wealth_of_large_losses(lost: int, won: int, images: int, limit: float, least: int) -> float:
    """Log of the wealth won against the claim "the mean loss is at most the limit".

    Args: as above; least, the smallest loss that an image can have, -1 or 0, below the limit.
    """
    stakes = STAKES if least < 0 else STAKES_ON_EXCESS
    gains = stakes[:, None] * (np.array([1, 0, -1]) - limit) / (limit - least)
    return _log_mean_wealth(gains, np.array([lost, images - lost - won, won]))


def weights(bettors: int) -> np.ndarray:
    """Money that each bettor starts with, 1 in all; the last is the one who stakes everything."""
    shares = np.full(bettors, (1 - WHOLE) / (bettors - 1))
    shares[-1] = WHOLE
    return shares


def _log_mean_wealth(gains: np.ndarray, images: np.ndarray) -> float:
    """Args: gains, (bettors, 3), as parts of the wealth, at a loss of 1, 0 and -1; images, (3,)."""
    happened = images > 0
    with np.errstate(divide="ignore"):  # the log of 0 is right where everything was staked and lost
        logs = np.log1p(np.maximum(-1.0, gains[:, happened]))
    log_wealth = logs @ images[happened] + np.log(weights(len(gains)))
    most = log_wealth.max()
    return float(most + np.log(np.exp(log_wealth - most).sum()))


def _evidence(lost: int, won: int, images: int, limit: float, least: int) -> Evidence:
    estimate = (lost - won) / images

    def p_exceeds(mean: float) -> float:
        if mean >= 1:  # no loss exceeds 1
            return 0.0
        return _p(log_wealth_of_small_losses(lost, won, images, mean))

    def p_at_most(mean: float) -> float:
        if mean <= least:  # only possible if every image has the least loss
            return 1.0 if estimate == least else 0.0
        return _p(log_wealth_of_large_losses(lost, won, images, mean, least))

    low = invert(p_at_most, estimate, float(least), LEVEL, [limit])
    high = invert(p_exceeds, estimate, 1.0, LEVEL, [limit])
    p_fail = p_at_most(limit) if limit < 1 else 1.0
    return Evidence(estimate, low, high, p_exceeds(limit), p_fail, images)


def _p(log_wealth: float) -> float:
    return math.exp(-max(0.0, log_wealth))
