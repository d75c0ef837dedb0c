"""Explains why a file cannot be read as tensors of PyTorch, and what to do about it."""

import re
import zipfile
from pathlib import Path

# Suffixes under which checkpoints of ours and state dicts of other projects are read
TORCH_SUFFIXES = (".pth", ".pt", ".bin", ".tar", ".ckpt")


def save_a_state_dict(net: str) -> str:
    """What to do about a file that holds more than tensors.

    Args:
        net: Python that opens the net where its code may run.
    """
    return (
        "where you trust the file, save its weights alone: "
        f'net = {net}; torch.save(net.state_dict(), "weights.pth")'
    )


def is_zip(path: Path) -> bool:
    """Whether a file ends as a zip archive does; it may still be damaged."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # damage that Python notices that early, such as several disks
        return True


def is_torchscript(path: Path) -> bool:
    """Whether a file is a program of torch.jit.

    `torch.load` would warn of it and then refuse it.
    """
    if not is_zip(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False


def why_unreadable(kind: str, error: Exception | None) -> str:
    """The end of the sentence "FILE: ..." for a file that could not be read.

    Args:
        kind: What the file was taken for, such as ".pth".
        error: What `torch.load(weights_only=True)` raised; None for a file that is TorchScript.
    """
    if error is None:
        advice = save_a_state_dict("torch.jit.load(FILE)")
        return f"cannot be read as {kind}: it is a TorchScript program; {advice}"
    # PyTorch's safe reader names the first class or function that is no tensor
    named = re.search(r"GLOBAL ([\w.]+)", str(error))
    if named:
        return (
            f"cannot be read as {kind}: it holds Python objects ({named[1]}), as a whole pickled "
            "model does, and no code of a file is run; "
            + save_a_state_dict("torch.load(FILE, weights_only=False)")
        )
    return (
        f"cannot be read as {kind} ({type(error).__name__}); it is truncated, or holds something "
        "other than tensors"
    )
