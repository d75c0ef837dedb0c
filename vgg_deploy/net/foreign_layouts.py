"""How other projects name the tensors of a VGG, and what they feed it. Names and numbers only; no file is opened here."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from vgg_deploy.errors import InputError
from vgg_deploy.net.archs import ARCHS, Arch
from vgg_deploy.net.foreign_heads import refuse_other_head
from vgg_deploy.net.input_convention import CAFFE, SSD, USUAL, Convention

NORM = (
    ".weight",
    ".bias",
    ".running_mean",
    ".running_var",
)  # gamma, beta and the statistics of a batch normalisation


class Source(NamedTuple):
    """Where a layer of ours lies in a foreign file."""

    weight: str
    bias: str
    norm: tuple[str, ...] = ()  # of the batch normalisation behind it; empty without one


def same_names(arch: Arch, weight: str, bias: str) -> list[Source]:
    """The trunk under our own layer names, which are the released Caffe models'."""
    return [
        Source(conv.name + weight, conv.name + bias) for stage in arch.stages() for conv in stage
    ]


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
        return {
            name
            for source in self.sources(arch)
            for name in (source.weight, source.bias, *source.norm)
        }


def _head(
    layers: tuple[str, str, str], weight: str = ".weight", bias: str = ".bias"
) -> tuple[Source, ...]:
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
    with_head = layout if layout.head else _with_head(layout)
    head = {name for source in with_head.head for name in (source.weight, source.bias)}
    refuse_other_head(where, arch, shapes, layout.names(ARCHS[arch]) - head, head)
    closest = f"{where}: comes closest to net {arch} in {layout.label} layout"
    if missing := names - shapes.keys():
        raise InputError(
            f"{closest}, but has no {_few(missing)}; take the whole state dict of a VGG"
        )
    if surplus := shapes.keys() - names:
        raise InputError(f"{closest}, which has no {_few(surplus)}; take a VGG without additions")
    return layout, arch


def _with_head(trunk: Layout) -> Layout:
    """The layout that a trunk's names belong to when it has a head."""
    same = [layout for layout in WITH_HEAD if layout.trunk is trunk.trunk]
    return same[0]


def _unlike(layout: Layout, arch: Arch, shapes: Mapping[str, tuple[int, ...]]) -> int:
    """How many names only one of the file and the net has, and how many kernels differ."""
    kernels = [conv.kernel for stage in arch.stages() for conv in stage]
    pairs = zip(layout.trunk(arch), kernels, strict=True)
    other_kernels = sum(
        shapes[source.weight][2:] != (k, k) for source, k in pairs if source.weight in shapes
    )
    return len(layout.names(arch) ^ shapes.keys()) + other_kernels


def _few(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
