"""States how long to wait for a process, and what ends the wait earlier."""

from collections.abc import Callable
from typing import NamedTuple

SECONDS = 600
POLL = 1  # seconds between two looks at the clock


class StopWaiting(Exception):
    """A signal came before what was waited for."""


def never() -> bool:
    """No signal is watched."""
    return False


class Patience(NamedTuple):
    """How to wait for another process.

    Attributes:
        seconds: The longest wait.
        stopping: Whether a signal asks for the end of the work, which ends a wait at once.
    """

    seconds: float = SECONDS
    stopping: Callable[[], bool] = never
