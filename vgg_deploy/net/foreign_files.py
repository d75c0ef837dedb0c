"""Reads the tensors of weight files that other projects wrote: PyTorch, safetensors, NumPy."""

from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from vgg_deploy.errors import InputError
from vgg_deploy.net.checkpoint import is_checkpoint, is_plain
from vgg_deploy.net.torch_archive import check_archive, is_archive
from vgg_deploy.net.torch_files import TORCH_SUFFIXES, is_torchscript, why_unreadable

Tensors = dict[str, Tensor]
Metadata = dict[str, str]

# Counts the batches that a normalisation has seen: an integer, and of no use after training
BATCH_COUNTER = ".num_batches_tracked"


def open_tensors(path: Path) -> tuple[Tensors, Metadata]:
    """Read a file of named tensors without running any code in it.

    Args:
        path: A state dict (.pth, .pt, .bin, .tar), .safetensors or .npz.

    Returns:
        The tensors as float32, mapped from disk where the format allows it; and the file's
        metadata, which only .safetensors have.

    Raises:
        InputError: If the file cannot be read, or holds something other than named floating point
            tensors.
    """
    readers = {
        ".safetensors": _open_safetensors,
        ".npz": _open_npz,
        **dict.fromkeys(TORCH_SUFFIXES, _open_torch),
    }
    if path.suffix not in readers:
        raise InputError(
            f"{path}: the suffix of a weights file shows its kind; "
            f"rename it to one of {', '.join(readers)}"
        )
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a file of weights such as vgg16-397923af.pth")
    if is_torchscript(path):
        raise InputError(f"{path}: {why_unreadable(path.suffix, None)}")
    try:
        content, metadata = readers[path.suffix](path)
    except InputError:
        raise
    except Exception as error:  # KeyError, struct.error, SafetensorError ... for a damaged file
        raise InputError(f"{path}: {why_unreadable(path.suffix, error)}") from None
    if is_checkpoint(content):
        raise InputError(
            f"{path}: is a VGG Deploy checkpoint, not another project's weights; "
            "use it as the checkpoint it is"
        )
    named = isinstance(content, dict) and all(isinstance(name, str) for name in content)
    if not isinstance(content, dict) or not content or not named:
        raise InputError(
            f"{path}: holds a {type(content).__name__} that names no tensors; save a state dict"
        )
    tensors = {
        name: _float_tensor(value, name, path)
        for name, value in content.items()
        if not name.endswith(BATCH_COUNTER)
    }
    return tensors, metadata


def _open_torch(path: Path) -> tuple[object, Metadata]:
    # Files from before torch 1.6, torchvision's first VGGs among them, are no zip archives: they
    # have no checksums and cannot be mapped
    archive = is_archive(path)
    if archive:
        check_archive(path)
    return torch.load(path, map_location="cpu", weights_only=True, mmap=archive), {}


def _open_safetensors(path: Path) -> tuple[object, Metadata]:
    with safe_open(path, framework="pt") as file:
        names = file.keys()
        return {name: file.get_tensor(name) for name in names}, file.metadata() or {}


def _open_npz(path: Path) -> tuple[object, Metadata]:
    # opened here, because np.load leaves a damaged archive open
    with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    tensors = {
        name: torch.from_numpy(array) if array.dtype.kind == "f" else array
        for name, array in arrays.items()
    }
    return tensors, {}


def _float_tensor(value: object, name: str, path: Path) -> Tensor:
    if isinstance(value, Tensor) and is_plain(value) and value.is_floating_point():
        return value.detach().float()
    traits = [
        str(getattr(value, trait))
        for trait in ("dtype", "layout", "device")
        if hasattr(value, trait)
    ]
    raise InputError(
        f"{path}: {name} is a {' '.join((type(value).__name__, *traits))}, not a plain tensor of "
        "floating point numbers; save the float net's state dict"
    )
