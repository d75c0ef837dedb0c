"""The part of this machine that a run may use: cores by affinity, the device by what is there."""

import os

from vgg_deploy.errors import InputError


def allowed_cores() -> list[int] | None:
    """Numbers of the cores that this process may run on; None where the system does not say."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return sorted(affinity(0)) if affinity else None


def available_cores() -> int:
    """Number of cores that this process may use: its CPU affinity, else all of the machine."""
    allowed = allowed_cores()
    return len(allowed) if allowed else os.cpu_count() or 1


def pick_device(wanted: str | None) -> str:
    """The named device, else cuda where PyTorch sees one.

    Raises: InputError if cuda was asked for and is not there.
    """
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: PyTorch sees no CUDA GPU; use --device cpu, or install a driver and a CUDA build of torch")
    return wanted or ("cuda" if torch.cuda.is_available() else "cpu")
