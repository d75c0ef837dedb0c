"""An interval of Spearman's correlation where pairs of one photo depend on each other.

Photos are drawn again with replacement, each with all of its pairs, and the correlation is computed
anew: the percentile bootstrap over clusters.

Source:
    Efron, "Bootstrap methods: another look at the jackknife" (1979); Davison and Hinkley,
    "Bootstrap methods and their application" (1997), sections 3.8 and 5.3.
"""

from dataclasses import dataclass

import numpy as np

from bench.statistics.evidence import LEVEL, Evidence
from vgg_deploy.rank_correlation import spearman

DRAWS = 1000
SEED = 20140904  # of the draws, so that a run gives the same interval again
LEAST_PHOTOS = 8  # of fewer the draws are too much alike for an interval


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's correlation of two files' distances.

    Attributes:
        value: Over all pairs; NaN where nothing can be ranked.
        draws: (DRAWS,) of the draws, ascending; empty for fewer than LEAST_PHOTOS photos.
        photos: Number of photos.
    """

    value: float
    draws: np.ndarray
    photos: int

    def bounds(self, level: float) -> tuple[float, float]:
        """Two one-sided bounds, each exceeded with a chance of about `level`.

        Without an interval they are -1 and 1.
        """
        if not len(self.draws):
            return -1.0, 1.0
        low, high = np.quantile(self.draws, [level, 1 - level])
        return float(low), float(high)

    def evidence(self, limit: float) -> Evidence:
        """What the photos show about a smallest correlation.

        As for losses, the evidence is about 1 minus the correlation.

        Args:
            limit: The smallest correlation that is allowed.
        """
        low, high = self.bounds(LEVEL)
        below, count = int((self.draws < limit).sum()), len(self.draws)
        has_interval = count > 0
        return Evidence(
            estimate=1 - self.value,
            low=1 - high,
            high=1 - low,
            p_pass=(below + 1) / (count + 1) if has_interval else 1.0,
            p_fail=(count - below + 1) / (count + 1) if has_interval else 1.0,
            images=self.photos,
        )

    def photos_to_decide(self, limit: float) -> int | None:
        """About how many photos would decide about a limit; None if no number would.

        The interval shrinks with the square root of their number.
        """
        if not len(self.draws):
            return LEAST_PHOTOS
        low, high = self.bounds(LEVEL)
        distance = self.value - limit
        reach = self.value - low if distance > 0 else high - self.value
        if distance == 0 or not np.isfinite(distance):
            return None
        return max(self.photos + 1, int(np.ceil(self.photos * (reach / distance) ** 2)))


def rank_correlation(first: np.ndarray, second: np.ndarray, photo: np.ndarray) -> RankCorrelation:
    """Correlate the distances of two files.

    Args:
        first: (n,) distances.
        second: (n,) distances of the same pairs.
        photo: (n,) int, which photo a pair is of.
    """
    value = spearman(first, second)
    members = [np.flatnonzero(photo == number) for number in np.unique(photo)]
    draws = np.zeros(0)
    if len(members) >= LEAST_PHOTOS and np.isfinite(value):
        rng = np.random.default_rng(SEED)
        chosen = rng.integers(0, len(members), (DRAWS, len(members)))
        drawn = (np.concatenate([members[i] for i in row]) for row in chosen)
        draws = np.sort([spearman(first[pairs], second[pairs]) for pairs in drawn])
    return RankCorrelation(value, draws, len(members))
