"""Memory that a process and its workers both see."""

import mmap
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np


class SharedBuffers:
    """`count` buffers of `size` bytes, filled by worker processes and read by their parent.

    Forked workers inherit anonymous memory, which no limit on /dev/shm concerns and which is gone
    with the last process. Workers that are started otherwise attach to a named block; pickling
    sends its name only.
    """

    def __init__(self, count: int, size: int, inherited: bool):
        """Allocate.

        Args:
            count: Number of buffers.
            size: Bytes of each.
            inherited: Whether the workers are forked.
        """
        self.shape = (count, max(1, size))
        self.named: SharedMemory | None = None
        total = max(1, count) * self.shape[1]
        if inherited:
            memory = memoryview(mmap.mmap(-1, total))
        else:
            self.named = SharedMemory(create=True, size=total)
            memory = self.named.buf
        self.bytes = self._view(memory)

    def __getitem__(self, index: int) -> np.ndarray:
        """(size,) uint8, the buffer itself."""
        return self.bytes[index]

    def __len__(self) -> int:
        return self.shape[0]

    def close(self) -> None:
        """Remove the named block, of which no array may be in use."""
        self.bytes = np.empty((0, 0), np.uint8)
        if self.named:
            self.named.close()
            self.named.unlink()
            self.named = None

    def _view(self, memory: memoryview) -> np.ndarray:
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
