"""Nets and files of other projects."""

import math

import numpy as np
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from vgg_deploy.net.archs import ARCHS
from vgg_deploy.net.foreign_weights import Foreign
from vgg_deploy.net.model import VGG
from vgg_deploy.net.spec import NetSpec, numbered

CLASSES, HIDDEN = 7, 256
ROUNDING = 3e-6  # of float32 weights through up to 19 layers, relative to the largest logit


def our_net(foreign: Foreign) -> nn.Module:
    """The net of foreign weights, in float64."""
    spec = NetSpec(
        foreign.arch, numbered(foreign.class_count), width=foreign.width, crop=foreign.crop
    )
    net = VGG(spec)
    net.load_state_dict(foreign.weights)
    return net.double().eval()


def our_trunk(foreign: Foreign) -> nn.Module:
    """The trunk of foreign weights without a head, in float64."""
    trunk = VGG(NetSpec(foreign.arch, ("any",), width=foreign.width)).trunk
    trunk.load_state_dict(foreign.weights)
    return trunk.double().eval()


def photos(height: int, width: int, count: int = 2) -> Tensor:
    """Noise whose channels have different levels, so that their order matters.

    Returns:
        (N, 3, H, W) float64, RGB, 0-255.
    """
    rng = np.random.default_rng(height + width)
    levels = np.array([255, 160, 90]).reshape(1, 3, 1, 1)
    return torch.from_numpy(np.floor(rng.random((count, 3, height, width)) * levels))


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    """Compare logits, relative to the largest."""
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= ROUNDING * theirs.abs().max()


@torch.no_grad()
def randomise(net: nn.Module, seed: int) -> nn.Module:
    """Draw weights that keep signals alive through all layers.

    Running variances go down to 1e-3, where the eps of the normalisation shows.
    """
    draw = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.weight.normal_(0, math.sqrt(2 / module.weight[0].numel()), generator=draw)
            module.bias.normal_(0, 0.1, generator=draw)
        elif isinstance(module, nn.BatchNorm2d):
            module.weight.uniform_(0.5, 1.5, generator=draw)
            module.bias.normal_(0, 0.5, generator=draw)
            module.running_mean.normal_(0, 0.5, generator=draw)
            module.running_var.copy_(
                10 ** torch.empty_like(module.running_var).uniform_(-3, 0.5, generator=draw)
            )
    return net.eval()


def thin_cfg(arch: str) -> list[int | str]:
    """The torchvision configuration of a net, a sixteenth as wide."""
    return [c if c == "M" else c // 16 for c in torchvision.models.vgg.cfgs[arch]]


def torchvision_net(arch: str, batch_norm: bool) -> nn.Module:
    """The torchvision VGG, a sixteenth as wide, with random weights."""
    features = torchvision.models.vgg.make_layers(thin_cfg(arch), batch_norm)
    with torch.device("meta"):  # its own classifier has 123 million weights
        net = torchvision.models.VGG(features, init_weights=False)
    layers = [
        nn.Linear(32 * 49, HIDDEN),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(HIDDEN, HIDDEN),
        nn.ReLU(),
        nn.Dropout(),
    ]
    net.classifier = nn.Sequential(*layers, nn.Linear(HIDDEN, CLASSES))
    return randomise(net, seed=ord(arch))


def caffe_arrays(arch: str, crop: int = 224) -> dict[str, np.ndarray]:
    """A thin net as it would be released for Caffe, trained on BGR.

    Returns:
        conv1_1_W ... fc8_b, float32; fully connected weights are matrices.
    """
    rng = np.random.default_rng(7)
    arrays, c_in = {}, 3

    def add(name: str, *shape: int) -> None:
        std = math.sqrt(2 / math.prod(shape[1:]))
        arrays[f"{name}_W"] = rng.normal(0, std, shape).astype(np.float32)
        arrays[f"{name}_b"] = rng.normal(0, 0.5, shape[0]).astype(np.float32)

    stages = zip((4, 8, 16, 32, 32), ARCHS[arch].kernels, strict=True)
    for s, (c_out, kernels) in enumerate(stages, start=1):
        for i, k in enumerate(kernels, start=1):
            add(f"conv{s}_{i}", c_out, c_in, k, k)
            c_in = c_out
    add("fc6", HIDDEN, 32 * (crop // 32) ** 2)
    add("fc7", HIDDEN, HIDDEN)
    add("fc8", CLASSES, HIDDEN)
    return arrays


def caffe_scores(
    arrays: dict[str, np.ndarray],
    crops: Tensor,
    channels: list[int],
    mean: tuple[float, float, float],
) -> Tensor:
    """Logits of such a net: convolutions, then matrix products.

    Args:
        arrays: Of `caffe_arrays`.
        crops: (N, 3, crop, crop), RGB, 0-255.
        channels: Order in which the net takes them.
        mean: Subtracted from the channels in this order.
    """
    x = crops[:, channels] - torch.tensor(mean, dtype=torch.float64).view(1, 3, 1, 1)
    arrays = {name: torch.from_numpy(a).double() for name, a in arrays.items()}
    for s in range(1, 6):
        for i in range(1, 5):
            name = f"conv{s}_{i}"
            if f"{name}_W" in arrays:
                weight, bias = arrays[f"{name}_W"], arrays[f"{name}_b"]
                x = F.conv2d(x, weight, bias, padding="same").relu()
        x = F.max_pool2d(x, 2)
    x = x.flatten(1)
    for fc in ("fc6", "fc7"):
        x = (x @ arrays[f"{fc}_W"].T + arrays[f"{fc}_b"]).relu()
    return x @ arrays["fc8_W"].T + arrays["fc8_b"]
