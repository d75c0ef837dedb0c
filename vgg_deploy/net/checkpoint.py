"""One file with a net's weights and everything needed to rebuild and feed it."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from vgg_deploy.errors import InputError
from vgg_deploy.files import whole_file
from vgg_deploy.net.model import VGG
from vgg_deploy.net.spec import NetSpec
from vgg_deploy.net.torch_archive import check_archive, described, is_archive
from vgg_deploy.net.torch_files import is_torchscript, why_unreadable

FORMAT = "vgg-deploy-checkpoint"
VERSION = 1


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds."""

    spec: NetSpec
    weights: dict[str, Tensor]  # as VGG(spec).state_dict()
    training: dict = field(
        default_factory=dict
    )  # what resuming needs; empty in a file for deployment only


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the file beside its final name, flush, rename.

    Raises: InputError if the place cannot be written; an older file of that name is kept.
    """
    held = {
        "format": FORMAT,
        "version": VERSION,
        "spec": checkpoint.spec.to_json(),
        "weights": checkpoint.weights,
        "training": checkpoint.training,
    }
    with whole_file(path) as partial:
        try:
            with open(partial, "wb") as file:
                torch.save(held, file)
        except RuntimeError as error:
            raise _cause(error) from None


def _cause(error: RuntimeError) -> Exception:
    """What PyTorch's archive hides under an error of its own when the disk is full."""
    return error.__context__ if isinstance(error.__context__, OSError) else error


def is_checkpoint(held: object) -> bool:
    """Whether a loaded torch file is one of ours."""
    return isinstance(held, dict) and held.get("format") == FORMAT


def is_checkpoint_file(path: Path) -> bool:
    """Whether a file is one of `save_checkpoint`, by its description alone: weights are neither read nor checked.

    Raises: InputError if the file is missing or damaged.
    """
    path = _existing(path)
    return is_archive(path) and is_checkpoint(described(path))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a file of `save_checkpoint`; the weights are mapped from the file, not copied into memory.

    Raises: InputError if the file is missing, truncated, foreign, from a newer version, or its weights do not fit.
    """
    held = load_untrusted(path)
    if not is_checkpoint(held):
        found = (
            f"a dictionary with keys {list(held)[:4]}"
            if isinstance(held, dict)
            else f"a {type(held).__name__}"
        )
        raise InputError(
            f"{path}: holds {found}, not a VGG Deploy checkpoint; `python -m train` writes one"
        )
    if held.get("version") != VERSION:
        raise InputError(
            f"{path}: format version {held.get('version')!r}, this program reads {VERSION}; use the version that wrote it"
        )
    try:
        spec = NetSpec.from_json(held["spec"], str(path))
        checkpoint = Checkpoint(spec, held["weights"], held["training"])
    except KeyError as error:
        raise InputError(
            f"{path}: the checkpoint has no {error}; it is damaged, take another one"
        ) from None
    check_weights(checkpoint.weights, spec, str(path))
    return checkpoint


def load_untrusted(path: Path) -> object:
    """A torch file's content with tensors mapped from disk; runs no code of the file.

    All bytes of an archive are checked first, see `check_archive`. Files from before torch 1.6
    are no archives; they have no checksums and cannot be mapped.

    Raises:
        InputError: If the file is missing, damaged or no torch file.
    """
    path = _existing(path)
    if is_torchscript(path):
        raise InputError(f"{path}: {why_unreadable('a torch file', None)}")
    archive = is_archive(path)
    if archive:
        check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # of sparse or quantized tensors, which are refused later
            return torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except Exception as error:  # torch raises almost anything for a damaged file
        raise InputError(f"{path}: {why_unreadable('a torch file', error)}") from None


def _existing(path: Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a checkpoint such as runs/D/best.pt")
    return path


def check_weights(weights: object, spec: NetSpec, where: str) -> None:
    """Refuse weights that are not exactly those of `spec`'s net: names, shapes, finite float32, in memory as usual.

    Raises: InputError, naming the first tensor that is wrong.
    """
    with torch.device("meta"):
        wanted = VGG(spec).state_dict()
    if not isinstance(weights, dict):
        raise InputError(
            f"{where}: the weights are a {type(weights).__name__}, not a dictionary of tensors; the file is damaged"
        )
    for name in wanted.keys() ^ weights.keys():
        kind = "is missing" if name in wanted else "is not a layer of it"
        raise InputError(
            f"{where}: {name} {kind} (net {spec.arch}); the file is damaged or describes another net"
        )
    for name, tensor in weights.items():
        if isinstance(tensor, Tensor) and not is_plain(tensor):
            raise InputError(
                f"{where}: {name} is stored as {_layout(tensor)}, expected a plain tensor on the CPU; save the weights as such"
            )
        if (
            not isinstance(tensor, Tensor)
            or tensor.shape != wanted[name].shape
            or tensor.dtype != torch.float32
        ):
            found = (
                f"{tuple(tensor.shape)} {tensor.dtype}"
                if isinstance(tensor, Tensor)
                else type(tensor).__name__
            )
            raise InputError(
                f"{where}: {name} is {found}, net {spec.arch} wants {tuple(wanted[name].shape)} torch.float32"
            )
        # the extremes carry NaN and infinity along, and unlike isfinite() they take no memory
        if not all(bool(extreme.isfinite()) for extreme in tensor.aminmax()):
            raise InputError(
                f"{where}: {name} has NaN or infinite values; the training diverged or the file is damaged, take another one"
            )


def is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is an ordinary array in memory: not sparse, nested, on another device or without values."""
    return not tensor.is_nested and tensor.layout == torch.strided and tensor.device.type == "cpu"


def _layout(tensor: Tensor) -> str:
    """How a tensor that is not plain is stored, for messages."""
    if tensor.is_nested:
        return "a nested tensor"
    return f"{tensor.layout} on {tensor.device}"


def build(spec: NetSpec, weights: dict[str, Tensor]) -> VGG:
    """The net in evaluation mode around the given tensors, which are used, not copied."""
    with torch.device("meta"):
        net = VGG(spec)
    net.load_state_dict(weights, assign=True)
    return net.eval().requires_grad_(False)
