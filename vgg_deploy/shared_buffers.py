"""Allocates memory that a process shares with its workers."""

import mmap
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]


class SharedBuffers:
    """Buffers that worker processes fill and their parent reads.

    Forked workers inherit anonymous memory. It is not subject to the limit of /dev/shm, and is
    freed with the last process. Workers that are started otherwise attach to a named block;
    pickling sends its name only.

    Args:
        count: Number of buffers.
        size: Bytes of each.
        inherited: Whether the workers are forked.
    """

    def __init__(self, count: int, size: int, inherited: bool):
        self.shape = (count, max(1, size))
        self.named: SharedMemory | None = None
        total = max(1, count) * self.shape[1]
        if inherited:
            self.bytes = self._view(mmap.mmap(-1, total))
        else:
            self.named = SharedMemory(create=True, size=total)
            self.bytes = self._view(self.named.buf)

    def __getitem__(self, index: int) -> Bytes:
        """(size,) uint8: the buffer itself, not a copy."""
        buffer: Bytes = self.bytes[index]
        return buffer

    def __len__(self) -> int:
        return self.shape[0]

    def close(self) -> None:
        """Free the named block. No array of it may be in use."""
        self.bytes = np.empty((0, 0), np.uint8)
        if self.named:
            self.named.close()
            self.named.unlink()
            self.named = None

    def _view(self, memory: mmap.mmap | memoryview | None) -> Bytes:
        assert memory is not None  # a block that is closed has no memory
        count, size = self.shape
        return np.frombuffer(memory, np.uint8, count * size).reshape(count, size)

    def __getstate__(self) -> dict[str, Any]:
        if self.named is None:
            raise TypeError("anonymous memory can be inherited by a fork only, not pickled")
        return {"shape": self.shape, "name": self.named.name}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.shape = state["shape"]
        self.named = SharedMemory(state["name"])
        self.bytes = self._view(self.named.buf)
