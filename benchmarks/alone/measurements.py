"""Prints what an export cost its process."""

import json
import os

from peers.memory import peak_mib


def print_measurements(steps: list[tuple[str, float]]) -> None:
    """Print the steps, the peak memory and the processor time of this process.

    Args:
        steps: Name and start in seconds of each step; the last one marks the end.
    """
    used = os.times()
    row = {
        "steps": steps,
        "peak_mib": round(peak_mib()),
        "user_s": used.user,
        "system_s": used.system,
    }
    print(json.dumps(row))
