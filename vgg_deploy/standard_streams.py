"""Ends a command in order where standard output or standard error cannot be written."""

import errno
import io
import os
import signal
import sys
from contextlib import suppress
from typing import Any, TextIO

CLOSED_PIPE = 128 + getattr(signal, "SIGPIPE", 13)  # exit code, as of a program that SIGPIPE ends
FULL = 2  # exit code: a place that cannot be written
OUTPUT, ERRORS = 1, 2  # descriptors


def open_missing_streams() -> None:
    """Give closed standard streams to the null device, so that no file gets their descriptors.

    What cannot be encoded is written as backslash escapes from now on, and `failed_stream` knows
    what could not be written.
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
    sys.stdout = _remembering(sys.stdout, OUTPUT)
    sys.stderr = _remembering(sys.stderr, ERRORS)


def failed_stream() -> tuple[str, OSError] | None:
    """The standard stream that cannot be written, by its name, and why; None if both can.

    What it still holds is dropped, so that Python does not complain when the process ends.
    """
    streams = (("standard output", sys.stdout, OUTPUT), ("standard error", sys.stderr, ERRORS))
    failed = None
    for name, stream, descriptor in streams:
        file = _raw(stream)
        error = file.failure if isinstance(file, _File) else None
        try:
            stream.flush()
        except ValueError:  # closed by somebody
            continue
        except OSError as now:
            error = error or now
        if error:
            failed = failed or (name, error)
            _drop(stream, descriptor)
            if isinstance(file, _File):
                file.failure = None
    return failed


def exit_code(error: OSError) -> int:
    """Of a command whose standard stream cannot be written."""
    return CLOSED_PIPE if error.errno == errno.EPIPE else FULL


class _File(io.FileIO):
    """A standard stream's descriptor, which remembers the first failure.

    Python's own streams forget it: a failed write drops what it was to write, and the next flush
    finds nothing wrong.
    """

    failure: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write bytes, as `io.FileIO`."""
        try:
            return super().write(data)
        except OSError as error:
            self.failure = self.failure or error
            raise


def _remembering(stream: TextIO, descriptor: int) -> TextIO:
    """The same stream by a `_File`; a stream that is not the process's own stays."""
    try:
        own = stream.fileno() == descriptor and isinstance(stream, io.TextIOWrapper)
    except (OSError, ValueError):  # a test's stream has no descriptor
        own = False
    if not own or isinstance(_raw(stream), _File):
        return stream
    stream.flush()
    file = _File(descriptor, "w", closefd=False)
    at_once = bool(getattr(stream, "write_through", False))  # python -u, PYTHONUNBUFFERED
    return io.TextIOWrapper(
        file if at_once else io.BufferedWriter(file),  # as Python does
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=bool(stream.line_buffering),
        write_through=at_once,
    )


def _raw(stream: TextIO) -> object:
    """What writes the stream's bytes, below its buffer if it has one."""
    buffer = getattr(stream, "buffer", None)
    return getattr(buffer, "raw", buffer)


def _drop(stream: TextIO, descriptor: int) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError, ValueError):
        os.dup2(null, descriptor)
        stream.flush()
    os.close(null)
