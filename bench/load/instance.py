"""Runs one instance of a model: a process that takes queries from a common queue.

All instances know when every query arrives, and share the number of the next one that nobody has
taken. No process hands out queries, so none can be late; a latency counts from the arrival.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from vgg_deploy.errors import VGGDeployError
from vgg_deploy.load_curve.queueing import next_batch
from vgg_deploy.worker_processes import outlive_signals

Call = Callable[[np.ndarray], object]  # takes (N, 3, H, W) uint8


@dataclass(frozen=True)
class Failure:
    """Why an instance cannot go on.

    Attributes:
        what: As a clause.
    """

    what: str


@dataclass(frozen=True, eq=False)
class WarmUp:
    """Batch sizes that are to be called once, before anything is timed."""

    batches: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Work:
    """Queries to answer.

    Attributes:
        due: (N,) float64 seconds after the start, when each query arrives, in order.
        most: Queries per batch.
        delay: Seconds that the first query of a batch waits for others at most.
        until: Seconds after the start. A batch that would start later is not started, but the
            first one is.
        start: Of the performance counter, seconds.
    """

    due: np.ndarray
    most: int
    delay: float
    until: float
    start: float


@dataclass(frozen=True, eq=False)
class Done:
    """What an instance did.

    Attributes:
        batches: (B, 4) float64: index of the first query, number of queries, start and end in
            seconds after the start of the work.
        memory_mib: Memory of the process, shared pages by share; NaN where it is not known.
    """

    batches: np.ndarray
    memory_mib: float


def serve(pipe: Connection, taken: Any, open_call: Callable[[], Call], side: int) -> None:
    """Run an instance until the pipe is closed.

    Args:
        pipe: Brings `WarmUp` and `Work`; takes seconds of the last warm call, `Done` or `Failure`.
        taken: A shared number with a lock: how many queries have been taken.
        open_call: Opens the model.
        side: Of the images, pixels.
    """
    outlive_signals()
    call: Call | None = None
    images = np.zeros((0, 3, side, side), np.uint8)
    while True:
        try:
            task = pipe.recv()
        except (EOFError, OSError):
            return
        answer: Failure | Done | float
        try:
            if call is None:
                call = open_call()
            if isinstance(task, WarmUp):
                shape = (max(task.batches), 3, side, side)
                images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
                answer = _warm_up(call, images, task.batches)
            else:
                answer = Done(answer_queries(call, images, taken, task), memory_mib())
        except VGGDeployError as error:
            answer = Failure(error.message)
        except MemoryError:
            answer = Failure("memory ran out")
        except Exception as error:  # whatever the library of a runtime raises
            lines = str(error).strip().splitlines() or [""]
            answer = Failure(f"{type(error).__name__}: {lines[0][:200]}")
        try:
            pipe.send(answer)
        except OSError:
            return
        if isinstance(answer, Failure):
            return


def answer_queries(call: Call, images: np.ndarray, taken: Any, work: Work) -> np.ndarray:
    """Take and answer queries until all are taken or the time is over.

    Args:
        call: The model.
        images: (N, 3, H, W) uint8, at least as many as a batch.
        taken: As of `serve`.
        work: The queries.

    Returns:
        As `Done.batches`.
    """
    batches: list[tuple[float, float, float, float]] = []
    _sleep_until(work.start)
    while True:
        with taken.get_lock():
            first = int(taken.value)
            if first >= len(work.due):
                break
            now = time.perf_counter() - work.start
            start, count = next_batch(work.due, first, now, work.most, work.delay)
            if first and start > work.until:  # the first batch is always answered
                break
            taken.value = first + count
        _sleep_until(work.start + start)
        begun = time.perf_counter() - work.start
        call(images[:count])
        batches.append((first, count, begun, time.perf_counter() - work.start))
    return np.array(batches, np.float64).reshape(-1, 4)


def memory_mib() -> float:
    """Memory of this process: pages that it shares count by their share; NaN but on Linux."""
    try:
        lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return float("nan")
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), np.nan)


def _warm_up(call: Call, images: np.ndarray, batches: tuple[int, ...]) -> float:
    """Call each batch size twice; returns the seconds of the last call."""
    seconds = 0.0
    for batch in batches:
        call(images[:batch])
        before = time.perf_counter()
        call(images[:batch])
        seconds = time.perf_counter() - before
    return seconds


def _sleep_until(moment: float) -> None:
    """Sleep until a moment of the performance counter."""
    while (left := moment - time.perf_counter()) > 0:
        time.sleep(left)
