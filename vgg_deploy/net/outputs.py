"""Names what a net can give, scores and the outputs of its layers, and computes their shapes.

A layer's name means its own output: conv5_3 and fc7 are before their ReLU, relu5_3 and relu7 are
after it.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from vgg_deploy.errors import InputError
from vgg_deploy.near_misses import did_you_mean
from vgg_deploy.net.archs import ARCHS, map_side
from vgg_deploy.net.box_outputs import output_channels
from vgg_deploy.net.spec import NetSpec

# Posterior (N, classes), softmax of the spatial mean of the scores; score map (N, classes, h, w)
SCORES = ("posterior", "score_map")
BOXES = "boxes"  # of a localiser: (N, numbers, h, w), four numbers for each box


class Layer(NamedTuple):
    """One layer with a name of its own.

    Attributes:
        name: "conv1_1", "relu1_1", "norm1", "pool1", "fc6", "relu6", ...
        channels: Of its output.
        pools: Number of pools up to and with this layer; each halves the sides, rounding down.
        is_head: Whether it is fc6 or behind it, where a window of the crop's size gives one value.
    """

    name: str
    channels: int
    pools: int
    is_head: bool


@lru_cache(maxsize=32)
def layers(spec: NetSpec) -> tuple[Layer, ...]:
    """All layers of a net in running order. Dropout does nothing here and has no name."""
    arch = ARCHS[spec.arch]
    found: list[Layer] = []
    for s, stage in enumerate(arch.stages(spec.width)):
        for conv in stage:
            found.append(Layer(conv.name, conv.c_out, s, False))
            found.append(Layer(conv.name.replace("conv", "relu"), conv.c_out, s, False))
            if arch.lrn and conv.name == "conv1_1":
                found.append(Layer("norm1", conv.c_out, s, False))
        found.append(Layer(f"pool{s + 1}", stage[-1].c_out, s + 1, False))
    pools = found[-1].pools
    head = arch.head(spec.outputs, spec.width, spec.crop) if spec.has_head else []
    for fc in head:
        found.append(Layer(fc.name, fc.c_out, pools, True))
        if fc.name != "fc8":
            found.append(Layer(fc.name.replace("fc", "relu"), fc.c_out, pools, True))
    return tuple(found)


def all_outputs(spec: NetSpec) -> tuple[str, ...]:
    """Names of all that a net gives: what its head gives, and its layers."""
    return (*head_outputs(spec), *layer_names(spec))


def head_outputs(spec: NetSpec) -> tuple[str, ...]:
    """Names of what a net's head gives: SCORES, BOXES for a localiser, none without a head."""
    if spec.boxes:
        return (BOXES,)
    return SCORES if spec.has_head else ()


def map_name(spec: NetSpec) -> str:
    """The name of fc8's output, beside its own."""
    return BOXES if spec.boxes else "score_map"


def layer_names(spec: NetSpec) -> tuple[str, ...]:
    """Names of all layers, in running order."""
    return tuple(layer.name for layer in layers(spec))


def output_shape(
    spec: NetSpec, output: str, images: tuple[int, int, int, int] | tuple[int, ...]
) -> tuple[int, ...]:
    """Shape of an output.

    Args:
        spec: The net. In a file that gives scores and boxes it describes both.
        output: Of SCORES, BOXES, or the name of a layer.
        images: Shape of the images, (N, 3, H, W).

    Raises:
        KeyError: For a name that the net does not have.
    """
    count, _, height, width = images
    classes = len(spec.classes)
    if output == "posterior":
        return count, classes
    if output in ("score_map", BOXES):
        channels = classes if output == "score_map" else output_channels(spec.boxes, classes)
        return count, channels, map_side(height, spec.crop), map_side(width, spec.crop)
    layer = _by_name(spec)[output]
    if layer.is_head:
        return count, layer.channels, map_side(height, spec.crop), map_side(width, spec.crop)
    return count, layer.channels, height >> layer.pools, width >> layer.pools


def layer_of(spec: NetSpec, output: str) -> Layer:
    """The layer that an output is of, but for the posterior.

    Raises:
        KeyError: For a name that the net does not have.
    """
    return _by_name(spec)["fc8" if output == map_name(spec) else output]


def least_side(spec: NetSpec, outputs: Iterable[str]) -> int:
    """Shortest side of an image, in pixels, for which every output has at least one value.

    Args:
        spec: The net.
        outputs: Of SCORES, or names of layers.
    """
    by_name = _by_name(spec)
    least = 1
    for output in outputs:
        layer = by_name.get(output)
        least = max(least, spec.crop if layer is None or layer.is_head else 1 << layer.pools)
    return least


def check_layer_names(what: str, names: Iterable[str], spec: NetSpec) -> tuple[str, ...]:
    """Check that a net has layers of these names.

    Args:
        what: The file or option that names them, which begins the message.
        names: At least one, none of them twice.
        spec: The net.

    Returns:
        The names in running order.

    Raises:
        InputError: If it does not have one, if a name is twice there, or if there is none.
    """
    known, asked = layer_names(spec), list(names)
    if not asked:
        raise InputError(f"{what}: no layer is named; choose from {', '.join(known)}")
    for name in asked:
        if name not in known:
            raise InputError(
                f"{what}: net {spec.arch} has no layer {name!r}; choose from {', '.join(known)}"
                f"{did_you_mean(name, known)}"
            )
        if asked.count(name) > 1:
            raise InputError(f"{what}: names the layer {name} twice; name it once")
    return tuple(name for name in known if name in asked)


@lru_cache(maxsize=32)
def _by_name(spec: NetSpec) -> dict[str, Layer]:
    return {layer.name: layer for layer in layers(spec)}
