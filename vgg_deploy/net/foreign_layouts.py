"""Knows how other projects name the tensors of a VGG, and what input they feed it.

Names and numbers only: no file is opened here.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from vgg_deploy.errors import InputError
from vgg_deploy.net.archs import ARCHS, Arch
from vgg_deploy.net.foreign_heads import refuse_other_head
from vgg_deploy.net.input_convention import CAFFE, SSD, USUAL, Convention

Shapes = Mapping[str, tuple[int, ...]]  # of tensors, by name

# Gamma, beta and the statistics of a batch normalisation
NORM = (".weight", ".bias", ".running_mean", ".running_var")


class Source(NamedTuple):
    """Names of the tensors of one layer in a foreign file."""

    weight: str
    bias: str
    norm: tuple[str, ...] = ()  # of the batch normalisation after it; empty without one


def same_names(arch: Arch, weight: str, bias: str) -> list[Source]:
    """The trunk under our own layer names, which are those of the released Caffe models.

    Args:
        arch: The net.
        weight: Ending of weights' names.
        bias: Ending of biases' names.
    """
    return [Source(conv.name + weight, conv.name + bias) for conv in arch.trunk()]


def numbered_modules(arch: Arch, step: int) -> list[Source]:
    """The trunk under torchvision's names, features.0, features.1, and so on.

    Args:
        arch: The net.
        step: Modules per convolution: 2 with a ReLU, 3 with a batch normalisation as well. A pool
            is one more module.
    """
    sources = []
    number = 0
    for stage in arch.stages():
        for _ in stage:
            norm = tuple(f"features.{number + 1}{part}" for part in NORM) if step == 3 else ()
            module = f"features.{number}"
            sources.append(Source(f"{module}.weight", f"{module}.bias", norm))
            number += step
        number += 1
    return sources


CONV_RELU = partial(numbered_modules, step=2)
CONV_NORM_RELU = partial(numbered_modules, step=3)


@dataclass(frozen=True)
class Layout:
    """One way in which a VGG is written to a file."""

    label: str  # for people
    convention: Convention
    trunk: Callable[[Arch], list[Source]]  # the convolutions in running order
    head: tuple[Source, ...] = ()  # fc6, fc7, fc8; empty: a trunk without fully connected layers

    def sources(self, arch: Arch) -> list[Source]:
        """The layers of a net in running order, as `arch.stages()` followed by `arch.head()`."""
        return [*self.trunk(arch), *self.head]

    def names(self, arch: Arch) -> set[str]:
        """All tensors that a file of this layout has for a net."""
        names: set[str] = set()
        for source in self.sources(arch):
            names.update((source.weight, source.bias, *source.norm))
        return names


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
# torchvision's VGG16_Weights.IMAGENET1K_FEATURES: the Oxford net as the SSD project ported it; its
# classifier is filled with NaN
FEATURES = Layout("torchvision features", SSD, CONV_RELU)


def recognise(shapes: Shapes, where: str) -> tuple[Layout, str]:
    """Find the layout and the net that have exactly a file's tensor names and kernels.

    Args:
        shapes: Of all tensors in the file.
        where: Names the file in errors.

    Returns:
        The layout and the net, a key of ARCHS; "A" for A-LRN too, as their tensors are alike.

    Raises:
        InputError: If no net fits, with a comparison of the file and the closest net.
    """
    layout, arch = _closest(shapes)
    names = layout.names(ARCHS[arch])
    if not names & shapes.keys():
        raise InputError(
            f"{where}: is no VGG; its tensors are named {_few(shapes)}, wanted are torchvision's "
            "or timm's features.0.weight ... or Caffe's conv1_1.weight ..."
        )
    with_head = layout if layout.head else _with_head(layout)
    head = {name for source in with_head.head for name in (source.weight, source.bias)}
    refuse_other_head(where, arch, shapes, names - head, head)
    closest = f"{where}: comes closest to net {arch} in {layout.label} layout"
    missing = names - shapes.keys()
    if missing:
        raise InputError(
            f"{closest}, but has no {_few(missing)}; take the whole state dict of a VGG"
        )
    surplus = shapes.keys() - names
    if surplus:
        raise InputError(f"{closest}, which has no {_few(surplus)}; take a VGG without additions")
    return layout, arch


def _closest(shapes: Shapes) -> tuple[Layout, str]:
    """The layout and the net with the fewest differences; of equals, the first."""

    def differences(candidate: tuple[Layout, str]) -> int:
        layout, arch = candidate
        return _differences(layout, ARCHS[arch], shapes)

    return min(((layout, arch) for layout in LAYOUTS for arch in ARCHS), key=differences)


def _with_head(trunk: Layout) -> Layout:
    """The layout with a head that has the same trunk."""
    return next(layout for layout in WITH_HEAD if layout.trunk is trunk.trunk)


def _differences(layout: Layout, arch: Arch, shapes: Shapes) -> int:
    """How many names only one of the file and the net has, plus how many kernels differ."""
    other_kernels = 0
    for source, conv in zip(layout.trunk(arch), arch.trunk(), strict=True):
        shape = shapes.get(source.weight)
        if shape is not None and shape[2:] != (conv.kernel, conv.kernel):
            other_kernels += 1
    return len(layout.names(arch) ^ shapes.keys()) + other_kernels


def _few(names: Collection[str]) -> str:
    """The first few names, for messages."""
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(sorted(names)[:4]) + more
