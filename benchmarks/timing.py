"""Times calls in turn, A B A B, so that a disturbance of the machine meets all of them."""

import time
from collections.abc import Callable, Sequence

import numpy as np


def time_in_turn(
    calls: Sequence[Callable[[int], object]], rounds: int, warm_up: int = 0, pause_s: float = 0.0
) -> np.ndarray:
    """Time every call once per round.

    Args:
        calls: What is timed; each gets the number of the round, warm-up rounds included.
        rounds: Rounds that count.
        warm_up: Rounds before them.
        pause_s: Seconds to wait before each call, for threads of the previous one that still spin.

    Returns:
        Seconds, (rounds, calls, 2): wall time and processor time of this process.
    """
    seconds = np.empty((warm_up + rounds, len(calls), 2))
    for number, of_round in enumerate(seconds):
        for i, call in enumerate(calls):
            if pause_s:
                time.sleep(pause_s)
            wall, processor = time.perf_counter(), time.process_time()
            call(number)
            of_round[i] = time.perf_counter() - wall, time.process_time() - processor
    return seconds[warm_up:]
