"""Which distance of two images a file gives, as a record that checks itself."""

import math
from dataclasses import dataclass

from vgg_deploy.errors import InputError
from vgg_deploy.near_misses import did_you_mean

DISTANCE_NAMES = ("lpips", "perceptual", "gram")
LPIPS_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3")
LPIPS_CHANNELS = (64, 128, 256, 512, 512)  # of net D at its full width
LPIPS_ARCH = "D"
MOST_WEIGHT = 1e12


@dataclass(frozen=True)
class DistanceChoice:
    """A distance.

    Attributes:
        kind: One of DISTANCE_NAMES.
        terms: Layers and their weights; none for lpips, whose layers are LPIPS_LAYERS.

    Raises:
        InputError: If the kind is unknown, a weight is not positive, or a layer is named twice.

    Example:
        >>> DistanceChoice("perceptual", (("relu2_2", 1.0), ("relu3_3", 0.5))).kind
        'perceptual'
    """

    kind: str
    terms: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in DISTANCE_NAMES:
            raise InputError(
                f"distance {self.kind!r} is unknown; choose from {', '.join(DISTANCE_NAMES)}"
            )
        if (self.kind == "lpips") != (not self.terms):
            wanted = "has layers of its own; name none"
            raise InputError(
                f"{self.kind} {wanted if self.terms else 'names no layer; name at least one'}"
            )
        names = [layer for layer, _ in self.terms]
        for layer, weight in self.terms:
            if not 0 < weight <= MOST_WEIGHT or math.isnan(weight):
                raise InputError(
                    f"{self.kind}: the weight {weight} of {layer} is not a number above 0 and up "
                    f"to {MOST_WEIGHT:g}"
                )
            if names.count(layer) > 1:
                raise InputError(f"{self.kind}: names the layer {layer} twice; name it once")

    def terms_of(self, known: tuple[str, ...], arch: str) -> tuple[tuple[str, float], ...]:
        """Layers in running order, with their weights.

        Args:
            known: Layers of the net ahead of fc6, in running order.
            arch: Of the net.

        Raises:
            InputError: If the net lacks one of the layers.
        """
        if self.kind == "lpips":
            return tuple((layer, 1.0) for layer in LPIPS_LAYERS)
        weights = dict(self.terms)
        for layer in weights:
            if layer not in known:
                raise InputError(
                    f"{self.kind}: net {arch} has no layer {layer!r} ahead of fc6; choose from "
                    f"{', '.join(known)}{did_you_mean(layer, known)}"
                )
        return tuple((layer, weights[layer]) for layer in known if layer in weights)
