"""Refuses heads of other projects that are not fc6, fc7, fc8 and a softmax, and says why."""

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NoReturn

from vgg_deploy.errors import InputError
from vgg_deploy.net.archs import STRIDE
from vgg_deploy.net.unstated import Unstated

Shapes = Mapping[str, tuple[int, ...]]
EXPECTED = (
    "it must have three fully connected layers, fc6, fc7 and fc8, with ReLU after the first two "
    "and a softmax after the last"
)
OF_HEADS = ("classifier", "fc", "head", "pre_logits")  # prefixes of the names of a head's layers
ENDINGS = (".weight", ".bias", "_W", "_b", ".running_mean", ".running_var")
HINT = "fine-tune a net with such a head, or save its convolutions alone and train a head on them"


def refuse_other_head(
    where: str, arch: str, shapes: Shapes, trunk: Collection[str], head: Collection[str]
) -> None:
    """Refuse a file with the convolutions of a net and other layers in its head.

    Args:
        where: Names the file in errors.
        arch: The net, a key of ARCHS.
        shapes: Of all tensors in the file, by name.
        trunk: Names of the tensors that the net's trunk has.
        head: Names of the tensors that the net's head has.

    Raises:
        InputError: If the file has the whole trunk and another head.
    """
    rest = shapes.keys() - set(trunk)
    if not rest or not set(trunk) <= shapes.keys():
        return
    expected = {_layer(name) for name in head}
    present = {_layer(name) for name in rest}
    others = {layer for layer in present - expected if layer.startswith(OF_HEADS)}
    if expected <= present and not others:
        return
    listed = ", ".join(_described(layer, shapes) for layer in sorted(present)[:6])
    more = f" and {len(present) - 6} more" if len(present) > 6 else ""
    raise InputError(
        f"{where}: is net {arch} with another head: {listed}{more}; {EXPECTED} "
        f"({', '.join(sorted(expected))}); {HINT}"
    )


def refuse_global_pool(where: str, crop: int, channels: int) -> None:
    """Refuse an fc6 that sees a single position of conv5.

    In torchvision's layout, a net with a crop of 32 looks like one that averages each channel of
    conv5 over the whole map, which no crop can express.

    Args:
        where: Names the file in errors.
        crop: Crop implied by the size of fc6, in pixels.
        channels: Of conv5.

    Raises:
        Unstated: If `crop` is 32.
    """
    if crop == STRIDE:
        raise Unstated(
            "crop",
            f"{where}: its first fully connected layer takes {channels} inputs, one for each "
            "channel of conv5: a head after global average pooling, which is no fc6, or a net "
            f"trained at crop {STRIDE}, and the weights alone cannot show which; {EXPECTED}, fc6 "
            f"over the whole map of conv5 (7x7 for a crop of 224); {HINT}",
        )


def refuse_other_hidden(where: str, hidden: list[int], wanted: int, width: float) -> None:
    """Refuse an fc6 and fc7 whose widths do not follow from the multiplier of the convolutions.

    Args:
        where: Names the file in errors.
        hidden: Outputs of fc6 and fc7.
        wanted: Outputs that a net of this width has in both.
        width: Multiplier of all channels.

    Raises:
        InputError: If the outputs differ.
    """
    if hidden != [wanted, wanted]:
        raise InputError(
            f"{where}: its hidden layers have {hidden[0]} and {hidden[1]} outputs, a net of width "
            f"{width:g} has {wanted} in both, as one multiplier scales all layers; {HINT}"
        )


def refuse_one_output(path: Path) -> NoReturn:
    """Refuse a head with one score.

    Raises:
        InputError: Always.
    """
    raise InputError(
        f"{path}: its head has one output, for a sigmoid; a softmax over one output is 1 for every "
        "image. Give fc8 two outputs, the first with weights and bias of zero: their softmax is "
        "the sigmoid"
    )


def _layer(name: str) -> str:
    """The layer of a tensor: classifier.6.weight -> classifier.6, fc8_W -> fc8."""
    for ending in ENDINGS:
        if name.endswith(ending):
            return name.removesuffix(ending)
    return name


def _described(layer: str, shapes: Shapes) -> str:
    """A layer with its inputs and outputs, if its weight is a matrix or a kernel."""
    shape = shapes.get(f"{layer}.weight", shapes.get(f"{layer}_W", ()))
    if len(shape) < 2:
        return layer
    return f"{layer} ({math.prod(shape[1:])} -> {shape[0]})"
