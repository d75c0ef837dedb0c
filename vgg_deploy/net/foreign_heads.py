"""Which heads of other projects are fc6, fc7, fc8 and a softmax, and why others are not."""

from collections.abc import Collection, Mapping
from pathlib import Path

from vgg_deploy.errors import InputError
from vgg_deploy.net.archs import STRIDE
from vgg_deploy.net.unstated import Unstated

Shapes = Mapping[str, tuple[int, ...]]
WANTED = (
    "wanted are three fully connected layers, fc6, fc7 and fc8, with ReLU after the first two and "
    "a softmax after the last"
)
OF_HEADS = ("classifier", "fc", "head", "pre_logits")  # how names of heads' layers begin
ENDINGS = (".weight", ".bias", "_W", "_b", ".running_mean", ".running_var")
WAY_OUT = (
    "fine-tune a net with such a head, or save its convolutions alone and train a head on them"
)


def refuse_other_head(
    where: str, arch: str, shapes: Shapes, trunk: Collection[str], head: Collection[str]
) -> None:
    """Refuse a file whose convolutions are a net's and whose head is of other layers.

    Args:
        where: The file, for the message.
        arch: The net, a key of ARCHS.
        shapes: Of all tensors in the file, by name.
        trunk, head: Names of the tensors that the net has.

    Raises:
        InputError: That says what was found and what is wanted.
    """
    rest = shapes.keys() - set(trunk)
    if not rest or not set(trunk) <= shapes.keys():
        return
    wanted = {_layer(name) for name in head}
    found = {_layer(name) for name in rest}
    others = {layer for layer in found - wanted if layer.startswith(OF_HEADS)}
    if wanted <= found and not others:
        return
    listed = ", ".join(_described(layer, shapes) for layer in sorted(found)[:6])
    more = f" and {len(found) - 6} more" if len(found) > 6 else ""
    raise InputError(
        f"{where}: is net {arch} with another head: {listed}{more}; {WANTED} "
        f"({', '.join(sorted(wanted))}); {WAY_OUT}"
    )


def refuse_global_pool(where: str, crop: int, channels: int) -> None:
    """Refuse fc6 with one position of conv5, unless a crop of 32 is known to be the reason.

    torchvision's layers look the same for a net that averages each channel of conv5 over the whole
    map, which no crop can stand for.

    Args:
        crop: By the size of fc6, pixels.
        channels: Of conv5.

    Raises:
        Unstated: If `crop` is 32.
    """
    if crop == STRIDE:
        raise Unstated(
            "crop",
            f"{where}: its first fully connected layer takes {channels} inputs, one for each "
            "channel of conv5: a head after global average pooling, which is no fc6, or a net "
            f"trained at crop {STRIDE}, and the weights do not tell which; {WANTED}, fc6 over the "
            f"whole map of conv5 (7x7 for a crop of 224); {WAY_OUT}",
        )


def refuse_other_hidden(where: str, hidden: list[int], wanted: int, width: float) -> None:
    """Refuse fc6 and fc7 whose widths no multiplier gives that fits the convolutions.

    Args:
        hidden: Outputs of fc6 and fc7.
        wanted: What a net of this `width` has in both.

    Raises:
        InputError: That names both.
    """
    if hidden != [wanted, wanted]:
        raise InputError(
            f"{where}: its hidden layers have {hidden[0]} and {hidden[1]} outputs, a net of width "
            f"{width:g} has {wanted} in both, as one multiplier scales all layers; {WAY_OUT}"
        )


def refuse_one_output(path: Path) -> None:
    """Raises: InputError, for a head with one score."""
    raise InputError(
        f"{path}: its head has one output, for a sigmoid; a softmax over one output is 1 for every "
        "image. Give fc8 two outputs, the first with weights and bias of zero: their softmax is "
        "the sigmoid"
    )


def _layer(name: str) -> str:
    """classifier.6.weight -> classifier.6; fc8_W -> fc8"""
    for ending in ENDINGS:
        if name.endswith(ending):
            return name.removesuffix(ending)
    return name


def _described(layer: str, shapes: Shapes) -> str:
    """A layer with its inputs and outputs, as far as its weight tells them."""
    shape = shapes.get(f"{layer}.weight", shapes.get(f"{layer}_W", ()))
    if len(shape) < 2:
        return layer
    inputs = 1
    for size in shape[1:]:
        inputs *= size
    return f"{layer} ({inputs} -> {shape[0]})"
