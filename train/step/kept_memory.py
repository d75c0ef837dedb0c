"""Lets the C library keep the memory of one update for the next.

An update takes and frees arrays of hundreds of megabytes: gradients, activations, weights in half
precision. glibc asks the system for each of them and gives it back, and the system fills every page
with zeros again. On a CPU that took a third of the time of an update in bfloat16.
"""

import ctypes
import platform

# glibc's malloc.h: arrays that are mapped one by one, and free memory at the end of the heap that
# is given back
M_MMAP_MAX, M_TRIM_THRESHOLD = -4, -1
NONE, UNLIMITED = 0, -1


def keep_freed_memory() -> bool:
    """Keep what is freed, for the rest of the process.

    The process then stays as large as its largest update, as on GPUs, where PyTorch keeps memory
    itself.

    Returns:
        Whether the C library is glibc; nothing changes for others.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    return bool(library.mallopt(M_MMAP_MAX, NONE) and library.mallopt(M_TRIM_THRESHOLD, UNLIMITED))
