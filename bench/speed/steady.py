"""Times calls until their median is known well enough and no longer changes.

The times are judged after 3, 6, 12 and 24 s (LEAST_S, doubled), not after every call, since a rule
that is applied often stops at a lucky moment. The calls so far are cut into eight windows in order
of time; the interval of the median reaches at least from the lowest to the highest window's median.
The times are steady if there are 64 calls or more (eight per window), worth at least 50 independent
ones, and the interval is at most 5 % of the median. benchmarks/latency_coverage.py shows by
simulation how often such an interval contains the true median.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from bench.statistics.median import dependence, interval_pct, median_interval, window_medians

LEAST_S = 3.0  # seconds a measurement takes at least
LONGEST = 8  # times LEAST_S at most; a call that has started by then is counted
FEWEST = 5  # calls at least, however long they take
STEADY_CALLS = 64  # fewer cannot show that times are steady
STEADY_INDEPENDENT = 50  # as for Markov chains: 50 autocorrelation times or more (emcee)
STEADY_PCT = 5.0  # widest interval, in per cent of the median


@dataclass(frozen=True, eq=False)
class Timed:
    """The times of successive calls, and what they show."""

    ms: np.ndarray  # (calls,) in order
    seconds: float  # from the first call's start to the last one's end
    median_ms: float
    low_ms: float  # at least 95 % interval of the median; NaN for fewer than 6 calls
    high_ms: float
    dependence: float  # number of consecutive calls that are worth one independent call
    drift_pct: float  # median of the second half against that of the first
    unsteady: str  # why the times are not steady; "" if they are

    @property
    def steady(self) -> bool:
        """Whether the median is that of a steady state over the measured time."""
        return not self.unsteady

    @property
    def interval_pct(self) -> float:
        """Width of the interval in per cent of the median."""
        return interval_pct(self.low_ms, self.high_ms, self.median_ms)


def wall_clock() -> float:
    """Seconds of the clock that times calls, looked up at every call."""
    return time.perf_counter()


def time_until_steady(
    call: Callable[[], object],
    least_s: float = LEAST_S,
    clock: Callable[[], float] = wall_clock,
) -> Timed:
    """Call until the times are steady, for `least_s` at least and LONGEST times as long at most.

    Args:
        call: What is timed.
        least_s: Seconds.
        clock: Seconds from any origin.
    """
    ms: list[float] = []
    start, due = clock(), least_s
    while True:
        before = clock()
        call()
        after = clock()
        ms.append(1000 * (after - before))
        elapsed = after - start
        if elapsed < due or len(ms) < FEWEST:
            continue
        timed = judge(np.array(ms), elapsed)
        if timed.steady or elapsed >= LONGEST * least_s:
            return timed
        while due <= elapsed:
            due *= 2


def judge(ms: np.ndarray, seconds: float) -> Timed:
    """Judge whether times are steady.

    Args:
        ms: (calls,) milliseconds, in order of time.
        seconds: From the first call's start to the last one's end.
    """
    median, windows = float(np.median(ms)), window_medians(ms)
    low, high = median_interval(ms)
    low, high = min(low, float(windows.min())), max(high, float(windows.max()))
    first, second = (float(np.median(half)) for half in np.array_split(ms, 2))
    timed = Timed(
        ms=ms,
        seconds=seconds,
        median_ms=median,
        low_ms=low,
        high_ms=high,
        dependence=dependence(ms),
        drift_pct=100 * (second - first) / first,
        unsteady="",
    )
    return replace(timed, unsteady=_why_unsteady(timed))


def _why_unsteady(timed: Timed) -> str:
    """Why times are not steady; "" if they are."""
    calls, seconds, drift = len(timed.ms), timed.seconds, timed.drift_pct
    independent = calls / timed.dependence
    if calls < STEADY_CALLS:
        return f"only {calls} calls in {seconds:.0f} s, {STEADY_CALLS} are needed to judge"
    if abs(drift) > STEADY_PCT:
        more = "more" if drift > 0 else "less"
        return (
            f"the second half of {calls} calls took {abs(drift):.0f} % {more} time than the first"
        )
    if independent < STEADY_INDEPENDENT:
        return (
            f"times drift slowly: {calls} calls in {seconds:.0f} s are worth "
            f"{independent:.0f} independent ones, {STEADY_INDEPENDENT} are needed"
        )
    if not timed.interval_pct <= STEADY_PCT:
        width = timed.interval_pct
        return f"after {seconds:.0f} s the median's 95 % interval is {width:.0f} % of it wide"
    return ""
