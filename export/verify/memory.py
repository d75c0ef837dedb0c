"""Sets how freed memory is kept and returned, where the C library is glibc."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
SMALL, MOST, KEPT = 2**20, 2**25, 2**30  # bytes; the second is the largest threshold of glibc


def keep_blocks() -> None:
    """Let glibc keep freed blocks of the size of activations for the next layer.

    The system would clear them again for every layer, which takes a fifth of the time of a pass.
    Other C libraries have no such settings.
    """
    _set(MOST, KEPT)


def return_blocks() -> None:
    """Return freed blocks to the system, and from now on all but small ones at once.

    So another library's blocks do not come on top of them.
    """
    _set(SMALL, SMALL)
    trim()


def trim() -> None:
    """Return the blocks that are free to the system, and go on keeping others."""
    library = _glibc()
    if library:
        library.malloc_trim(0)


def _set(mapped: int, kept: int) -> None:
    """Blocks larger than `mapped` bytes are mapped; `kept` free bytes stay at the heap's end."""
    library = _glibc()
    if library:
        library.mallopt(M_MMAP_THRESHOLD, mapped)
        library.mallopt(M_TRIM_THRESHOLD, kept)


def _glibc() -> ctypes.CDLL | None:
    """The C library, if it has these functions."""
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):  # Windows refuses None
        return None
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
