"""Keeps the stack on which this thread's signal handlers run."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _Stack(ctypes.Structure):
    """stack_t of <signal.h> on Linux."""

    _fields_ = (
        ("pointer", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("size", ctypes.c_size_t),
    )


@contextmanager
def kept_signal_stack() -> Iterator[None]:
    """Give this thread its signal stack back afterwards.

    OpenVINO leaves a stack of its own behind and frees its memory later. Python's handlers run on
    it, so the next Ctrl-C, or the end of a child process, would end the process with SIGSEGV.
    Seen with OpenVINO 2026.4 on Linux; elsewhere nothing is done.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    library = ctypes.CDLL(None)
    before = _Stack()
    library.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        library.sigaltstack(ctypes.byref(before), None)
