"""Lets SIGTERM and SIGHUP end a command as Ctrl-C does: by an exception, with work kept."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from vgg_deploy.errors import Stopped

TORCHRUN = "TORCHELASTIC_RUN_ID"  # of its processes: it ends them itself
STOPPING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Raise `Stopped` in the block at the first signal; a second one acts at once.

    A signal that the caller ignores (nohup does) stays ignored.
    """
    if TORCHRUN in os.environ or threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def stop(signum: int, frame: FrameType | None) -> None:
        for number in before:
            if signal.getsignal(number) is stop:
                signal.signal(number, signal.SIG_DFL)
        if os.getpid() != owner:  # a fork that has not set its own handlers
            signal.raise_signal(signum)
        raise Stopped(signum)

    usual = (signal.SIG_DFL, signal.default_int_handler)
    before = {number: signal.getsignal(number) for number in STOPPING}
    before = {number: handler for number, handler in before.items() if handler in usual}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
