"""Says what another process on this machine does."""

from pathlib import Path

STATES = {  # letters of /proc/PID/stat
    "T": "stopped by a signal",
    "t": "stopped by a debugger",
    "D": "waiting for a disk",
    "R": "computing",
    "S": "waiting",
    "Z": "ended",
}


def state_of(pid: int | None) -> str:
    """What a process does, in words; "alive" where the system does not say."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:  # other systems than Linux, or the process is gone
        return "alive"
    letter = status.rpartition(")")[2].split()[0]
    return STATES.get(letter, f"in state {letter}")
