"""The part of this machine that a run may use: cores by affinity, the device by what is there."""

import os

from vgg_deploy.errors import InputError


def available_cores() -> int:
    """Cores this process is allowed on (its CPU affinity)."""
    return len(os.sched_getaffinity(0))


def pick_device(wanted: str | None) -> str:
    """The named device, else cuda where PyTorch sees one.

    Raises: InputError if cuda was asked for and is not there.
    """
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: PyTorch sees no CUDA GPU; use --device cpu, or install a driver and a CUDA build of torch")
    return wanted or ("cuda" if torch.cuda.is_available() else "cpu")
