"""Hands batches from a loader process to the main process in memory that has no name.

PyTorch puts shared tensors into /dev/shm, which has 64 MB in a container by default; two batches of
the paper (256 crops of 224 pixels) take more. Memory of `memfd_create` has no such limit.
"""

import errno
import mmap
import os
from math import prod
from multiprocessing.reduction import DupFd
from typing import Any

import torch
from torch import Tensor

from train.feed.views import TrainBatch

AVAILABLE = hasattr(os, "memfd_create")  # Linux
ALIGNMENT = 64  # bytes
SPARE = 4  # descriptors that sending one more batch takes at most

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
        for tensor in batch[:4]:
            self.regions.append((size, tuple(tensor.shape), tensor.dtype))
            size += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
        self.size = max(size, ALIGNMENT)
        descriptor = os.memfd_create("vgg-deploy-batch", os.MFD_CLOEXEC)
        try:
            # Unlike ftruncate, this fails where memory is limited, instead of a later SIGBUS
            os.posix_fallocate(descriptor, 0, self.size)
            copies = _tensors(descriptor, self.size, self.regions)
            for tensor, copy in zip(batch[:4], copies, strict=True):
                copy.copy_(tensor)
            _check_spare(descriptor)
            self.sent: Any = DupFd(descriptor)
        finally:
            os.close(descriptor)

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (self.sent, self.size, self.regions, self.unreadable)


def _received(sent: Any, size: int, regions: list[Region], unreadable: list[str]) -> TrainBatch:
    """The batch in the process that received it.

    Args:
        sent: Gives the block's descriptor; a class of multiprocessing that states no types.
        size: Of the block, bytes.
        regions: Of the tensors in it.
        unreadable: Of the batch.
    """
    descriptor = sent.detach()
    try:
        crops, shifts, labels, rows = _tensors(descriptor, size, regions)
        return TrainBatch(crops, shifts, labels, rows, unreadable)
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


def _check_spare(descriptor: int) -> None:
    """Check that the descriptors are left with which multiprocessing sends one.

    Raises:
        OSError: EMFILE.
    """
    spare: list[int] = []
    try:
        for _ in range(SPARE):
            spare.append(os.dup(descriptor))
    except OSError:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE)) from None
    finally:
        for number in spare:
            os.close(number)
