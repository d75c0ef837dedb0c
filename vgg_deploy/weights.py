"""Weights of other projects, read into our layer names and our input convention (RGB, 0-255, minus the mean)."""

import math
import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from vgg_deploy.archs import ARCHS, HIDDEN, STRIDE, Arch, Conv
from vgg_deploy.checkpoint import is_checkpoint
from vgg_deploy.errors import InputError
from vgg_deploy.layouts import FEATURES, TORCHVISION, Convention, Source, recognise, stated_convention
from vgg_deploy.spec import Preprocessing
from vgg_deploy.torch_archive import check_archive, is_archive

Shape = tuple[int, ...]
Tensors = dict[str, Tensor]


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


def read_foreign(path: Path, arch: str | None = None) -> Foreign:
    """Weights of torchvision, timm or the Caffe release; large tensors are views of the file, not copies.

    Args: path, a state dict (.pth, .pt, .bin, .tar), .safetensors or .npz; no code of the file is run.
        arch, to tell A-LRN from A, whose weights look alike.
    The input convention is the one its layer names come with, unless the metadata of a .safetensors states another.
    Raises: InputError if the file is missing, damaged or no VGG, if a tensor is missing, surplus, misshapen or not
        finite, or if it is another net than `arch`.
    """
    path = Path(path)
    if arch is not None and arch not in ARCHS:
        raise InputError(f"arch {arch!r} is not in Table 1; choose one of {', '.join(ARCHS)}")
    tensors, metadata = open_tensors(path)
    layout, found = recognise({name: tuple(tensor.shape) for name, tensor in tensors.items()}, str(path))
    arch = arch or found
    if ARCHS[arch].kernels != ARCHS[found].kernels:
        raise InputError(f"{path}: holds net {found}, not {arch}; leave the arch out or say {found}")
    if layout is TORCHVISION and _head_is_nan(tensors):
        layout = FEATURES
    convention = stated_convention(layout.convention, metadata, str(path))
    sources = layout.sources(ARCHS[arch])
    width = _width(tensors, sources, ARCHS[arch])
    convs = sum(ARCHS[arch].stages(width), [])
    crop = class_count = None
    if layout.head:
        crop, class_count = _crop(tensors, sources), tensors[sources[-1].bias].numel()
        convs += ARCHS[arch].head(class_count, width, crop)
    weights = {}
    for conv, source in zip(convs, sources, strict=True):
        weight, bias = _layer(tensors, source, conv, f"{path}: net {arch} of width {width:g}")
        if conv.name == "conv1_1":
            weight = _for_our_input(weight, convention)
        weights[f"{conv.name}.weight"], weights[f"{conv.name}.bias"] = weight.float().contiguous(), bias.float().contiguous()
    return Foreign(arch, width, crop, class_count, Preprocessing(convention.mean), weights, layout.label)


def open_tensors(path: Path) -> tuple[Tensors, dict[str, str]]:
    """A file's tensors as float32 and its metadata, which only .safetensors have.

    Raises: InputError if it cannot be read, or holds something other than named floating point tensors.
    """
    readers = {".safetensors": _open_safetensors, ".npz": _open_npz, **dict.fromkeys((".pth", ".pt", ".bin", ".tar"), _open_torch)}
    if path.suffix not in readers:
        raise InputError(f"{path}: the kind of a weights file is told by its suffix; rename it to one of {', '.join(readers)}")
    if not path.is_file():
        raise InputError(f"{path}: no such file; give a file of weights such as vgg16-397923af.pth")
    try:
        held, metadata = readers[path.suffix](path)
    except InputError:
        raise
    except Exception as error:  # the readers raise almost anything on a damaged file: KeyError, struct.error, SafetensorError ...
        raise InputError(
            f"{path}: cannot be read as {path.suffix} ({type(error).__name__}); "
            "it is truncated, or holds something other than tensors, as a whole pickled model does: save a state dict"
        ) from None
    if is_checkpoint(held):
        raise InputError(f"{path}: is a VGG Deploy checkpoint, not another project's weights; use it as the checkpoint it is")
    if not isinstance(held, dict) or not held or not all(isinstance(name, str) for name in held):
        raise InputError(f"{path}: holds a {type(held).__name__} that names no tensors; save a state dict")
    # how many batches a normalisation has seen: an integer, and of no use after training
    held = {name: value for name, value in held.items() if not name.endswith(".num_batches_tracked")}
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
    return {name: torch.from_numpy(array) if array.dtype.kind == "f" else array for name, array in arrays.items()}, {}


def _float_tensor(value: object, name: str, path: Path) -> Tensor:
    plain = isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"
    if not plain or not value.is_floating_point():
        traits = " ".join(str(getattr(value, trait)) for trait in ("dtype", "layout", "device") if hasattr(value, trait))
        found = f"{type(value).__name__} {traits}".strip()
        raise InputError(f"{path}: {name} is a {found}, not a plain tensor of floating point numbers; save the float net's state dict")
    return value.detach().float()


def _head_is_nan(tensors: Tensors) -> bool:
    # fc8's bias first: in a file with a classifier that settles it, without a look at the 411 MB of fc6
    return all(bool(tensors[name].isnan().all()) for source in reversed(TORCHVISION.head) for name in (source.bias, source.weight))


def _width(tensors: Tensors, sources: list[Source], arch: Arch) -> float:
    """The multiplier behind a file's channel counts: each allows an interval, the middle of what they share is taken.

    The most typical count goes first, and one that shares nothing with those before it is left out: the check of each
    layer's shape will name it.
    """
    full = [conv.c_out for stage in arch.stages() for conv in stage] + [HIDDEN, HIDDEN]  # without fc8, whose outputs are the classes
    counts = [(tensors[source.bias].numel(), channels) for source, channels in zip(sources, full, strict=False)]
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
    window = tensors[fc6.weight].numel() // max(1, tensors[fc6.bias].numel() * tensors[conv5.bias].numel())
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
    bias, *norm = (_checked(tensors, name, vectors, where).flatten() for name in (source.bias, *source.norm))
    if not norm:
        return weight, bias
    gamma, beta, mean, var = (vector.double() for vector in norm)
    if (var < 0).any():
        raise InputError(f"{where} wants variances, {source.norm[3]} has negative values; the file is damaged, take another one")
    scale = gamma / (var + 1e-5).sqrt()  # torch's default eps, which torchvision and timm keep
    return weight.double() * scale.view(-1, 1, 1, 1), (bias.double() - mean) * scale + beta


def _checked(tensors: Tensors, name: str, shapes: list[Shape], where: str) -> Tensor:
    tensor = tensors[name]
    if tuple(tensor.shape) not in shapes:
        wanted = " or ".join(map(str, shapes))
        raise InputError(f"{where} wants {name} as {wanted}, found {tuple(tensor.shape)}; take the weights of an unchanged net")
    # the extremes carry NaN and infinity along, and unlike isfinite() they take no memory
    if not all(bool(extreme.isfinite()) for extreme in tensor.aminmax()):
        raise InputError(f"{where} wants numbers, {name} has NaN or infinite values; the file is damaged, take another one")
    return tensor


def _for_our_input(weight: Tensor, convention: Convention) -> Tensor:
    """conv1_1's weight for x - mean in RGB, where it was (x - mean) / scale in the convention's channel order.

    The mean stays outside: padding zeros stand for it, so folding it into the bias would be wrong along the border.
    """
    if convention.channel_order == "BGR":
        weight = weight.flip(1)
    return weight.double() / torch.tensor(convention.scale, dtype=torch.float64).view(1, 3, 1, 1)
