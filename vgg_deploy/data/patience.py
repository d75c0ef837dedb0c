"""States how long to wait for a process, and what ends the wait earlier."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

SECONDS = 600
POLL = 1  # seconds between two looks at the clock
STATES = {  # letters of /proc/PID/stat
    "T": "stopped by a signal",
    "t": "stopped by a debugger",
    "D": "waiting for a disk",
    "R": "computing",
    "S": "waiting",
    "Z": "ended",
}


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


def state_of(pid: int | None) -> str:
    """What a process does, in words; "alive" where the system does not say."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # other systems than Linux, or the process is gone
        return "alive"
    letter = status.rpartition(")")[2].split()[0]
    return STATES.get(letter, f"in state {letter}")
