"""Weights of other projects, read into our layer names and our input convention (RGB, 0-255, minus the mean)."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from vgg_deploy.errors import InputError
from vgg_deploy.net.archs import ARCHS, HIDDEN, STRIDE, Arch, Conv
from vgg_deploy.net.caffe_release import released_order
from vgg_deploy.net.checkpoint import is_checkpoint
from vgg_deploy.net.class_lists import ClassList
from vgg_deploy.net.foreign_heads import refuse_global_pool, refuse_other_hidden
from vgg_deploy.net.foreign_layouts import (
    FEATURES,
    TORCHVISION,
    TORCHVISION_HEAD,
    Layout,
    Source,
    recognise,
)
from vgg_deploy.net.input_convention import (
    NOTHING_STATED,
    USUAL,
    Convention,
    StatedInput,
    metadata_convention,
)
from vgg_deploy.net.spec import Preprocessing
from vgg_deploy.net.timm_config import TimmConfig, check_fits, timm_config
from vgg_deploy.net.torch_archive import check_archive, is_archive
from vgg_deploy.net.torch_files import TORCH_SUFFIXES, is_torchscript, why_unreadable

TensorShape = tuple[int, ...]
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Assumed:
    """What was taken for granted about weights of another project, for people and for results."""

    layout: str  # "torchvision", "torchvision bn", "torchvision features", "timm", "caffe", ...
    input: str  # the convention as a formula
    input_from: str  # who says so: "torchvision's", "as stated", ...
    classes: int | None  # scores of its head; None for convolutions alone
    crop: int | None  # by the size of fc6, pixels; None together with classes
    warnings: tuple[str, ...] = ()  # sentences that follow the file's name

    def lines(self, where: str, way_out: str) -> list[str]:
        """All of it, for a terminal. Args: where, the file; way_out, how to state another input."""
        lines = [f"{where}: input {self.input} ({self.input_from}; {way_out})"]
        if self.classes is not None:
            lines.append(
                f"{where}: {self.layout} weights with {self.classes} scores and fc6 for a crop of {self.crop}; "
                "no other pooling than the five before fc6, ReLU between fc6, fc7, fc8 and a softmax are assumed, "
                "which weights do not tell"
            )
        return lines + [f"{where}: {warning}" for warning in self.warnings]


@dataclass(frozen=True)
class Foreign:
    """Weights of another project in our layer names and our input convention."""

    arch: str
    width: float
    crop: int | None  # None: no fully connected layers, the convolutions only
    class_count: int | None  # None together with crop
    preprocessing: Preprocessing
    weights: Tensors  # float32, named and shaped as VGG(spec).state_dict()
    layout: str  # for people: "torchvision", "torchvision bn", "torchvision features", "timm", "timm bn", "caffe"
    assumed: Assumed
    classes: ClassList | None = None  # where timm's config.json names them


def read_foreign(
    path: Path, arch: str | None = None, stated: StatedInput = NOTHING_STATED
) -> Foreign:
    """Weights of torchvision, timm or the Caffe release; large tensors are views of the file, not copies.

    The input convention is the one its layer names come with, unless one of these states another,
    the last one winning: timm's config.json beside the file, the metadata of a .safetensors, the
    caller.

    Args:
        path: A state dict (.pth, .pt, .bin, .tar), .safetensors or .npz; no code of the file is run.
        arch: Tells A-LRN from A, whose weights look alike.
        stated: What the caller knows of the input, and of the crop where the weights do not tell.

    Raises:
        InputError: If the file is missing, damaged or no VGG, if a tensor is missing, surplus,
            misshapen or not finite, or if it is another net than `arch`.
        Unstated: If its head is one for global average pooling or for a crop of 32.
    """
    path = Path(path)
    if arch is not None and arch not in ARCHS:
        raise InputError(f"arch {arch!r} is not in Table 1; choose one of {', '.join(ARCHS)}")
    tensors, metadata = open_tensors(path)
    layout, found = recognise(
        {name: tuple(tensor.shape) for name, tensor in tensors.items()}, str(path)
    )
    arch = arch or found
    if ARCHS[arch].kernels != ARCHS[found].kernels:
        raise InputError(
            f"{path}: holds net {found}, not {arch}; leave the arch out or say {found}"
        )
    if layout is TORCHVISION and _head_is_nan(tensors):
        layout = FEATURES
    sources = layout.sources(ARCHS[arch])
    width = _width(tensors, sources, ARCHS[arch])
    convs = sum(ARCHS[arch].stages(width), [])
    crop = class_count = None
    if layout.head:
        crop, class_count = _crop(tensors, sources), tensors[sources[-1].bias].numel()
        if layout.head == TORCHVISION_HEAD and STRIDE not in (stated.crop, _stated_crop(metadata)):
            refuse_global_pool(str(path), crop, tensors[sources[-4].bias].numel())
        convs += ARCHS[arch].head(class_count, width, crop)
    config = timm_config(path)
    if config:
        check_fits(config, arch, class_count, path)
    convention, said_by = _convention(layout, config, metadata, stated, path)
    if layout.head:
        hidden = [tensors[source.bias].numel() for source in sources[-3:-1]]
        refuse_other_hidden(str(path), hidden, convs[-2].c_out, width)
    weights = {}
    for conv, source in zip(convs, sources, strict=True):
        weight, bias = _layer(tensors, source, conv, f"{path}: net {arch} of width {width:g}")
        if conv.name == "conv1_1":
            warnings = _doubts(weight, layout, said_by, stated, config)
            weight = _for_our_input(weight, convention)
        weights[f"{conv.name}.weight"], weights[f"{conv.name}.bias"] = (
            weight.float().contiguous(),
            bias.float().contiguous(),
        )
    assumed = Assumed(layout.label, convention.describe(), said_by, class_count, crop, warnings)
    classes = config.classes if config else None
    return Foreign(
        arch,
        width,
        crop,
        class_count,
        Preprocessing(convention.mean),
        weights,
        layout.label,
        assumed,
        classes,
    )


def _convention(
    layout: Layout,
    config: TimmConfig | None,
    metadata: Mapping[str, str],
    stated: StatedInput,
    path: Path,
) -> tuple[Convention, str]:
    """The input convention of a file, and who says so."""
    convention, said_by = layout.convention, f"that of {layout.label.partition(' ')[0]}"
    if config and not config.stated.is_empty:
        convention, said_by = (
            config.stated.applied_to(convention),
            f"as {config.path.name} beside it says",
        )
    of_metadata = metadata_convention(convention, metadata, str(path))
    if of_metadata != convention or "mean_rgb" in metadata or "mean_bgr" in metadata:
        convention, said_by = of_metadata, "as its metadata say"
    if not stated.is_empty:
        convention, said_by = stated.applied_to(convention), "as stated"
    return convention, said_by


def _doubts(
    conv1_1: Tensor, layout: Layout, said_by: str, stated: StatedInput, config: TimmConfig | None
) -> tuple[str, ...]:
    """What a user should know: sentences that follow the file's name."""
    doubts = []
    order = released_order(conv1_1)
    if order and layout.convention == USUAL and said_by.startswith("that of"):
        doubts.append(
            "its first layer is that of the Oxford VGG-16 released for Caffe, which wants pixels "
            f"0-255 minus the mean 123.68, 116.779, 103.939 in {order} order, not the input of "
            "torchvision; state its mean and channel order"
        )
    if stated.warning():
        doubts.append(stated.warning())
    if config and config.unused:
        doubts.append(f"{config.path.name} names {config.unused}, which are not used")
    return tuple(doubts)


def _stated_crop(metadata: Mapping[str, str]) -> int | None:
    """The crop in a file's metadata; anything but a number says nothing."""
    crop = metadata.get("crop", "")
    return int(crop) if crop.isascii() and crop.isdecimal() and len(crop) < 6 else None


def open_tensors(path: Path) -> tuple[Tensors, dict[str, str]]:
    """A file's tensors as float32 and its metadata, which only .safetensors have.

    Raises: InputError if it cannot be read, or holds something other than named floating point tensors.
    """
    readers = {
        ".safetensors": _open_safetensors,
        ".npz": _open_npz,
        **dict.fromkeys(TORCH_SUFFIXES, _open_torch),
    }
    if path.suffix not in readers:
        raise InputError(
            f"{path}: the kind of a weights file is told by its suffix; rename it to one of {', '.join(readers)}"
        )
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a file of weights such as vgg16-397923af.pth")
    if is_torchscript(path):
        raise InputError(f"{path}: {why_unreadable(path.suffix, None)}")
    try:
        held, metadata = readers[path.suffix](path)
    except InputError:
        raise
    except Exception as error:  # the readers raise almost anything on a damaged file: KeyError, struct.error, SafetensorError ...
        raise InputError(f"{path}: {why_unreadable(path.suffix, error)}") from None
    if is_checkpoint(held):
        raise InputError(
            f"{path}: is a VGG Deploy checkpoint, not another project's weights; use it as the checkpoint it is"
        )
    if not isinstance(held, dict) or not held or not all(isinstance(name, str) for name in held):
        raise InputError(
            f"{path}: holds a {type(held).__name__} that names no tensors; save a state dict"
        )
    # how many batches a normalisation has seen: an integer, and of no use after training
    held = {
        name: value for name, value in held.items() if not name.endswith(".num_batches_tracked")
    }
    return {name: _float_tensor(value, name, path) for name, value in held.items()}, metadata


def _open_torch(path: Path) -> tuple[object, dict[str, str]]:
    # files from before torch 1.6, torchvision's first VGGs among them, are no zip archives: they have no checksums and cannot be mapped
    archive = is_archive(path)
    if archive:
        check_archive(path)
    return torch.load(path, map_location="cpu", weights_only=True, mmap=archive), {}


def _open_safetensors(path: Path) -> tuple[object, dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}


def _open_npz(path: Path) -> tuple[object, dict[str, str]]:
    # opened here, because np.load leaves a damaged archive open
    with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return {
        name: torch.from_numpy(array) if array.dtype.kind == "f" else array
        for name, array in arrays.items()
    }, {}


def _float_tensor(value: object, name: str, path: Path) -> Tensor:
    plain = (
        isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"
    )
    if not plain or not value.is_floating_point():
        traits = " ".join(
            str(getattr(value, trait))
            for trait in ("dtype", "layout", "device")
            if hasattr(value, trait)
        )
        found = f"{type(value).__name__} {traits}".strip()
        raise InputError(
            f"{path}: {name} is a {found}, not a plain tensor of floating point numbers; save the float net's state dict"
        )
    return value.detach().float()


def _head_is_nan(tensors: Tensors) -> bool:
    # fc8's bias first: in a file with a classifier that settles it, without a look at the 411 MB of fc6
    return all(
        bool(tensors[name].isnan().all())
        for source in reversed(TORCHVISION.head)
        for name in (source.bias, source.weight)
    )


def _width(tensors: Tensors, sources: list[Source], arch: Arch) -> float:
    """The multiplier behind a file's channel counts: each allows an interval, the middle of what they share is taken.

    The most typical count goes first, and one that shares nothing with those before it is left out: the check of each
    layer's shape will name it.
    """
    full = [conv.c_out for stage in arch.stages() for conv in stage] + [
        HIDDEN,
        HIDDEN,
    ]  # without fc8, whose outputs are the classes
    counts = [
        (tensors[source.bias].numel(), channels)
        for source, channels in zip(sources, full, strict=False)
    ]
    typical = statistics.median(found / channels for found, channels in counts)
    low, high = 0.0, math.inf
    for found, channels in sorted(counts, key=lambda count: abs(count[0] / count[1] - typical)):
        lower = (found - 0.5) / channels if found > 1 else 0.0  # a net keeps at least one channel
        upper = (found + 0.5) / channels
        if max(low, lower) <= min(high, upper):
            low, high = max(low, lower), min(high, upper)
    return (low + high) / 2


def _crop(tensors: Tensors, sources: list[Source]) -> int:
    """Side of the training crop, from the inputs of fc6: conv5's channels times a square. 224 if they are no square."""
    conv5, fc6 = sources[-4], sources[-3]
    window = tensors[fc6.weight].numel() // max(
        1, tensors[fc6.bias].numel() * tensors[conv5.bias].numel()
    )
    side = math.isqrt(window)
    return STRIDE * side if side > 0 and side**2 == window else 224


def _layer(tensors: Tensors, source: Source, conv: Conv, where: str) -> tuple[Tensor, Tensor]:
    """A layer's (c_out, c_in, k, k) weight and (c_out,) bias, a batch normalisation behind it folded in."""
    shape = (conv.c_out, conv.c_in, conv.kernel, conv.kernel)
    flat = (conv.c_out, math.prod(shape[1:]))
    # the matrices of fully connected layers; legacy Caffe files write everything with four dimensions
    shapes = [flat, shape, (1, 1, *flat)] if conv.name.startswith("fc") else [shape]
    vectors = [(conv.c_out,), (1, 1, 1, conv.c_out)]
    weight = _checked(tensors, source.weight, shapes, where).reshape(shape)
    bias, *norm = (
        _checked(tensors, name, vectors, where).flatten() for name in (source.bias, *source.norm)
    )
    if not norm:
        return weight, bias
    gamma, beta, mean, var = (vector.double() for vector in norm)
    if (var < 0).any():
        raise InputError(
            f"{where} wants variances, {source.norm[3]} has negative values; the file is damaged, take another one"
        )
    scale = gamma / (var + 1e-5).sqrt()  # torch's default eps, which torchvision and timm keep
    return weight.double() * scale.view(-1, 1, 1, 1), (bias.double() - mean) * scale + beta


def _checked(tensors: Tensors, name: str, shapes: list[TensorShape], where: str) -> Tensor:
    tensor = tensors[name]
    if tuple(tensor.shape) not in shapes:
        wanted = " or ".join(map(str, shapes))
        raise InputError(
            f"{where} wants {name} as {wanted}, found {tuple(tensor.shape)}; take the weights of an unchanged net"
        )
    # the extremes carry NaN and infinity along, and unlike isfinite() they take no memory
    if not all(bool(extreme.isfinite()) for extreme in tensor.aminmax()):
        raise InputError(
            f"{where} wants numbers, {name} has NaN or infinite values; the file is damaged, take another one"
        )
    return tensor


def _for_our_input(weight: Tensor, convention: Convention) -> Tensor:
    """conv1_1's weight for x - mean in RGB, where it was (x - mean) / scale in the convention's channel order.

    The mean stays outside: padding zeros stand for it, so folding it into the bias would be wrong along the border.
    """
    if convention.channel_order == "BGR":
        weight = weight.flip(1)
    return weight.double() / torch.tensor(convention.scale, dtype=torch.float64).view(1, 3, 1, 1)
