"""Measures and judges what a quantized file costs in its features, on held-out images."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from export.quantize.cost import ADVICE, HIGH_PCT, MOST_PCT
from export.verify.feature_parity import cosines
from vgg_deploy.errors import CheckFailed


@dataclass(frozen=True)
class FeatureCost:
    """One layer of a file against the float32 net's on the held-out images.

    Attributes:
        layer: Its name.
        images: Number of held-out images.
        error_pct: Root mean square of the differences over all images and positions, in per cent
            of the root mean square of the features.
        sqnr_db: 10 log10 of the features' power over the error's.
        mean_cosine: Mean over the images of the cosine between an image's feature and the float32
            net's, all positions as one vector.
        least_cosine: The smallest of them.
    """

    layer: str
    images: int
    error_pct: float
    sqnr_db: float
    mean_cosine: float
    least_cosine: float

    @property
    def rating(self) -> str:
        """In one word: "broken", "high" or "usual"."""
        if not self.error_pct <= MOST_PCT:
            return "broken"
        return "high" if self.error_pct > HIGH_PCT else "usual"

    def text(self) -> str:
        """In one sentence."""
        return (
            f"on {self.images} held-out images {self.layer} differs from the float32 net's by "
            f"{self.error_pct:.1f} % (root mean square), with a cosine of {self.least_cosine:.4f} "
            "at least"
        )


class FeatureErrors:
    """Adds up the errors of features, one batch after the other, so that none is kept."""

    def __init__(self, layers: tuple[str, ...]):
        self.layers = layers
        self.error = dict.fromkeys(layers, 0.0)  # sums of squares
        self.power = dict.fromkeys(layers, 0.0)
        self.cosines: dict[str, list[np.ndarray]] = {layer: [] for layer in layers}

    def add(self, found: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]) -> None:
        """Take a batch: (N, C, h, w) float32 by layer, of the file and of the float32 net."""
        for layer in self.layers:
            ours, theirs = found[layer], reference[layer]
            self.error[layer] += float(np.sum((ours - theirs) ** 2, dtype=np.float64))
            self.power[layer] += float(np.sum(theirs**2, dtype=np.float64))
            self.cosines[layer].append(cosines(ours, theirs))

    def costs(self) -> list[FeatureCost]:
        """The figures of every layer."""
        return [self._cost(layer) for layer in self.layers]

    def _cost(self, layer: str) -> FeatureCost:
        per_image = np.concatenate(self.cosines[layer])
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = float(np.divide(self.error[layer], self.power[layer]))
            decibels = float(-10 * np.log10(ratio))
        return FeatureCost(
            layer=layer,
            images=len(per_image),
            error_pct=100 * float(np.sqrt(ratio)),
            sqnr_db=decibels,
            mean_cosine=float(per_image.mean()),
            least_cosine=float(per_image.min()),
        )


def judge_feature_costs(
    costs: list[FeatureCost], max_cost: float | None, log: Callable[[str], None], name: str
) -> None:
    """Warn of a high cost, and refuse a cost that is too high.

    Args:
        costs: Of the file, by layer.
        max_cost: Largest error in per cent; None: any that is not broken.
        log: Called with the warning.
        name: Of the file.

    Raises:
        CheckFailed: If a feature is broken or costs more than `max_cost`.
    """
    for cost in costs:
        if cost.rating == "broken":
            raise CheckFailed(
                f"{cost.text()}; it is useless, because zeros would be nearer to the float32 "
                f"net's; {ADVICE}"
            )
        if max_cost is not None and not cost.error_pct <= max_cost:
            raise CheckFailed(f"{cost.text()}; --max-cost allows {max_cost:g} %")
        if cost.rating == "high":
            log(f"Warning: {name} has a high cost: {cost.text()}; {ADVICE}")
