"""Summarises one load: its latencies, and how many requests per second were answered."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LoadPoint:
    """What was measured at one offered load.

    Attributes:
        offered: Requests per second of the schedule.
        requests: Number of requests that were sent.
        failed: Those of them without an answer. Their latencies are in no percentile.
        throughput: Answers per second, from the start to the last answer.
        p50: Median latency, ms, counted from the time that a request was due.
        p99: 99th percentile of the latency, ms.
        longest: Longest latency, ms.
    """

    offered: float
    requests: int
    failed: int
    throughput: float
    p50: float
    p99: float
    longest: float


def nearest_rank(values: Sequence[float] | np.ndarray, percent: float) -> float:
    """Compute a percentile by the nearest rank: a measured value, never one between two.

    It is the smallest value that at least `percent` of all values do not exceed.

    Args:
        values: At least one.
        percent: Above 0, up to 100.

    Raises:
        ValueError: If there are no values, or the percentage is out of range.
    """
    if not len(values) or not 0 < percent <= 100:
        raise ValueError(f"the {percent}th percentile of {len(values)} values is not defined")
    # NumPy's own "inverted_cdf" divides first, so that 99.9 % of 1,000 values becomes all of them
    return float(np.sort(values)[math.ceil(percent * len(values) / 100) - 1])


def load_point(offered: float, due: np.ndarray, answered: np.ndarray) -> LoadPoint:
    """Summarise the requests of one schedule.

    Args:
        offered: Requests per second.
        due: (N,) float64 seconds, when each request was due.
        answered: (N,) float64 seconds by the same clock, NaN for requests without an answer.

    Raises:
        ValueError: If no request was answered, or the arrays differ in length.
    """
    if due.shape != answered.shape:
        raise ValueError(f"{due.shape} arrivals and {answered.shape} answers")
    done = ~np.isnan(answered)
    if not done.any():
        raise ValueError(f"none of {len(due)} requests was answered")
    latencies = 1000 * (answered[done] - due[done])
    last = float(answered[done].max())
    return LoadPoint(
        offered=offered,
        requests=len(due),
        failed=int((~done).sum()),
        throughput=float(done.sum()) / last if last > 0 else float("inf"),
        p50=nearest_rank(latencies, 50),
        p99=nearest_rank(latencies, 99),
        longest=float(latencies.max()),
    )
