"""Ends a command in order where standard output or standard error cannot be written."""

import errno
import os
import signal
import sys
from contextlib import suppress
from typing import TextIO

CLOSED_PIPE = 128 + getattr(signal, "SIGPIPE", 13)  # exit code, as of a program that SIGPIPE ends
FULL = 2  # exit code: a place that cannot be written
OUTPUT, ERRORS = 1, 2  # descriptors


def open_missing_streams() -> None:
    """Give closed standard streams to the null device, so that no file gets their descriptors.

    What cannot be encoded is written as backslash escapes from now on.
    """
    for descriptor in (0, OUTPUT, ERRORS):
        try:
            os.fstat(descriptor)
        except OSError:
            with suppress(OSError):  # the lowest free descriptor is this one
                os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdin is None:
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115  # until the process ends
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def failed_stream() -> tuple[str, OSError] | None:
    """The standard stream that cannot be written, by its name, and why; None if both can.

    What it still holds is dropped, so that Python does not complain when the process ends.
    """
    streams = (("standard output", sys.stdout, OUTPUT), ("standard error", sys.stderr, ERRORS))
    failed = None
    for name, stream, descriptor in streams:
        try:
            stream.flush()
        except ValueError:  # closed by somebody
            continue
        except OSError as error:
            failed = failed or (name, error)
            _drop(stream, descriptor)
    return failed


def exit_code(error: OSError) -> int:
    """Of a command whose standard stream cannot be written."""
    return CLOSED_PIPE if error.errno == errno.EPIPE else FULL


def _drop(stream: TextIO, descriptor: int) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError, ValueError):
        os.dup2(null, descriptor)
        stream.flush()
    os.close(null)
