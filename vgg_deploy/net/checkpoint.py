"""Saves and loads checkpoints: one file with a net's weights and all that is needed to use it."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import Tensor

from vgg_deploy.errors import InputError
from vgg_deploy.files import linked, whole_file
from vgg_deploy.net.model import VGG
from vgg_deploy.net.spec import NetSpec
from vgg_deploy.net.torch_archive import check_archive, check_old_file, described, is_archive
from vgg_deploy.net.torch_files import is_torchscript, why_unreadable
from vgg_deploy.regular_files import is_regular
from vgg_deploy.unchanged_files import unchanged

FORMAT = "vgg-deploy-checkpoint"
VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """The content of a checkpoint file."""

    spec: NetSpec
    weights: dict[str, Tensor]  # as VGG(spec).state_dict()
    # what resuming needs; empty in a file for deployment only
    training: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(path: Path, checkpoint: Checkpoint, first: Path | None = None) -> None:
    """Write a checkpoint file, completely or not at all.

    Args:
        path: The file; an older one stays as it was if writing fails.
        checkpoint: Its content.
        first: A second name, in the same folder, which the file gets before `path`. On a file
            system without hard links a second file is written there, with the weights alone.

    Raises:
        InputError: If the file cannot be written.
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "spec": checkpoint.spec.to_json(),
        "weights": checkpoint.weights,
        "training": checkpoint.training,
    }
    with whole_file(path) as partial:
        try:
            with open(partial, "wb") as file:
                torch.save(content, file)
        except RuntimeError as error:
            raise _cause(error) from None
        if first is not None and not linked(partial, first):
            save_checkpoint(first, Checkpoint(checkpoint.spec, checkpoint.weights))


def _cause(error: RuntimeError) -> Exception:
    """The OSError that PyTorch hides under an error of its own when the disk is full."""
    return error.__context__ if isinstance(error.__context__, OSError) else error


def is_checkpoint(content: object) -> TypeGuard[dict[str, Any]]:
    """Whether the content of a torch file is that of a checkpoint."""
    # the type first: a tensor compares with anything, and gives no single answer
    return isinstance(content, dict) and _is(content.get("format"), FORMAT)


def _is(value: object, expected: object) -> bool:
    """Whether a value of a file is of the same type and equal."""
    return type(value) is type(expected) and value == expected


def is_checkpoint_file(path: Path) -> bool:
    """Whether a file is a checkpoint, by its description alone.

    Its weights are neither read nor checked.

    Raises:
        InputError: If the file is missing or damaged.
    """
    path = _existing(path)
    return is_archive(path) and is_checkpoint(described(path))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a file of `save_checkpoint`.

    The weights are read into memory: a mapped file that another process shortens would end this
    one without a word, and one that is changed would change the weights.

    Raises:
        InputError: If the file is missing, truncated, foreign, from a newer version, or its weights
            do not fit.
    """
    content = load_untrusted(path)
    if not is_checkpoint(content):
        raise InputError(
            f"{path}: contains {_summary(content)}, not a VGG Deploy checkpoint; "
            "`python -m train` writes one"
        )
    if not _is(content.get("version"), VERSION):
        raise InputError(
            f"{path}: format version {content.get('version')!r:.40}, this program reads {VERSION}; "
            "use the version that wrote it"
        )
    try:
        spec = NetSpec.from_json(content["spec"], str(path))
        checkpoint = Checkpoint(spec, content["weights"], content["training"])
    except KeyError as error:
        raise InputError(
            f"{path}: the checkpoint has no {error}; it is damaged, take another one"
        ) from None
    if not spec.has_head:
        raise InputError(
            f"{path}: the checkpoint names no classes; it is damaged, take another one"
        )
    check_weights(checkpoint.weights, spec, str(path))
    return checkpoint


def _summary(content: object) -> str:
    """The content of a foreign torch file, for messages."""
    if isinstance(content, dict):
        return f"a dictionary with keys {list(content)[:4]!r:.200}"
    return f"a {type(content).__name__}"


def load_untrusted(path: Path) -> object:
    """Load a torch file without running any code in it.

    All bytes of an archive are checked first, see `check_archive`. Files from before torch 1.6
    are no archives; they have no checksums.

    Raises:
        InputError: If the file is missing, damaged or no torch file, or if it changes meanwhile.
    """
    path = _existing(path)
    with unchanged(path):
        return _load(path)


def _load(path: Path) -> object:
    """Check and load a torch file, as `load_untrusted`."""
    if is_torchscript(path):
        raise InputError(f"{path}: {why_unreadable('a torch file', None)}")
    if is_archive(path):
        check_archive(path)
    else:
        check_old_file(path)
    try:
        with warnings.catch_warnings():
            # about sparse or quantized tensors, which are refused later
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=False)
    except Exception as error:  # torch raises almost anything for a damaged file
        raise InputError(f"{path}: {why_unreadable('a torch file', error)}") from None


def _existing(path: Path) -> Path:
    path = Path(path)
    if not is_regular(path):
        raise InputError(f"{path}: no such file; give a checkpoint such as runs/D/best.pt")
    return path


def check_weights(weights: object, spec: NetSpec, where: str) -> None:
    """Refuse weights that are not exactly those of a net.

    Args:
        weights: A dictionary of plain, finite float32 tensors, with the net's names and shapes.
        spec: The net.
        where: Names the file in errors.

    Raises:
        InputError: Naming the first tensor that is wrong.
    """
    if not isinstance(weights, dict):
        raise InputError(
            f"{where}: the weights are a {type(weights).__name__}, not a dictionary of tensors; "
            "the file is damaged"
        )
    with torch.device("meta"):
        expected = VGG(spec).state_dict()
    for name in expected.keys() ^ weights.keys():
        kind = "is missing" if name in expected else "is not a layer of it"
        raise InputError(
            f"{where}: {name} {kind} (net {spec.arch}); "
            "the file is damaged or describes another net"
        )
    for name, tensor in weights.items():
        _check_tensor(tensor, expected[name].shape, f"{where}: {name}", spec.arch)


def _check_tensor(tensor: object, shape: torch.Size, where: str, arch: str) -> None:
    """Refuse anything but a plain, finite float32 tensor of a shape."""
    expected = f"net {arch} expects {tuple(shape)} torch.float32"
    if not isinstance(tensor, Tensor):
        raise InputError(f"{where} is {type(tensor).__name__}, {expected}")
    if not is_plain(tensor):
        raise InputError(
            f"{where} is stored as {_layout(tensor)}, expected a plain tensor on the CPU; "
            "save the weights as such"
        )
    if tensor.shape != shape or tensor.dtype != torch.float32:
        raise InputError(f"{where} is {tuple(tensor.shape)} {tensor.dtype}, {expected}")
    if not is_finite(tensor):
        raise InputError(
            f"{where} has NaN or infinite values; the training diverged or the file is damaged, "
            "take another one"
        )


def is_finite(tensor: Tensor) -> bool:
    """Whether a tensor has neither NaN nor infinite values; there is at least one value.

    The extremes carry both along, and unlike `isfinite` they take no memory.
    """
    return all(bool(extreme.isfinite()) for extreme in tensor.aminmax())


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is an ordinary array in memory.

    It is not sparse, not nested, not on another device and not without values.
    """
    return not tensor.is_nested and tensor.layout == torch.strided and tensor.device.type == "cpu"


def _layout(tensor: Tensor) -> str:
    """How a tensor that is not plain is stored, for messages."""
    if tensor.is_nested:
        return "a nested tensor"
    return f"{tensor.layout} on {tensor.device}"


def build(spec: NetSpec, weights: dict[str, Tensor]) -> VGG:
    """Build a net in evaluation mode around the given tensors, without copying them."""
    with torch.device("meta"):
        net = VGG(spec)
    net.load_state_dict(weights, assign=True)
    return net.eval().requires_grad_(False)
