"""Lets the C library keep the memory of one update for the next.

An update takes and frees arrays of hundreds of megabytes: gradients, activations, weights in half
precision. glibc asks the system for each of them and gives it back, and the system fills every page
with zeros again. On a CPU that took a third of the time of an update in bfloat16.
"""

import ctypes
import platform

# glibc's malloc.h: how many arrays are mapped one by one, and how much free memory at the end of
# the heap is too much; with glibc's own values
M_MMAP_MAX, M_TRIM_THRESHOLD = -4, -1
NONE, UNLIMITED = 0, -1
USUAL_MMAPS, USUAL_TRIM = 65536, 128 * 1024


def keep_freed_memory() -> bool:
    """Keep what is freed from now on.

    The process then stays as large as its largest update, as on GPUs, where PyTorch keeps memory
    itself.

    Returns:
        Whether the C library is glibc; nothing changes for others.
    """
    return _set(NONE, UNLIMITED)


def return_freed_memory() -> bool:
    """Return what is free to the system, now and from now on.

    Returns:
        As `keep_freed_memory`.
    """
    if not _set(USUAL_MMAPS, USUAL_TRIM):
        return False
    ctypes.CDLL(None).malloc_trim(0)
    return True


def _set(most_mmaps: int, trim_threshold: int) -> bool:
    """Set both values; False without glibc."""
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return bool(mallopt(M_MMAP_MAX, most_mmaps) and mallopt(M_TRIM_THRESHOLD, trim_threshold))
