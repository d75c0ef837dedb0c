"""Lets SIGTERM and SIGHUP end a command as Ctrl-C does: by an exception, with work kept."""

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from vgg_deploy.errors import Stopped

TORCHRUN = "TORCHELASTIC_RUN_ID"  # of its processes: it ends them itself
AGAIN_S = 0.02
IMPORT_S = 20.0  # the longest that a signal waits for the end of an import
IMPORTING = "<frozen importlib._bootstrap>"
STOPPING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)

USUAL = (signal.SIG_DFL, signal.default_int_handler)  # handlers of a process that has set none


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
    it. In other threads than the main one nothing changes. During an import the signal waits for
    its end: native libraries that are being loaded abort the process at an exception.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    first: list[float] = []  # when a signal came during an import

    def stop(signum: int, frame: FrameType | None) -> None:
        if _importing(frame):
            first.append(time.monotonic())
            if first[-1] - first[0] < IMPORT_S:
                _send_again(signum)
                return
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
        _send_again(lost.signum)

    before = {number: signal.getsignal(number) for number in STOPPING}
    before = {number: handler for number, handler in before.items() if handler in USUAL}
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


def end_at_signals(code: int) -> None:
    """Let signals end the process at once, with a code, as soon as Python ends: all work is done.

    Python and its libraries take up to a second to end.

    Args:
        code: The exit code of the finished work.
    """
    atexit.unregister(_end_at_signals)
    atexit.register(_end_at_signals, code)


def _end_at_signals(code: int) -> None:

    def end(signum: int, frame: FrameType | None) -> None:
        os._exit(code)

    if TORCHRUN in os.environ or threading.current_thread() is not threading.main_thread():
        return
    for number in STOPPING:
        if signal.getsignal(number) in USUAL:
            signal.signal(number, end)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == IMPORTING:
            return True
        frame = frame.f_back
    return False


def _send_again(signum: int) -> None:
    """Send a signal to the main thread in a moment."""
    main = threading.main_thread().ident
    again = threading.Timer(AGAIN_S, signal.pthread_kill, (main, signum))
    again.daemon = True
    again.start()
