"""Knows the errors of libraries that mean that memory ran out."""

import errno

WORDS = (  # of PyTorch, ONNX Runtime, the loader of libraries and C++
    "allocate memory",
    "not enough memory",
    "out of memory",
    "failed to map segment",
    "bad alloc",
    "bad_alloc",
    "could not create a primitive",  # all that oneDNN says
    "can't start new thread",  # whose stack finds no room
)
ADVICE = "use fewer threads and processes or smaller batches, or free memory"


def memory_ran_out(error: BaseException) -> bool:
    """Whether an error, or what it came from, means that there is too little memory.

    Example:
        >>> memory_ran_out(RuntimeError("DefaultCPUAllocator: can't allocate memory: ..."))
        True
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or getattr(cause, "errno", None) == errno.ENOMEM:
            return True
        if any(words in str(cause).lower() for words in WORDS):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
