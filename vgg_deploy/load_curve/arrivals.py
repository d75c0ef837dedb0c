"""Computes when the requests of an open-loop load test arrive.

Open loop: a request is sent when it is due, however many are still unanswered. The latency of a
request counts from the time it was due, not from the time it was sent; otherwise a generator that
falls behind would hide the wait of its own requests.
"""

import numpy as np


def poisson_arrivals(rate: float, count: int, seed: int) -> np.ndarray:
    """Draw the arrival times of a Poisson process.

    A seed gives the same gaps at every rate, divided by the rate: two loads differ in pace only.

    Args:
        rate: Requests per second, above 0.
        count: Number of requests.
        seed: Of the random gaps, 0 or more.

    Returns:
        (count,) float64 seconds since the start, in order.

    Raises:
        ValueError: If the rate is not a finite number above 0, or the count is negative.
    """
    _check(rate, count)
    return np.cumsum(np.random.default_rng(seed).standard_exponential(count)) / rate


def even_arrivals(rate: float, count: int) -> np.ndarray:
    """Compute arrivals with equal gaps; the first is due at 0.

    Args:
        rate: Requests per second, above 0.
        count: Number of requests.

    Returns:
        (count,) float64 seconds since the start, in order.

    Raises:
        ValueError: As `poisson_arrivals`.
    """
    _check(rate, count)
    return np.arange(count, dtype=np.float64) / rate


def _check(rate: float, count: int) -> None:
    if not (np.isfinite(rate) and rate > 0) or count < 0:
        raise ValueError(f"{count} requests at {rate} per second: expected a rate above 0")
