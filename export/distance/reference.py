"""Computes distances in PyTorch: the references that files are compared with.

LPIPS is the package lpips itself, with the weights of our net in place of torchvision's. The other
distances are their formulas in float64, on the features of our net.
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from export.distance.heads import Heads
from export.quantize.convolve import layers_for, net_input, run_layer
from vgg_deploy.exported.distance_metadata import Term
from vgg_deploy.net.input_convention import of_255
from vgg_deploy.net.model import VGG
from vgg_deploy.net.spec import USUAL_MEAN, USUAL_STD

SAME_MEAN = 0.01  # grey levels; a mean as near as this to ImageNet's usual one is that
# Of torchvision's vgg16.features, by the slice of lpips' net
CONVOLUTIONS = {
    "conv1_1": "slice1.0",
    "conv1_2": "slice1.2",
    "conv2_1": "slice2.5",
    "conv2_2": "slice2.7",
    "conv3_1": "slice3.10",
    "conv3_2": "slice3.12",
    "conv3_3": "slice3.14",
    "conv4_1": "slice4.17",
    "conv4_2": "slice4.19",
    "conv4_3": "slice4.21",
    "conv5_1": "slice5.24",
    "conv5_2": "slice5.26",
    "conv5_3": "slice5.28",
}


class Reference:
    """A distance in PyTorch.

    Attributes:
        name: Of what computes it, for messages.
    """

    def __init__(self, net: VGG, kind: str, terms: Sequence[Term], heads: Heads | None = None):
        self.net, self.kind, self.terms = net, kind, terms
        self.name = "the package lpips" if kind == "lpips" else "PyTorch"
        self.package = lpips_package(net, heads) if kind == "lpips" and heads else None

    @torch.inference_mode()
    def __call__(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Distances of a batch, one pair after the other.

        Args:
            first: (N, 3, H, W) uint8 RGB.
            second: The same.

        Returns:
            (N,) float64.
        """
        pairs = zip(first, second, strict=True)
        return np.array([self._of_pair(one[None], other[None]) for one, other in pairs])

    def _of_pair(self, first: np.ndarray, second: np.ndarray) -> float:
        if self.package is not None:
            images = [torch.from_numpy(image).float() / 127.5 - 1 for image in (first, second)]
            return float(self.package(*images))
        one, other = self._features(first), self._features(second)
        compare = {"perceptual": mean_square, "gram": gram_difference}[self.kind]
        return sum(term.weight * compare(one[term.layer], other[term.layer]) for term in self.terms)

    def _features(self, image: np.ndarray) -> dict[str, Tensor]:
        """Of one image (1, 3, H, W) uint8: (C, h, w) float64 by layer."""
        wanted = [term.layer for term in self.terms]
        values, found = net_input(image, self.net.spec), {}
        for name, layer in layers_for(self.net, wanted):
            values = run_layer(layer, values)
            if name in wanted:
                found[name] = values[0].double()
        return found


def mean_square(first: Tensor, second: Tensor) -> float:
    """Mean of squared differences of two features of one shape."""
    return float(((first - second) ** 2).mean())


def gram_difference(first: Tensor, second: Tensor) -> float:
    """Sum of squared differences of two features' Gram matrices.

    The Gram matrix of a feature (C, h, w) is F F' / (C h w), where F has C rows of h w values.
    """
    return float(((_gram(first) - _gram(second)) ** 2).sum())


def has_usual_mean(net: VGG) -> bool:
    """Whether a net subtracts ImageNet's usual mean, as torchvision's weights want it."""
    pairs = zip(net.spec.preprocessing.mean, of_255(USUAL_MEAN), strict=True)
    return all(abs(own - usual) <= SAME_MEAN for own, usual in pairs)


def lpips_package(net: VGG, heads: Heads) -> Any:
    """The model of the package lpips with the weights of a net.

    The package scales its input, (x/255 - mean)/std, where our nets subtract the mean and have the
    std in conv1_1; so conv1_1 is multiplied by it. Where a net subtracts another mean than
    ImageNet's usual one, the package's is replaced by it.

    Args:
        net: Net D at its full width.
        heads: The linear heads.

    Returns:
        An lpips.LPIPS in evaluation mode. It takes images (N, 3, H, W) float32 of -1 to 1.
    """
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")  # torchvision's, about the words that lpips uses
        import lpips

        # without weights: 550 MB of random ones would be drawn, and nothing is downloaded
        model = lpips.LPIPS(net="vgg", pretrained=False, pnet_rand=True, verbose=False)
    scaling = lpips.ScalingLayer()
    weights: dict[str, Tensor] = {
        "scaling_layer.shift": scaling.shift,
        "scaling_layer.scale": scaling.scale,
    }
    if not has_usual_mean(net):
        mean = torch.tensor(net.spec.preprocessing.mean, dtype=torch.float64)
        weights["scaling_layer.shift"] = (2 * mean / 255 - 1).float().view(1, 3, 1, 1)
    for name, place in CONVOLUTIONS.items():
        layer = net.convolution(name)
        weights[f"net.{place}.weight"] = layer.weight
        assert layer.bias is not None  # every convolution of a VGG has one
        weights[f"net.{place}.bias"] = layer.bias
    scale = torch.tensor(of_255(USUAL_STD), dtype=torch.float64).view(1, 3, 1, 1)
    first = weights[f"net.{CONVOLUTIONS['conv1_1']}.weight"]
    weights[f"net.{CONVOLUTIONS['conv1_1']}.weight"] = (first.double() * scale).float()
    for index, head in enumerate(heads.weights):
        tensor = torch.from_numpy(head).view(1, -1, 1, 1)
        weights[f"lin{index}.model.1.weight"] = tensor
        weights[f"lins.{index}.model.1.weight"] = tensor
    model.load_state_dict(weights, assign=True)
    return model.eval().requires_grad_(False)


def _gram(feature: Tensor) -> Tensor:
    """(C, h, w) -> (C, C)."""
    flat = feature.flatten(1)
    return flat @ flat.T / feature.numel()
