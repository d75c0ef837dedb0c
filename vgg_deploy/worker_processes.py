"""Starts worker processes, and decides which signals reach them."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import BaseContext
from types import FrameType

from vgg_deploy.errors import InputError
from vgg_deploy.stop_signals import STOPPING

START_METHOD = "VGG_DEPLOY_START_METHOD"  # environment variable that overrides the default
MEANT_FOR_MAIN = STOPPING  # they reach every process of a job


def start_method() -> str:
    """How worker processes start.

    The environment variable VGG_DEPLOY_START_METHOD overrides the default. Python's own default is
    not used, as it differs between versions.

    Returns:
        By default "fork" on Linux, where workers then see the parent's memory, and "spawn"
        elsewhere: macOS has fork, but its system libraries do not survive one; Windows has none.

    Raises:
        InputError: If the variable names a method that this system does not have.
    """
    known = multiprocessing.get_all_start_methods()
    default = "fork" if sys.platform == "linux" else "spawn"
    method = os.environ.get(START_METHOD, default)
    if method not in known:
        raise InputError(
            f"{START_METHOD}={method}: this system starts processes by {', '.join(known)}",
            "choose one of these, or unset the variable",
        )
    return method


def worker_context() -> BaseContext:
    """`multiprocessing` with the start method of `start_method`."""
    return multiprocessing.get_context(start_method())


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Delay Ctrl-C, SIGTERM and SIGHUP to the end of the block, in which worker processes start.

    If a handler raises in the middle of a fork, the error is lost and locks stay locked.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[int] = []

    def remember(signum: int, frame: FrameType | None) -> None:
        arrived.append(signum)

    before = {number: signal.signal(number, remember) for number in MEANT_FOR_MAIN}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)
    if arrived:
        signal.raise_signal(arrived[0])


def outlive_signals() -> None:
    """Ignore what ends a job: the main process decides about signals, and ends its workers."""
    for number in MEANT_FOR_MAIN:
        signal.signal(number, signal.SIG_IGN)
