"""Opens the convolutions of a net, up to the last layer that is wanted, from any file with them.

Distances between images need no fully connected layers, so files with the convolutions alone will
do.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from vgg_deploy.net.foreign_weights import Assumed
from vgg_deploy.net.input_convention import NOTHING_STATED, StatedInput
from vgg_deploy.net.model import VGG
from vgg_deploy.net.named_weights import Located
from vgg_deploy.net.open_net import open_layers
from vgg_deploy.net.spec import NetSpec, Preprocessing


def trunk_spec(
    arch: str, width: float = 1.0, lrn: str = "alexnet", preprocessing: Preprocessing | None = None
) -> NetSpec:
    """Describe a net without its head.

    Args:
        arch: A column of Table 1.
        width: Multiplier of the channels.
        lrn: Reading of A-LRN's normalisation.
        preprocessing: Of its input; by default that of our nets.
    """
    spec = NetSpec(arch, (), (), width, lrn=lrn)
    return replace(spec, preprocessing=preprocessing) if preprocessing else spec


def open_trunk(
    source: str | Path | Located,
    stated: StatedInput = NOTHING_STATED,
    on_assumed: Callable[[Assumed], None] | None = None,
) -> tuple[NetSpec, dict[str, Tensor]]:
    """Read the convolutions of a checkpoint or of foreign weights.

    Args:
        source: As `open_layers`.
        stated: What the caller knows about the input of foreign weights.
        on_assumed: Called with what was assumed, for foreign weights only.

    Returns:
        The net of `trunk_spec`, and the weights of all its convolutions ahead of fc6 by name,
        float32; large ones are mapped from the file.

    Raises:
        InputError: If the file is not found or no VGG, or contradicts what is stated.
    """
    net = open_layers(source, None, stated, on_assumed)
    own = net.spec
    weights = {name: w for name, w in net.state_dict().items() if not name.startswith("fc")}
    return trunk_spec(own.arch, own.width, own.lrn, own.preprocessing), weights


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
