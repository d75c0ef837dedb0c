"""The nets as one PyTorch module, and the four ways to initialise them."""

import math
from collections import OrderedDict

import torch
from torch import Tensor, nn

from vgg_deploy.net.archs import ARCHS
from vgg_deploy.net.spec import NetSpec

# Section 2.1 of the paper says variance 1e-2; its trained nets and its own remarks fit a standard deviation of 1e-2.
INITS = ("paper-std", "paper-var", "glorot", "he")
INPUT_STD = 64.0  # about the standard deviation of photos' pixels, 0-255


class Norm(nn.LocalResponseNorm):
    """Never in half precision, which the squares of activations overflow."""

    def forward(self, values: Tensor) -> Tensor:
        return super().forward(
            values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
        )


class VGG(nn.Sequential):
    """One net of Table 1, layers named as in the released weights: conv1_1 ... conv5_x, fc6, fc7, fc8.

    The fully connected layers are convolutions (section 3.2), so that the same weights score a crop (a 1x1 map)
    and a whole image (a larger map); there is no adaptive pool.
    """

    def __init__(self, spec: NetSpec, dropout: float = 0.5):
        arch = ARCHS[spec.arch]
        layers = OrderedDict()
        for s, stage in enumerate(arch.stages(spec.width), start=1):
            for conv in stage:
                layers[conv.name] = nn.Conv2d(
                    conv.c_in, conv.c_out, conv.kernel, padding=conv.padding
                )
                layers[conv.name.replace("conv", "relu")] = nn.ReLU(inplace=True)
                if arch.lrn and conv.name == "conv1_1":
                    # torch divides alpha by the window size 5; AlexNet's formula, which the paper points to, does not
                    alpha = {"alexnet": 5e-4, "caffe": 1e-4}[spec.lrn]
                    layers["norm1"] = Norm(5, alpha=alpha, beta=0.75, k=2.0)
            layers[f"pool{s}"] = nn.MaxPool2d(
                2
            )  # floor: a rest of one pixel right or below is dropped
        for fc in arch.head(len(spec.classes), spec.width, spec.crop):
            layers[fc.name] = nn.Conv2d(fc.c_in, fc.c_out, fc.kernel)
            if fc.name != "fc8":
                layers[fc.name.replace("fc", "relu")] = nn.ReLU(inplace=True)
                layers[fc.name.replace("fc", "drop")] = nn.Dropout(dropout)
        super().__init__(layers)
        self.spec = spec

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) float RGB minus mean, sides at least the crop -> (N, classes, h, w) logits, the score map.

        h = H // 32 - crop // 32 + 1, w alike; at the crop's own size the map is 1x1.
        """
        return super().forward(images)

    @property
    def trunk(self) -> nn.Sequential:
        """conv1_1 ... pool5, sharing this net's weights: (N, 3, H, W) -> (N, C, H // 32, W // 32)."""
        return nn.Sequential(OrderedDict(self._split()[0]))

    @property
    def head(self) -> nn.Sequential:
        """fc6 ... fc8, sharing this net's weights: (N, C, h, w) of pool5 -> score map."""
        return nn.Sequential(OrderedDict(self._split()[1]))

    def _split(self) -> tuple[list, list]:
        layers = list(self.named_children())
        at = [name for name, _ in layers].index("fc6")
        return layers[:at], layers[at:]


def memory_format(device: str, precision: str) -> torch.memory_format:
    """How images and weights should lie in memory: channels last for CPUs and for the matrix units of half precision;
    cuDNN's float32 without TF32 has its fast kernels for planes."""
    return (
        torch.contiguous_format if device == "cuda" and precision == "fp32" else torch.channels_last
    )


def posterior(score_map: Tensor) -> Tensor:
    """(N, classes, h, w) logits -> (N, classes) posteriors: softmax of the spatial mean (section 3.2)."""
    return score_map.mean(dim=(2, 3)).softmax(dim=1)


@torch.no_grad()
def initialise(net: VGG, init: str, generator: torch.Generator | None = None) -> None:
    """Draw every convolution's weights anew and set biases to zero.

    Args: init, one of INITS: Gaussian with standard deviation 0.01 (paper-std) or variance 0.01 (paper-var), at a
        net's full width; a thin net's sums have fewer terms, so its layers but the first draw that much wider and pass
        on what the full net's would. Glorot & Bengio's uniform rule, or He et al.'s Gaussian with fan-in: these assume
        inputs of unit variance; pixels have INPUT_STD, which all layers take off together, for a small first layer
        alone would move INPUT_STD^2 times faster than the others under one learning rate.
    """
    convs = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    share = INPUT_STD ** (-1 / len(convs))
    for place, module in enumerate(convs):
        thinner = 1.0 if place == 0 else net.spec.width**-0.5
        fan_in, fan_out = (module.weight[0].numel(), module.weight[:, 0].numel())
        match init:
            case "paper-std":
                module.weight.normal_(0, 0.01 * thinner, generator=generator)
            case "paper-var":
                module.weight.normal_(0, 0.1 * thinner, generator=generator)
            case "glorot":
                bound = share * math.sqrt(6 / (fan_in + fan_out))
                module.weight.uniform_(-bound, bound, generator=generator)
            case "he":
                module.weight.normal_(0, share * math.sqrt(2 / fan_in), generator=generator)
            case _:
                raise ValueError(f"init {init!r} is not one of {INITS}")
        module.bias.zero_()


# Section 3.1: B-E start from the trained A's "first four convolutional layers" and its fully connected layers.
# A's first four convolutions fit the deeper nets by name only, not by position.
FROM_A = ("conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", "fc8")


@torch.no_grad()
def start_from_a(net: VGG, net_a: VGG) -> None:
    """Copy the layers of FROM_A into a deeper net; the others keep what they have."""
    for name in FROM_A:
        layer, source = net.get_submodule(name), net_a.get_submodule(name)
        layer.weight.copy_(source.weight)
        layer.bias.copy_(source.bias)
