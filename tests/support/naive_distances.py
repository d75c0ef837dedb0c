"""Perceptual and style distances written out plainly, in float64."""

import numpy as np
import torch
import torch.nn.functional as F

from vgg_deploy.net.archs import ARCHS


def naive_features(net, images: np.ndarray) -> dict[str, torch.Tensor]:
    """Outputs of the layers ahead of fc6, (N, C, h, w) float64, by name."""
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
        if min(x.shape[2:]) >= 2:
            found[f"pool{s}"] = x = F.max_pool2d(x, 2)
    return found


def naive_distances(net, kind: str, terms: dict[str, float], first, second) -> np.ndarray:
    """(N,) float64."""
    one, other = naive_features(net, first), naive_features(net, second)
    total = np.zeros(len(first))
    for layer, weight in terms.items():
        for n in range(len(first)):
            a, b = one[layer][n].numpy(), other[layer][n].numpy()
            channels, height, width = a.shape
            if kind == "perceptual":  # Johnson et al. 2016, equation 2, weighted
                part = np.sum((a - b) ** 2) / (channels * height * width)
            else:  # equations 3 and 4
                grams = [
                    np.einsum("chw,dhw->cd", f, f) / (channels * height * width) for f in (a, b)
                ]
                part = np.sum((grams[0] - grams[1]) ** 2)
            total[n] += weight * part
    return total
