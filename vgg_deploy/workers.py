"""Processes that work for a main one: how they meet signals, and how they end with it."""

import atexit
import multiprocessing
import os
import signal

_ENDING = multiprocessing.Event()
atexit.register(_ENDING.set)


def outlive_signals() -> None:
    """To be called first in a worker. Ctrl-C and a scheduler's SIGTERM reach all processes; the main one alone decides what they mean.

    When the main process exits, SIGTERM acts as usual again, for Python ends by it what is left.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda signum, frame: os._exit(0) if _ENDING.is_set() else None)
