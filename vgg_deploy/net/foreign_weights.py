"""Reads weights of other projects into our layer names and our input convention.

Our convention is RGB, 0-255, minus the mean.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from vgg_deploy.errors import InputError
from vgg_deploy.net.archs import ARCHS, STRIDE, Conv
from vgg_deploy.net.caffe_release import released_order
from vgg_deploy.net.class_lists import ClassList
from vgg_deploy.net.foreign_files import Metadata, Tensors, open_tensors
from vgg_deploy.net.foreign_heads import refuse_global_pool, refuse_other_hidden
from vgg_deploy.net.foreign_layers import crop_of, for_our_input, read_layer, width_of
from vgg_deploy.net.foreign_layouts import (
    FEATURES,
    TORCHVISION,
    TORCHVISION_HEAD,
    Layout,
    Source,
    recognise,
)
from vgg_deploy.net.imagenet_classes import assumed_order, imagenet_classes
from vgg_deploy.net.input_convention import (
    NOTHING_STATED,
    USUAL,
    Convention,
    StatedInput,
    metadata_convention,
)
from vgg_deploy.net.spec import Preprocessing
from vgg_deploy.net.timm_config import CONFIG, TimmConfig, check_fits, timm_config
from vgg_deploy.net.torchvision_weights import Release, release_of


@dataclass(frozen=True)
class Assumed:
    """What was assumed about weights of another project, for people and for results."""

    layout: str  # "torchvision", "torchvision bn", "torchvision features", "timm", "caffe", ...
    input: str  # the convention as a formula
    input_from: str  # its source: "that of torchvision", "as stated", ...
    classes: int | None  # scores of its head; None for convolutions alone
    crop: int | None  # by the size of fc6, pixels; None together with classes
    warnings: tuple[str, ...] = ()  # sentences that follow the file's name
    unwrapped: str = ""  # how the weights were found in the file, if it is no plain state dict
    classes_from: str = ""  # who names the classes, where it is not the file

    def lines(self, where: str, way_out: str) -> list[str]:
        """All of it, for a terminal.

        Args:
            where: The file.
            way_out: How to state another input.
        """
        lines = [f"{where}: {self.unwrapped}"] if self.unwrapped else []
        lines.append(f"{where}: input {self.input} ({self.input_from}; {way_out})")
        if self.classes is not None:
            lines.append(
                f"{where}: {self.layout} weights with {self.classes} scores and fc6 for a crop of "
                f"{self.crop}; no other pooling than the five before fc6, ReLU between fc6, fc7, "
                "fc8 and a softmax are assumed, which weights do not show"
            )
        if self.classes_from:
            lines.append(f"{where}: {self.classes_from}")
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
    layout: str  # for people, as in `Assumed`
    assumed: Assumed
    classes: ClassList | None = None  # where timm's config.json or torchvision names them


@dataclass(frozen=True)
class _Recognised:
    """A foreign file whose net is known."""

    path: Path
    tensors: Tensors
    metadata: Metadata
    unwrapped: str
    layout: Layout
    arch: str  # a key of ARCHS

    @property
    def sources(self) -> list[Source]:
        """The names of the layers' tensors, in running order."""
        return self.layout.sources(ARCHS[self.arch])


def read_foreign(
    path: Path, arch: str | None = None, stated: StatedInput = NOTHING_STATED
) -> Foreign:
    """Read weights of torchvision, timm or the Caffe release.

    Large tensors are views of the file, not copies. The input convention is the one that the layer
    names imply, unless one of these states another; the last one wins: torchvision, for a file
    that it published; timm's config.json beside the file; the metadata of a .safetensors; the
    caller.

    Args:
        path: A state dict or what a training loop saved (.pth, .pt, .bin, .tar, .ckpt),
            .safetensors or .npz. No code in it is run.
        arch: Distinguishes A-LRN from A, whose weights look alike.
        stated: What the caller knows about the input, and about the crop where the weights do not
            show it.

    Raises:
        InputError: If the file is missing, damaged or no VGG, if a tensor is missing, surplus,
            misshapen or not finite, or if it is another net than `arch`.
        Unstated: If its head may be one for global average pooling or for a crop of 32.
    """
    file = _recognised(Path(path), arch)
    net, sources = ARCHS[file.arch], file.sources
    width = width_of(file.tensors, sources, net)
    convs = net.trunk(width)
    crop = class_count = None
    if file.layout.head:
        crop, class_count = _head_size(file, stated)
        convs += net.head(class_count, width, crop)
    config = timm_config(file.path)
    if config:
        check_fits(config, file.arch, class_count, file.path)
    release = release_of(file.path)
    convention, source = _convention(file, release, config, stated)
    if file.layout.head:
        hidden = [file.tensors[layer.bias].numel() for layer in sources[-3:-1]]
        refuse_other_hidden(str(file.path), hidden, convs[-2].c_out, width)
    where = f"{file.path}: net {file.arch} of width {width:g}"
    conv1_1, _ = read_layer(file.tensors, sources[0], convs[0], where)
    weights = _read_layers(file, convs, convention, where)
    classes, classes_from = _classes(class_count, release, config)
    assumed = Assumed(
        file.layout.label,
        convention.describe(),
        source,
        class_count,
        crop,
        _warnings(conv1_1, file.layout, source, stated, config),
        file.unwrapped,
        classes_from,
    )
    return Foreign(
        file.arch,
        width,
        crop,
        class_count,
        Preprocessing(convention.mean),
        weights,
        file.layout.label,
        assumed,
        classes,
    )


def _recognised(path: Path, arch: str | None) -> _Recognised:
    """Open a file and find its net.

    Raises:
        InputError: If it is no VGG, or another net than `arch`.
    """
    if arch is not None and arch not in ARCHS:
        raise InputError(f"arch {arch!r} is not in Table 1; choose one of {', '.join(ARCHS)}")
    tensors, metadata, unwrapped = open_tensors(path)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    layout, recognised_arch = recognise(shapes, str(path))
    arch = arch or recognised_arch
    if ARCHS[arch].kernels != ARCHS[recognised_arch].kernels:
        raise InputError(
            f"{path}: holds net {recognised_arch}, not {arch}; "
            f"leave the arch out or state {recognised_arch}"
        )
    if layout is TORCHVISION and _head_is_nan(tensors):
        layout = FEATURES
    return _Recognised(path, tensors, metadata, unwrapped, layout, arch)


def _head_size(file: _Recognised, stated: StatedInput) -> tuple[int, int]:
    """The training crop in pixels, and the number of classes.

    Raises:
        Unstated: If the head may be one for global average pooling.
    """
    conv5, *_, fc8 = file.sources[-4:]
    crop = crop_of(file.tensors, file.sources)
    stated_crops = (stated.crop, _stated_crop(file.metadata))
    if file.layout.head == TORCHVISION_HEAD and STRIDE not in stated_crops:
        refuse_global_pool(str(file.path), crop, file.tensors[conv5.bias].numel())
    return crop, file.tensors[fc8.bias].numel()


def _read_layers(
    file: _Recognised, convs: list[Conv], convention: Convention, where: str
) -> Tensors:
    """All layers as float32, named as in a VGG's state dict."""
    weights = {}
    for conv, source in zip(convs, file.sources, strict=True):
        weight, bias = read_layer(file.tensors, source, conv, where)
        if conv.name == "conv1_1":
            weight = for_our_input(weight, convention)
        weights[f"{conv.name}.weight"] = weight.float().contiguous()
        weights[f"{conv.name}.bias"] = bias.float().contiguous()
    return weights


def _classes(
    count: int | None, release: Release | None, config: TimmConfig | None
) -> tuple[ClassList | None, str]:
    """The classes that a file's project names, and where their order is from, for people.

    Args:
        count: Of its scores; None for convolutions alone.
        release: What torchvision says about it.
        config: The config.json beside it.
    """
    if count is None:
        return None, ""
    if config and config.classes:
        return config.classes, ""
    if config and config.is_imagenet:
        return imagenet_classes(), assumed_order(f"the tag {config.tag} in {CONFIG} says")
    if release and release.classes and len(release.classes.ids) == count:
        return release.classes, release.classes_from
    return None, ""


def _convention(
    file: _Recognised, release: Release | None, config: TimmConfig | None, stated: StatedInput
) -> tuple[Convention, str]:
    """The input convention of a file, and who states it."""
    convention = file.layout.convention
    source = f"that of {file.layout.label.partition(' ')[0]}"
    if release and not release.stated.is_empty:
        convention = release.stated.applied_to(convention)
        source = f"as torchvision's {release.name} says"
    if config and not config.stated.is_empty:
        convention = config.stated.applied_to(convention)
        source = f"as {config.path.name} beside it says"
    of_metadata = metadata_convention(convention, file.metadata, str(file.path))
    if of_metadata != convention or "mean_rgb" in file.metadata or "mean_bgr" in file.metadata:
        convention, source = of_metadata, "as its metadata say"
    if not stated.is_empty:
        convention, source = stated.applied_to(convention), "as stated"
    return convention, source


def _warnings(
    conv1_1: Tensor, layout: Layout, source: str, stated: StatedInput, config: TimmConfig | None
) -> tuple[str, ...]:
    """What a user should know: sentences that follow the file's name."""
    warnings = []
    order = released_order(conv1_1)
    if order and layout.convention == USUAL and source.startswith("that of"):
        warnings.append(
            "its first layer is that of the Oxford VGG-16 released for Caffe, which expects pixels "
            f"0-255 minus the mean 123.68, 116.779, 103.939 in {order} order, not the input of "
            "torchvision; state its mean and channel order"
        )
    if stated.warning():
        warnings.append(stated.warning())
    if config and config.unused:
        warnings.append(f"{config.path.name} names {config.unused}, which are not used")
    return tuple(warnings)


def _stated_crop(metadata: Mapping[str, str]) -> int | None:
    """The crop in a file's metadata, if it is a number."""
    crop = metadata.get("crop", "")
    return int(crop) if crop.isascii() and crop.isdecimal() and len(crop) < 6 else None


def _head_is_nan(tensors: Tensors) -> bool:
    """Whether all values of torchvision's head are NaN.

    fc8's bias comes first: in a file with a classifier it settles the question, without a look at
    the 411 MB of fc6.
    """
    return all(
        bool(tensors[name].isnan().all())
        for source in reversed(TORCHVISION.head)
        for name in (source.bias, source.weight)
    )
