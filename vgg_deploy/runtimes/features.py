"""Gives the outputs of layers inside a net, by the names of the paper's layers.

A ReLU of our nets works in place: it overwrites the output of the convolution before it. A hook on
conv5_3 therefore sees what relu5_3 gives. Here an output is copied before the next layer runs.
"""

from collections.abc import Sequence

import numpy as np
import torch

from vgg_deploy.errors import InputError
from vgg_deploy.runtimes.contract import Runtime
from vgg_deploy.runtimes.pytorch import TorchRuntime


def layer_names(runtime: TorchRuntime) -> list[str]:
    """Names of all layers whose output can be had, in running order.

    conv1_1 to conv5_4, fc6 to fc8 before their ReLU; relu1_1 to relu7 after it; norm1 of A-LRN; and
    pool1 to pool5. Dropout does nothing here and has no name.
    """
    names = [name for name, _ in runtime.net.named_children()]
    return [name for name in names if not name.startswith("drop")]


@torch.inference_mode()
def features(runtime: Runtime, images: np.ndarray, layers: Sequence[str]) -> dict[str, np.ndarray]:
    """Run a net up to the last of some layers.

    Args:
        runtime: Weights in PyTorch.
        images: (N, 3, H, W) uint8 RGB.
        layers: Names of `layer_names`.

    Returns:
        By name, in the order of `layers`: (N, C, h, w) float32.

    Raises:
        InputError: For a layer that the net does not have, or a file that does not show its layers.
    """
    if not isinstance(runtime, TorchRuntime):
        raise InputError(
            f"{runtime.where}: runs in {runtime.name}, which gives scores only; features need the "
            "weights in PyTorch, open the checkpoint"
        )
    known = layer_names(runtime)
    for name in layers:
        if name not in known:
            raise InputError(
                f"{runtime.where}: net {runtime.spec.arch} has no layer {name!r}; choose from "
                f"{', '.join(known)}"
            )
    if not layers:
        raise InputError(f"no layer is named; choose from {', '.join(known)}")
    pixels = torch.from_numpy(images).to(runtime.device)
    found: dict[str, np.ndarray] = {}
    for name, values in runtime.outputs(pixels):
        if name in layers:
            copied = values.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
            found[name] = copied.cpu().numpy()
            if len(found) == len(set(layers)):
                break
    return {name: found[name] for name in layers}
