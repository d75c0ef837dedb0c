"""Lets SIGTERM and SIGHUP end a command as Ctrl-C does: by an exception, with work kept."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from vgg_deploy.errors import Stopped

TORCHRUN = "TORCHELASTIC_RUN_ID"  # of its processes: it ends them itself
AGAIN_S = 0.02
STOPPING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """As `signals_raise`, but torchrun's processes end as it wants."""
    if TORCHRUN in os.environ:
        yield
        return
    with signals_raise():
        yield


@contextmanager
def signals_raise() -> Iterator[None]:
    """Raise `Stopped` in the block at the first signal; a second one acts at once.

    A signal that the caller ignores (nohup does) stays ignored, and one that has a handler keeps
    it. In other threads than the main one nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
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

    def repeat(unraisable: Any) -> None:
        """Python drops what is raised in some callbacks, such as those of weak references."""
        lost = unraisable.exc_value
        if not isinstance(lost, Stopped):
            hook(unraisable)
            return
        signal.signal(lost.signum, stop)
        main = threading.main_thread().ident
        again = threading.Timer(AGAIN_S, signal.pthread_kill, (main, lost.signum))
        again.daemon = True
        again.start()

    usual = (signal.SIG_DFL, signal.default_int_handler)
    before = {number: signal.getsignal(number) for number in STOPPING}
    before = {number: handler for number, handler in before.items() if handler in usual}
    hook = sys.unraisablehook
    sys.unraisablehook = repeat
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = hook
