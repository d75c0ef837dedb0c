"""An interval of Spearman's correlation where pairs of one photo depend on each other.

Each photo is left out in turn, with all of its pairs: the jackknife over photos. It is taken of
Fisher's transform of the correlation, whose spread hardly depends on the correlation itself, and
corrects the bias. Bounds are those of Student's t.

The bounds are approximate. In simulations with 12 to 32 photos, of which some or none are unlike
the others, a nominal 5 % was 0.3 to 14 %; a bootstrap over photos was worse (18 %). With fewer than
12 photos there is no interval: if every fifth photo is unlike the others, eight of them miss all of
those in one case of six.

Source:
    Miller, "The jackknife: a review", Biometrika 61 (1974); Fisher, "On the probable error of a
    coefficient of correlation deduced from a small sample" (1921).
"""

import math
from dataclasses import dataclass

import numpy as np

from bench.statistics import student
from vgg_deploy.rank_correlation import spearman
from vgg_deploy.statistics.evidence import LEVEL, Evidence

LEAST_PHOTOS = 12


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's correlation of two files' distances.

    Attributes:
        value: Over all pairs; NaN where nothing can be ranked.
        photos: Number of photos.
        centre: Fisher's transform of the correlation without bias; None without an interval.
        error: Its standard error.
        most: The correlation that stands for 1, whose transform is infinite.
    """

    value: float
    photos: int
    centre: float | None = None
    error: float = 0.0
    most: float = 1.0

    def bounds(self, level: float) -> tuple[float, float]:
        """Two one-sided bounds, each exceeded with a chance of about `level`.

        Without an interval they are -1 and 1.
        """
        if self.centre is None:
            return -1.0, 1.0
        reach = student.quantile(1 - level, self.photos - 1) * self.error
        return math.tanh(self.centre - reach), math.tanh(self.centre + reach)

    def evidence(self, limit: float) -> Evidence:
        """What the photos show about a smallest correlation.

        As for losses, the evidence is about 1 minus the correlation.

        Args:
            limit: The smallest correlation that is allowed.
        """
        low, high = self.bounds(LEVEL)
        p_pass = p_fail = 1.0
        if self.centre is not None:
            above = self.centre - _transformed(limit, self.most)
            certain = math.inf if above >= 0 else -math.inf
            t = above / self.error if self.error else certain
            p_fail = student.at_most(t, self.photos - 1)
            p_pass = student.at_most(-t, self.photos - 1)
        return Evidence(
            estimate=1 - self.value,
            low=1 - high,
            high=1 - low,
            p_pass=p_pass,
            p_fail=p_fail,
            images=self.photos,
        )

    def photos_to_decide(self, limit: float) -> int | None:
        """About how many photos would decide about a limit; None if no number would.

        The standard error shrinks with the square root of their number.
        """
        if self.centre is None:
            return LEAST_PHOTOS
        above = abs(self.centre - _transformed(limit, self.most))
        if above == 0 or not math.isfinite(above):
            return None
        reach = student.quantile(1 - LEVEL, self.photos - 1) * self.error
        return max(self.photos + 1, math.ceil(self.photos * (reach / above) ** 2))


def rank_correlation(first: np.ndarray, second: np.ndarray, photo: np.ndarray) -> RankCorrelation:
    """Correlate the distances of two files.

    Args:
        first: (n,) distances.
        second: (n,) distances of the same pairs.
        photo: (n,) int, which photo a pair is of.
    """
    value = spearman(first, second)
    numbers = np.unique(photo)
    count = len(numbers)
    if count < LEAST_PHOTOS or not np.isfinite(value):
        return RankCorrelation(value, count)
    without = [spearman(first[photo != n], second[photo != n]) for n in numbers]
    if not np.isfinite(without).all():
        return RankCorrelation(value, count)
    # two neighbours that change places lower the correlation by 12 / (m^3 - m); 1 is half of that
    most = 1 - 6 / len(first) ** 3
    whole = count * _transformed(value, most)
    parts = np.array([whole - (count - 1) * _transformed(one, most) for one in without])
    error = float(parts.std(ddof=1)) / math.sqrt(count)
    return RankCorrelation(value, count, float(parts.mean()), error, most)


def _transformed(correlation: float, most: float) -> float:
    """Fisher's transform of a correlation of at most `most` either way."""
    return math.atanh(max(-most, min(most, correlation)))
