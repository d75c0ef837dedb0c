"""Outputs of all layers of a net in float64, written as plain functions of Table 1."""

import numpy as np
import torch
import torch.nn.functional as F

from vgg_deploy.net.archs import ARCHS


def plain_forward(net, images) -> dict[str, np.ndarray]:
    """Outputs of all layers in float64, by their names: Table 1 written as functions."""
    state = {name: tensor.double() for name, tensor in net.state_dict().items()}
    mean = torch.tensor(net.spec.preprocessing.mean, dtype=torch.float64).view(1, 3, 1, 1)
    x = torch.from_numpy(images).double() - mean
    found = {}
    for s, kernels in enumerate(ARCHS[net.spec.arch].kernels, start=1):
        for i, kernel in enumerate(kernels, start=1):
            name = f"{s}_{i}"
            weight, bias = state[f"conv{name}.weight"], state[f"conv{name}.bias"]
            found[f"conv{name}"] = F.conv2d(x, weight, bias, padding=kernel // 2)
            found[f"relu{name}"] = x = found[f"conv{name}"].clamp(min=0)
            if net.spec.arch == "A-LRN" and name == "1_1":
                squares = F.pad(x**2, (0, 0, 0, 0, 2, 2))
                summed = sum(squares[:, c : c + x.shape[1]] for c in range(5))
                found["norm1"] = x = x / (2 + 1e-4 * summed) ** 0.75
        found[f"pool{s}"] = x = F.max_pool2d(x, 2)
    for n in (6, 7, 8):
        found[f"fc{n}"] = x = F.conv2d(x, state[f"fc{n}.weight"], state[f"fc{n}.bias"])
        if n < 8:
            found[f"relu{n}"] = x = x.clamp(min=0)
    return {name: values.numpy() for name, values in found.items()}
