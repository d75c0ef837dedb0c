"""The ways a command ends before its time; click prints the message and exits with the code, without a traceback."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from click import ClickException


class InputError(ClickException):
    """A file, folder or option that cannot be used. The message names it and says what to do."""

    exit_code = 2


class CheckFailed(ClickException):
    """The inputs were fine, but a result is not good enough (parity, accuracy)."""

    exit_code = 1


class Undecided(ClickException):
    """The inputs were fine, but they do not suffice for a verdict."""

    exit_code = 3


class Interrupted(ClickException):
    """Ctrl-C or a scheduler's SIGTERM; the code is the shell's own: 128 and the signal."""

    def __init__(self, message: str, signum: int = signal.SIGINT):
        super().__init__(message)
        self.exit_code = 128 + signum


@contextmanager
def interruptible(kept: str) -> Iterator[None]:
    """Let Ctrl-C end the block with a sentence that says what is `kept`."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted; {kept}") from None
