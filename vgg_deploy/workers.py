"""Processes begun by a main one, and the signals that reach all of them."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

MEANT_FOR_MAIN = (signal.SIGINT, signal.SIGTERM)  # Ctrl-C and a scheduler's wish reach every process of a job


@contextmanager
def signals_held_back() -> Iterator[None]:
    """While processes are begun: a handler that raises in the middle of a fork is swallowed there, and leaves locks taken."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came = []
    before = {s: signal.signal(s, lambda signum, frame: came.append(signum)) for s in MEANT_FOR_MAIN}
    try:
        yield
    finally:
        for s, handler in before.items():
            signal.signal(s, handler or signal.SIG_DFL)
    for signum in came[:1]:
        signal.raise_signal(signum)


def outlive_signals() -> None:
    """First thing in a process whose main one decides what signals mean, and ends it."""
    for s in MEANT_FOR_MAIN:
        signal.signal(s, signal.SIG_IGN)
