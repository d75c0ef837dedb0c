"""Times every part of a net, and the whole call beside them."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bench.layers.contract import LayerTimer, PartTimes
from bench.statistics.median import median_interval

WARM_UP = 2  # rounds that do not count
LEAST_ROUNDS = 12  # that count, so that medians have intervals
TIMES_AS_LONG = 8  # as the least time: then FEWEST_ROUNDS are enough
FEWEST_ROUNDS = 6
NAN = float("nan")


@dataclass(frozen=True, eq=False)
class Times:
    """What the calls of one model took, part by part and as a whole.

    Attributes:
        how: How the parts were timed.
        parts: Times of each part in every counted call.
        whole_ms: (calls,) milliseconds of calls without timers inside, each called in turn with one
            that has them; from images to scores, both in host memory.
        timed_ms: (calls,) milliseconds of the calls with timers inside.
    """

    @property
    def overhead_ms(self) -> float:
        """Median time of the calls with timers that is outside of all parts."""
        return float(np.median(self.timed_ms - np.sum([part.ms for part in self.parts], axis=0)))

    how: str
    parts: list[PartTimes]
    whole_ms: np.ndarray
    timed_ms: np.ndarray

    @property
    def sum_ms(self) -> float:
        """Of the parts' medians."""
        return sum(float(np.median(part.ms)) for part in self.parts)


def measure_times(
    call: Callable[[np.ndarray], object],
    timer: LayerTimer,
    images: np.ndarray,
    least_s: float,
) -> Times:
    """Call a net in turn without and with timers inside.

    Args:
        call: Scores a batch, without timers.
        timer: Scores a batch, with timers.
        images: (N, 3, H, W) uint8 RGB.
        least_s: Seconds that the measurement takes at least.

    Raises:
        NotSeparable: If the times are of no layers of the net.
    """
    for _ in range(WARM_UP):
        call(images)
        timer(images)
    timer.forget()
    whole: list[float] = []
    timed: list[float] = []
    start = time.perf_counter()
    while not _is_enough(len(whole), time.perf_counter() - start, least_s):
        whole.append(_ms(call, images))
        timed.append(_ms(timer, images))
    return Times(timer.how, timer.finish(), np.array(whole), np.array(timed))


def with_interval(ms: np.ndarray) -> tuple[float, float, float]:
    """Median of times and its 95 % interval; NaN where there are too few for an interval."""
    low, high = median_interval(ms)
    return float(np.median(ms)), low, high


def _is_enough(rounds: int, seconds: float, least_s: float) -> bool:
    if seconds < least_s:
        return False
    return rounds >= LEAST_ROUNDS or (
        seconds >= TIMES_AS_LONG * least_s and rounds >= FEWEST_ROUNDS
    )


def _ms(call: Callable[[np.ndarray], object], images: np.ndarray) -> float:
    start = time.perf_counter()
    call(images)
    return 1000 * (time.perf_counter() - start)
