"""Hands batches from a loader process to the main process in memory that has no name.

PyTorch puts shared tensors into /dev/shm, which has 64 MB in a container by default; two batches of
the paper (256 crops of 224 pixels) take more. Memory of `memfd_create` has no such limit.

The receiver opens the memory through /proc, without the sender's help: a sender that was stopped
would never answer.
"""

import mmap
import os
from collections import deque
from math import prod
from typing import Any

import torch
from torch import Tensor

from train.feed.views import TrainBatch

AVAILABLE = (  # on Linux
    hasattr(os, "memfd_create")
    and hasattr(os, "posix_fallocate")
    and os.path.isdir("/proc/self/fd")
)
ALIGNMENT = 64  # bytes
IN_FLIGHT = 2  # batches a worker has sent that were not received: PyTorch's prefetch_factor

_sent: deque[int] = deque()  # descriptors of this process
Region = tuple[int, tuple[int, ...], torch.dtype]  # offset in bytes, shape, dtype


class SentBatch:
    """A batch in one block of anonymous memory; pickled and unpickled, it is a `TrainBatch`.

    All that can fail does so in the constructor, in the thread that made the batch: PyTorch sends
    batches in another thread, whose errors nobody receives.
    """

    def __init__(self, batch: TrainBatch):
        """Copy the batch.

        Args:
            batch: Its tensors lie on the CPU.

        Raises:
            OSError: Too few file descriptors are left, or too little memory.
        """
        self.unreadable = batch.unreadable
        self.regions: list[Region] = []
        size = 0
        for tensor in batch.tensors:
            self.regions.append((size, tuple(tensor.shape), tensor.dtype))
            size += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
        self.size = max(size, ALIGNMENT)
        descriptor = os.memfd_create("vgg-deploy-batch", os.MFD_CLOEXEC)
        try:
            # Unlike ftruncate, this fails where memory is limited, instead of a later SIGBUS
            os.posix_fallocate(descriptor, 0, self.size)
            copies = _tensors(descriptor, self.size, self.regions)
            for tensor, copy in zip(batch.tensors, copies, strict=True):
                copy.copy_(tensor)
        except BaseException:
            os.close(descriptor)
            raise
        _sent.append(descriptor)
        if len(_sent) > IN_FLIGHT:
            os.close(_sent.popleft())
        self.descriptor, self.inode = descriptor, os.fstat(descriptor).st_ino

    def __reduce__(self) -> tuple[Any, ...]:
        path = f"/proc/{os.getpid()}/fd/{self.descriptor}"
        return _received, (path, self.inode, self.size, self.regions, self.unreadable)


def _received(
    path: str, inode: int, size: int, regions: list[Region], unreadable: list[str]
) -> TrainBatch:
    """The batch in the process that received it.

    Args:
        path: Of the sender's descriptor of the block.
        inode: Of the block.
        size: Of the block, bytes.
        regions: Of the tensors in it.
        unreadable: Of the batch.

    Raises:
        OSError: The sender is gone, or has closed the block.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_ino != inode:
            raise OSError(f"{path} is another batch")
        crops, shifts, labels, rows, boxes = _tensors(descriptor, size, regions)
        return TrainBatch(crops, shifts, labels, rows, unreadable, boxes)
    finally:
        os.close(descriptor)


def _tensors(descriptor: int, size: int, regions: list[Region]) -> list[Tensor]:
    """Tensors that lie in the block; each keeps it in memory."""
    block = mmap.mmap(descriptor, size)
    return [
        torch.frombuffer(block, dtype=dtype, count=prod(shape), offset=offset).reshape(shape)
        if prod(shape)
        else torch.empty(shape, dtype=dtype)
        for offset, shape, dtype in regions
    ]
