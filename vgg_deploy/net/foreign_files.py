"""Reads the tensors of weight files that other projects wrote: PyTorch, safetensors, NumPy."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load
from torch import Tensor

from vgg_deploy.errors import InputError
from vgg_deploy.net.checkpoint import is_checkpoint, is_plain
from vgg_deploy.net.stand_ins import StandIn, load_with_stand_ins
from vgg_deploy.net.torch_archive import check_archive, check_old_file, is_archive
from vgg_deploy.net.torch_files import TORCH_SUFFIXES, is_torchscript, why_unreadable
from vgg_deploy.net.weights_suffixes import NPZ, SAFETENSORS
from vgg_deploy.net.wrapped_weights import AVERAGE_COUNTER, unwrapped, without_prefix
from vgg_deploy.regular_files import is_regular, open_regular, read_regular
from vgg_deploy.unchanged_files import unchanged

Tensors = dict[str, Tensor]
Metadata = dict[str, str]

# Counts the batches that a normalisation has seen: an integer, and of no use after training
BATCH_COUNTER = ".num_batches_tracked"
MOST_NPZ_BYTES = 2**32  # net E in float64 has 1.2 GB
MOST_SAFETENSORS_BYTES = 2**32


class NamedTensors(NamedTuple):
    """The content of a weights file.

    Attributes:
        tensors: Float32, in memory.
        metadata: Of a .safetensors; empty for other files.
        unwrapped: How the tensors were found in the file, for people; empty for a plain state dict.
    """

    tensors: Tensors
    metadata: Metadata
    unwrapped: str


def open_tensors(path: Path) -> NamedTensors:
    """Read a file of named tensors without running any code in it.

    What training loops put around a state dict is opened, see `wrapped_weights`.

    Args:
        path: A state dict (.pth, .pt, .bin, .tar, .ckpt), .safetensors or .npz.

    Raises:
        InputError: If the file cannot be read, holds something other than named floating point
            tensors, or holds two nets.
    """
    readers = {
        SAFETENSORS: _open_safetensors,
        NPZ: _open_npz,
        **dict.fromkeys(TORCH_SUFFIXES, _open_torch),
    }
    if path.suffix not in readers:
        raise InputError(
            f"{path}: the suffix of a weights file shows its kind; "
            f"rename it to one of {', '.join(readers)}"
        )
    if not is_regular(path):
        raise InputError(f"{path}: no such file; give a file of weights such as vgg16-397923af.pth")
    if is_torchscript(path):
        raise InputError(f"{path}: {why_unreadable(path.suffix, None)}")
    with unchanged(path):
        try:
            content, metadata = readers[path.suffix](path)
        except InputError:
            raise
        except Exception as error:  # KeyError, struct.error, SafetensorError ... if it is damaged
            raise InputError(f"{path}: {why_unreadable(path.suffix, error)}") from None
    if is_checkpoint(content):
        raise InputError(
            f"{path}: is a VGG Deploy checkpoint, not another project's weights; "
            "use it as the checkpoint it is"
        )
    opened = unwrapped(content, str(path))
    values = {name: v for name, v in opened.values.items() if not _is_counter(name)}
    bare = without_prefix(values, str(path))
    tensors = {name: _float_tensor(value, name, path) for name, value in bare.values.items()}
    return NamedTensors(tensors, metadata, "; ".join((*opened.done, *bare.done)))


def _is_counter(name: str) -> bool:
    return name.endswith(BATCH_COUNTER) or name == AVERAGE_COUNTER


def _open_torch(path: Path) -> tuple[object, Metadata]:
    # Files from before torch 1.6, torchvision's first VGGs among them, are no zip archives: they
    # have no checksums
    archive = is_archive(path)
    if archive:
        check_archive(path)
    else:
        check_old_file(path)
    return load_with_stand_ins(path, archive), {}


def _open_safetensors(path: Path) -> tuple[object, Metadata]:
    # safe_open's own tensors are mapped from the file; those of `load` are copies
    data = read_regular(path, MOST_SAFETENSORS_BYTES)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    return load(data), metadata


def _open_npz(path: Path) -> tuple[object, Metadata]:
    # opened here, because np.load leaves a damaged archive open
    with open_regular(path) as raw, np.load(raw, allow_pickle=False) as file:
        stated = sum(member.file_size for member in file.zip.infolist())
        if stated > MOST_NPZ_BYTES:
            raise InputError(
                f"{path}: states {stated:,} bytes of arrays, and at most {MOST_NPZ_BYTES:,} are "
                "read; save the weights of one net alone"
            )
        arrays = {name: file[name] for name in file.files}
    tensors = {
        name: torch.from_numpy(array) if array.dtype.kind == "f" else array
        for name, array in arrays.items()
    }
    return tensors, {}


def _float_tensor(value: object, name: str, path: Path) -> Tensor:
    if isinstance(value, Tensor) and is_plain(value) and value.is_floating_point():
        return value.detach().float()
    if isinstance(value, StandIn):
        raise InputError(
            f"{path}: {name} is a Python object ({value.origin}), not a plain tensor of floating "
            "point numbers, and no code of a file is run; save the float net's state dict"
        )
    traits = [
        str(getattr(value, trait))
        for trait in ("dtype", "layout", "device")
        if hasattr(value, trait)
    ]
    raise InputError(
        f"{path}: {name} is a {' '.join((type(value).__name__, *traits))}, not a plain tensor of "
        "floating point numbers; save the float net's state dict"
    )
