"""Measures the peak memory of a process.

The scripts of this folder are also run alone, so it imports nothing of this repository.
"""

import resource
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak_mib() -> float:
    """Largest resident memory of this process so far, in MiB, mapped files included.

    Linux: VmHWM, which starts from zero with the program. `getrusage` keeps the peak of the
    process that started this one, so it is used only where there is no /proc.
    """
    if not STATUS.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return memory_mib("VmHWM")


def memory_mib(field: str) -> float:
    """One memory field of /proc/self/status, such as "VmRSS", in MiB."""
    for line in STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"{field}: not in {STATUS}")
