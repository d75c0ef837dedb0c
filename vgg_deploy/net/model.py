"""Defines the nets as one PyTorch module, and the four ways to initialise them."""

import math
from collections import OrderedDict

import torch
from torch import Tensor, nn

from vgg_deploy.net.archs import ARCHS
from vgg_deploy.net.spec import NetSpec, Preprocessing

# Section 2.1 of the paper says variance 1e-2. Its trained nets and its own remarks fit a standard
# deviation of 1e-2.
INITS = ("paper-std", "paper-var", "glorot", "he")
INPUT_STD = 64.0  # about the standard deviation of photos' pixels, 0-255


class Norm(nn.LocalResponseNorm):
    """Local response normalisation in float32, as squares of activations overflow float16."""

    def forward(self, values: Tensor) -> Tensor:
        """Normalise over channels.

        Args:
            values: (N, C, H, W).

        Returns:
            (N, C, H, W), float32 for half-precision values.
        """
        if values.dtype in (torch.float16, torch.bfloat16):
            values = values.float()
        normalised: Tensor = super().forward(values)
        return normalised


class VGG(nn.Sequential):
    """One net of Table 1, with layers named as in the released weights: conv1_1, ..., fc7, fc8.

    The fully connected layers are convolutions (section 3.2): the same weights score a crop (a 1x1
    map) and a whole image (a larger map). There is no adaptive pool. A spec without classes gives
    the convolutions alone.

    Attributes:
        spec: The net's architecture, classes and preprocessing.

    Example:
        >>> net = VGG(NetSpec("A", ("cat", "dog"), width=1 / 16))
        >>> tuple(net(torch.zeros(1, 3, 224, 288)).shape)
        (1, 2, 1, 3)
    """

    def __init__(self, spec: NetSpec, dropout: float = 0.5):
        arch = ARCHS[spec.arch]
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for s, stage in enumerate(arch.stages(spec.width), start=1):
            for conv in stage:
                layers[conv.name] = nn.Conv2d(
                    conv.c_in, conv.c_out, conv.kernel, padding=conv.padding
                )
                layers[conv.name.replace("conv", "relu")] = nn.ReLU(inplace=True)
                if arch.lrn and conv.name == "conv1_1":
                    # torch divides alpha by the window size 5; AlexNet's formula, to which the
                    # paper refers, does not
                    alpha = {"alexnet": 5e-4, "caffe": 1e-4}[spec.lrn]
                    layers["norm1"] = Norm(5, alpha=alpha, beta=0.75, k=2.0)
            layers[f"pool{s}"] = nn.MaxPool2d(2)  # drops an odd last row or column
        head = arch.head(spec.outputs, spec.width, spec.crop) if spec.has_head else []
        for fc in head:
            layers[fc.name] = nn.Conv2d(fc.c_in, fc.c_out, fc.kernel)
            if fc.name != "fc8":
                layers[fc.name.replace("fc", "relu")] = nn.ReLU(inplace=True)
                layers[fc.name.replace("fc", "drop")] = nn.Dropout(dropout)
        super().__init__(layers)
        self.spec = spec

    def forward(self, images: Tensor) -> Tensor:
        """Compute the score map.

        Args:
            images: (N, 3, H, W) float, RGB minus the mean; each side at least the crop.

        Returns:
            (N, classes, h, w) logits, where h = H // 32 - crop // 32 + 1, and w likewise. At the
            crop's own size the map is 1x1. A localiser gives the numbers of its boxes instead,
            (N, `spec.outputs`, h, w).
        """
        score_map: Tensor = super().forward(images)  # type: ignore[no-untyped-call]  # by torch
        return score_map

    @property
    def trunk(self) -> nn.Sequential:
        """Layers conv1_1 to pool5, sharing this net's weights.

        They map (N, 3, H, W) to (N, C, H // 32, W // 32).
        """
        return nn.Sequential(OrderedDict(self._split()[0]))

    @property
    def head(self) -> nn.Sequential:
        """Layers fc6 to fc8, sharing this net's weights.

        They map pool5's (N, C, h, w) to the score map.
        """
        return nn.Sequential(OrderedDict(self._split()[1]))

    def convolution(self, name: str) -> nn.Conv2d:
        """The convolution of a name such as "conv1_1" or "fc6".

        Raises:
            AttributeError: If the net has no layer of this name.
            TypeError: If the layer is no convolution.
        """
        layer = self.get_submodule(name)
        if not isinstance(layer, nn.Conv2d):
            raise TypeError(f"{name} is a {type(layer).__name__}, not a convolution")
        return layer

    def convolutions(self) -> dict[str, nn.Conv2d]:
        """All convolutions, fc6 to fc8 included, by name in running order."""
        return {
            name: layer for name, layer in self.named_children() if isinstance(layer, nn.Conv2d)
        }

    def _split(self) -> tuple[list[tuple[str, nn.Module]], list[tuple[str, nn.Module]]]:
        layers = list(self.named_children())
        fc6 = 1 + [name for name, _ in layers].index("pool5")
        return layers[:fc6], layers[fc6:]


def memory_format(device: str, precision: str) -> torch.memory_format:
    """How images and weights should lie in memory.

    Channels last suit CPUs and the matrix units of half precision. cuDNN's float32 without TF32 has
    its fast kernels for planes.
    """
    if device == "cuda" and precision == "fp32":
        return torch.contiguous_format
    return torch.channels_last


def channel_mean(preprocessing: Preprocessing, device: str | torch.device = "cpu") -> Tensor:
    """The mean that a net subtracts from its images.

    Returns:
        (1, 3, 1, 1) float32, RGB, 0-255.
    """
    return torch.tensor(preprocessing.mean, dtype=torch.float32, device=device).view(1, 3, 1, 1)


def subtract_mean(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Convert pixels to a net's input.

    Args:
        images: (N, 3, H, W) RGB, 0-255, of any type.
        preprocessing: Of the net.

    Returns:
        (N, 3, H, W) float32.
    """
    return images.float() - channel_mean(preprocessing, images.device)


def posterior(score_map: Tensor) -> Tensor:
    """Average a score map and turn it into probabilities (section 3.2).

    Args:
        score_map: (N, classes, h, w) logits.

    Returns:
        (N, classes): the softmax of the spatial mean.
    """
    return score_map.mean(dim=(2, 3)).softmax(dim=1)


@torch.no_grad()
def initialise(net: VGG, init: str, generator: torch.Generator | None = None) -> None:
    """Draw the weights of every convolution and set the biases to zero.

    `paper-std` and `paper-var` are Gaussians with standard deviation 0.01 and variance 0.01, at a
    net's full width. A thin net's sums have fewer terms. Its layers but the first therefore draw
    wider weights, so that their outputs are as large as the full net's.

    `glorot` is Glorot & Bengio's uniform rule, `he` is He et al.'s Gaussian with fan-in. Both
    assume inputs of unit variance, but pixels have a standard deviation of INPUT_STD. All layers
    share the correction: were the first layer alone made smaller, it would move INPUT_STD^2 times
    faster than the others at the same learning rate.

    Args:
        net: Changed in place.
        init: One of INITS.
        generator: Source of the random numbers; PyTorch's own by default.

    Raises:
        ValueError: If `init` is unknown.
    """
    convs = list(net.convolutions().values())
    share = INPUT_STD ** (-1 / len(convs))
    for index, conv in enumerate(convs):
        widening = 1.0 if index == 0 else net.spec.width**-0.5
        weight = conv.weight
        fan_in, fan_out = weight[0].numel(), weight[:, 0].numel()
        match init:
            case "paper-std":
                weight.normal_(0, 0.01 * widening, generator=generator)
            case "paper-var":
                weight.normal_(0, 0.1 * widening, generator=generator)
            case "glorot":
                bound = share * math.sqrt(6 / (fan_in + fan_out))
                weight.uniform_(-bound, bound, generator=generator)
            case "he":
                weight.normal_(0, share * math.sqrt(2 / fan_in), generator=generator)
            case _:
                raise ValueError(f"init {init!r} is not one of {INITS}")
        _bias(conv).zero_()


# Section 3.1: B-E start from the trained A's "first four convolutional layers" and its fully
# connected layers. A's first four convolutions fit the deeper nets by name only, not by position.
FROM_A = ("conv1_1", "conv2_1", "conv3_1", "conv3_2", "fc6", "fc7", "fc8")


@torch.no_grad()
def start_from_a(net: VGG, net_a: VGG) -> None:
    """Copy the layers of FROM_A into a deeper net; its other layers stay as they are."""
    for name in FROM_A:
        layer, source = net.convolution(name), net_a.convolution(name)
        layer.weight.copy_(source.weight)
        _bias(layer).copy_(_bias(source))


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None  # every convolution of a VGG has one
    return conv.bias
