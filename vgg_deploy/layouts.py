"""How other projects name the tensors of a VGG, and what they feed it. Names and numbers only; no file is opened here."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from vgg_deploy.archs import ARCHS, Arch
from vgg_deploy.artifact import USUAL_MEAN, USUAL_STD
from vgg_deploy.errors import InputError
from vgg_deploy.spec import Preprocessing

NORM = (".weight", ".bias", ".running_mean", ".running_var")  # gamma, beta and the statistics of a batch normalisation


@dataclass(frozen=True)
class Convention:
    """What a net was trained on: (x - mean) / scale of an image x in 0-255."""

    channel_order: str  # of the first convolution's input channels, "RGB" or "BGR"
    mean: tuple[float, float, float]  # R, G, B whatever the channel order
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)  # R, G, B


CAFFE = Convention("BGR", Preprocessing().mean)
USUAL = Convention("RGB", tuple(255 * m for m in USUAL_MEAN), tuple(255 * s for s in USUAL_STD))
# torchvision's IMAGENET1K_FEATURES: mean 0.48235, 0.45882, 0.40784 and std 1/255 of 0-1
SSD = Convention("RGB", tuple(255 * m for m in (0.48235, 0.45882, 0.40784)))


def stated_convention(default: Convention, metadata: Mapping[str, str], where: str) -> Convention:
    """`default` with what a file says of itself: input_range, channel_order, mean_bgr or mean_rgb ("103.939,116.779,123.68").

    Raises: InputError for values this program cannot honour.
    """
    stated = default
    if (scale := metadata.get("input_range")) is not None:
        if scale != "0-255":
            raise InputError(f"{where}: its metadata states input_range {scale!r}; only '0-255' can be read, convert the weights")
        stated = replace(stated, scale=(1.0, 1.0, 1.0))
    if (order := metadata.get("channel_order")) is not None:
        if order not in ("RGB", "BGR"):
            raise InputError(f"{where}: its metadata states channel_order {order!r}; write RGB or BGR")
        stated = replace(stated, channel_order=order)
    for key, step in (("mean_rgb", 1), ("mean_bgr", -1)):
        if key in metadata:
            stated = replace(stated, mean=_parse_mean(metadata[key], key, where)[::step])
    return stated


def _parse_mean(text: str, key: str, where: str) -> tuple[float, ...]:
    try:
        mean = tuple(float(part) for part in text.split(","))
    except ValueError:
        mean = ()
    if len(mean) != 3 or not all(0 <= m <= 255 for m in mean):
        raise InputError(f"{where}: its metadata states {key} {text!r}; write three numbers of 0-255, as in 103.939,116.779,123.68")
    return mean


class Source(NamedTuple):
    """Where a layer of ours lies in a foreign file."""

    weight: str
    bias: str
    norm: tuple[str, ...] = ()  # of the batch normalisation behind it; empty without one


def same_names(arch: Arch, weight: str, bias: str) -> list[Source]:
    """The trunk under our own layer names, which are the released Caffe models'."""
    return [Source(conv.name + weight, conv.name + bias) for stage in arch.stages() for conv in stage]


def numbered_modules(arch: Arch, step: int) -> list[Source]:
    """torchvision's trunk, features.N: every module counts, `step` of them a convolution and one a pool."""
    sources, n = [], 0
    for stage in arch.stages():
        for _ in stage:
            norm = tuple(f"features.{n + 1}{part}" for part in NORM) if step == 3 else ()
            sources.append(Source(f"features.{n}.weight", f"features.{n}.bias", norm))
            n += step
        n += 1
    return sources


CONV_RELU, CONV_NORM_RELU = (partial(numbered_modules, step=step) for step in (2, 3))


@dataclass(frozen=True)
class Layout:
    """One way to write a VGG to a file."""

    label: str  # for people
    convention: Convention
    trunk: Callable[[Arch], list[Source]]  # the convolutions in running order
    head: tuple[Source, ...] = ()  # fc6, fc7, fc8; empty: a trunk without fully connected layers

    def sources(self, arch: Arch) -> list[Source]:
        """The layers of a net in running order, as `arch.stages()` followed by `arch.head()`."""
        return [*self.trunk(arch), *self.head]

    def names(self, arch: Arch) -> set[str]:
        """Every tensor a file of this layout has for a net, and no other."""
        return {name for source in self.sources(arch) for name in (source.weight, source.bias, *source.norm)}


def _head(layers: tuple[str, str, str], weight: str = ".weight", bias: str = ".bias") -> tuple[Source, ...]:
    return tuple(Source(layer + weight, layer + bias) for layer in layers)


TORCHVISION_HEAD = _head(("classifier.0", "classifier.3", "classifier.6"))
TIMM_HEAD = _head(("pre_logits.fc1", "pre_logits.fc2", "head.fc"))
FC = ("fc6", "fc7", "fc8")
TORCHVISION = Layout("torchvision", USUAL, CONV_RELU, TORCHVISION_HEAD)
WITH_HEAD = (
    TORCHVISION,
    Layout("torchvision bn", USUAL, CONV_NORM_RELU, TORCHVISION_HEAD),
    Layout("timm", USUAL, CONV_RELU, TIMM_HEAD),
    Layout("timm bn", USUAL, CONV_NORM_RELU, TIMM_HEAD),
    Layout("caffe", CAFFE, partial(same_names, weight=".weight", bias=".bias"), _head(FC)),
    Layout("caffe", CAFFE, partial(same_names, weight="_W", bias="_b"), _head(FC, "_W", "_b")),
)
LAYOUTS = WITH_HEAD + tuple(replace(layout, head=()) for layout in WITH_HEAD)
# torchvision's VGG16_Weights.IMAGENET1K_FEATURES: the Oxford net as the SSD project ported it, its classifier filled with NaN
FEATURES = Layout("torchvision features", SSD, CONV_RELU)


def recognise(shapes: Mapping[str, tuple[int, ...]], where: str) -> tuple[Layout, str]:
    """The layout and the net, a key of ARCHS, whose names and kernels are the file's; A where A-LRN would do as well.

    Args: shapes, by tensor name.
    Raises: InputError that compares the file with what comes closest, if no net has just these tensors.
    """
    pairs = ((layout, arch) for layout in LAYOUTS for arch in ARCHS)
    layout, arch = min(pairs, key=lambda pair: _unlike(pair[0], ARCHS[pair[1]], shapes))
    names = layout.names(ARCHS[arch])
    if not names & shapes.keys():
        raise InputError(
            f"{where}: is no VGG; its tensors are named {_few(shapes)}, wanted are torchvision's or timm's features.0.weight ... "
            "or Caffe's conv1_1.weight ..."
        )
    closest = f"{where}: comes closest to net {arch} in {layout.label} layout"
    if missing := names - shapes.keys():
        raise InputError(f"{closest}, but has no {_few(missing)}; take the whole state dict of a VGG")
    if surplus := shapes.keys() - names:
        raise InputError(f"{closest}, which has no {_few(surplus)}; take a VGG without additions")
    return layout, arch


def _unlike(layout: Layout, arch: Arch, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many names only one of the file and the net has, and how many kernels differ."""
    kernels = [conv.kernel for stage in arch.stages() for conv in stage]
    pairs = zip(layout.trunk(arch), kernels, strict=True)
    other_kernels = sum(shapes[source.weight][2:] != (k, k) for source, k in pairs if source.weight in shapes)
    return len(layout.names(arch) ^ shapes.keys()) + other_kernels


def _few(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
