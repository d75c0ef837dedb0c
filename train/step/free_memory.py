"""Finds how much memory an update may take, on the device that it runs on."""

import torch

from vgg_deploy.job import Job
from vgg_deploy.machine import available_memory_bytes


def free_bytes(device: torch.device, job: Job) -> int | None:
    """Memory that this process may take, bytes; None if the system does not say.

    Args:
        device: Of the weights.
        job: Processes on this machine share the memory of CPUs; each has a GPU of its own.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + unused
    available = available_memory_bytes()
    return None if available is None else available // job.local_world


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of PyTorch means that memory ran out, on either device.

    oneDNN gives no cause. It fails to create a convolution that it knows only without memory.
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    words = (
        *("DefaultCPUAllocator", "bad_alloc", "could not create a primitive"),
        *("ALLOC_FAILED", "out of memory"),
    )
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def give_back(device: torch.device) -> None:
    """Return memory that PyTorch keeps for later to the device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
