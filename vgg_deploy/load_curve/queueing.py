"""Decides which queries a free server takes next, and simulates a queue of such servers.

Queries are taken first come, first served. A batch closes as soon as it is full, or when its first
query has waited for the delay, or later when a server becomes free.
"""

from collections.abc import Callable

import numpy as np


def next_batch(
    due: np.ndarray, first: int, now: float, most: int, delay: float
) -> tuple[float, int]:
    """Form the batch of a server that is free.

    Args:
        due: (N,) float64 seconds, when each query arrives, in order.
        first: Index of the first query that no server has taken, below N.
        now: Seconds, when the server is free.
        most: Queries per batch.
        delay: Seconds that the first query waits for others at most.

    Returns:
        When the server starts, seconds, and how many queries it takes, from `first` on.
    """
    last = first + most - 1
    full = float(due[last]) if last < len(due) else np.inf
    start = max(now, min(full, float(due[first]) + delay))
    there = int(np.searchsorted(due, start, side="right")) - first
    return start, min(most, there)


def simulate_queue(
    due: np.ndarray,
    service: Callable[[int], float],
    servers: int = 1,
    most: int = 1,
    delay: float = 0.0,
) -> np.ndarray:
    """Compute when queries are answered by servers with known times of service.

    Args:
        due: (N,) float64 seconds, when each query arrives, in order.
        service: Seconds that a batch of so many queries takes.
        servers: Number of servers with one common queue.
        most: Queries per batch.
        delay: As `next_batch`.

    Returns:
        (N,) float64 seconds, when each query is answered.
    """
    answered = np.empty_like(due)
    free = np.zeros(servers)
    first = 0
    while first < len(due):
        server = int(free.argmin())
        start, count = next_batch(due, first, float(free[server]), most, delay)
        free[server] = start + service(count)
        answered[first : first + count] = free[server]
        first += count
    return answered
