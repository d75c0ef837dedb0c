"""Gives the outputs of layers inside a net in every runtime, by the paper's names of layers."""

from collections.abc import Sequence

import numpy as np

from vgg_deploy.net.outputs import BOXES, SCORES, check_layer_names
from vgg_deploy.runtimes.contract import Outputs, Runtime, require


def layers_of(runtime: Runtime) -> tuple[str, ...]:
    """Names of the layers whose output a runtime gives, in running order."""
    return tuple(name for name in runtime.outputs if name not in (*SCORES, BOXES))


def features(runtime: Runtime, images: np.ndarray, layers: Sequence[str]) -> Outputs:
    """Run a net up to the last of some layers.

    Args:
        runtime: Weights in PyTorch, or an exported file that gives these layers.
        images: (N, 3, H, W) uint8 RGB; sides of at least `least_side`.
        layers: Names of layers.

    Returns:
        By name, in the order of `layers`: (N, C, h, w) float32.

    Raises:
        InputError: For a layer that the net does not have, or a file that does not give it.
    """
    check_layer_names(runtime.where, dict.fromkeys(layers), runtime.spec)
    require(runtime.where, runtime.outputs, layers)
    return runtime.run(images, list(dict.fromkeys(layers)))
