"""Returns freed memory to the system early, where the C library supports it."""

import ctypes

M_MMAP_THRESHOLD = -3  # of glibc's malloc.h
LARGE = 2**20  # bytes


def return_large_blocks() -> None:
    """Let glibc return large freed blocks, mostly activations, to the system at once.

    It would keep about 150 MB for later. Other C libraries have no such setting.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no mallopt; Windows refuses None
        return
    set_option(M_MMAP_THRESHOLD, LARGE)
