"""Opens the convolutions of a net, up to the last layer that is wanted, from any file with them.

Distances between images need no fully connected layers, so files with the convolutions alone will
do.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from vgg_deploy.net.checkpoint import load_checkpoint
from vgg_deploy.net.foreign_weights import Assumed, read_foreign
from vgg_deploy.net.input_convention import NOTHING_STATED, StatedInput
from vgg_deploy.net.model import VGG
from vgg_deploy.net.named_weights import Located, locate
from vgg_deploy.net.open_net import is_own
from vgg_deploy.net.outputs import layers
from vgg_deploy.net.spec import NetSpec, Preprocessing


def trunk_spec(
    arch: str, width: float = 1.0, lrn: str = "alexnet", preprocessing: Preprocessing | None = None
) -> NetSpec:
    """Describe a net without its head: the record has one class, which stands for none.

    Args:
        arch: A column of Table 1.
        width: Multiplier of the channels.
        lrn: Reading of A-LRN's normalisation.
        preprocessing: Of its input; by default that of our nets.
    """
    spec = NetSpec(arch, ("0",), (), width, 32, lrn)
    return replace(spec, preprocessing=preprocessing) if preprocessing else spec


def open_trunk(
    source: str | Path | Located,
    stated: StatedInput = NOTHING_STATED,
    on_assumed: Callable[[Assumed], None] | None = None,
) -> tuple[NetSpec, dict[str, Tensor]]:
    """Read the convolutions of a checkpoint or of foreign weights.

    Args:
        source: As `open_net`; convolutions alone will do.
        stated: What the caller knows about the input of foreign weights.
        on_assumed: Called with what was assumed, for foreign weights only.

    Returns:
        The net of `trunk_spec`, and the weights of all its convolutions ahead of fc6 by name,
        float32; large ones are mapped from the file.

    Raises:
        InputError: If the file is not found or no VGG, or contradicts what is stated.
    """
    path = locate(source).path
    if is_own(path):
        checkpoint = load_checkpoint(path)
        own = checkpoint.spec
        spec = trunk_spec(own.arch, own.width, own.lrn, own.preprocessing)
        return spec, _without_head(checkpoint.weights)
    foreign = read_foreign(path, stated=stated)
    if on_assumed:
        on_assumed(foreign.assumed)
    spec = trunk_spec(foreign.arch, foreign.width, preprocessing=foreign.preprocessing)
    return spec, _without_head(foreign.weights)


def build_trunk(spec: NetSpec, weights: dict[str, Tensor], last: str) -> VGG:
    """Build a net that ends with a layer, around the given tensors, without copying them.

    Args:
        spec: Of `open_trunk`.
        weights: Of `open_trunk`.
        last: Name of its last layer, one ahead of fc6.

    Returns:
        The net in evaluation mode; it gives the layer's output (N, C, h, w).
    """
    with torch.device("meta"):
        net = VGG(spec)
    names = [name for name, _ in net.named_children()]
    for name in names[names.index(last) + 1 :]:
        delattr(net, name)
    kept = net.state_dict().keys()
    net.load_state_dict({name: weights[name] for name in kept}, assign=True)
    return net.eval().requires_grad_(False)


def trunk_layers(spec: NetSpec) -> tuple[str, ...]:
    """Names of the layers ahead of fc6, in running order."""
    return tuple(layer.name for layer in layers(spec) if not layer.is_head)


def _without_head(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in weights.items() if not name.startswith("fc")}
