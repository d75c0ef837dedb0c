"""Measures what a quantized file costs on the held-out images: in its scores and its features."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from export.preparation import HeldOut
from export.quantize.convolve import run_layer_fast
from export.quantize.cost import Cost, measure_cost
from export.verify.feature_cost import FeatureCost, FeatureErrors
from export.verify.parity import reference_outputs, scores_in
from vgg_deploy.net.model import VGG
from vgg_deploy.net.outputs import SCORES
from vgg_deploy.progress import progress
from vgg_deploy.runtimes.contract import Outputs, Scores


class GivesOutputs(Protocol):
    """What a file, or its float32 twin, gives."""

    outputs: tuple[str, ...]

    def run(self, images: np.ndarray, outputs: Sequence[str]) -> Outputs:
        """Outputs by name of images (N, 3, H, W) uint8 RGB."""


@dataclass(frozen=True)
class Costs:
    """Of one file.

    Attributes:
        scores: Of the scores; None if it gives none, or if it is not quantized.
        features: By layer; boxes are among them.
    """

    scores: Cost | None = None
    features: list[FeatureCost] = field(default_factory=list)


def measure_costs(
    runtime: GivesOutputs, held_out: HeldOut, open_net: Callable[[], VGG], name: str
) -> Costs:
    """Run the held-out images through a file and compare it with the float32 net.

    Args:
        runtime: With the file or its twin.
        held_out: The images.
        open_net: Gives the float32 net; called if the file gives features or boxes.
        name: Of the file, for the progress.
    """
    layers = tuple(name for name in runtime.outputs if name not in SCORES)
    net = open_net() if layers else None
    errors = FeatureErrors(layers)
    scores: list[Scores] = []
    with progress(name, sum(map(len, held_out.batches))) as bar:
        for batch in held_out.batches:
            found = runtime.run(batch, runtime.outputs)
            if held_out.reference:
                scores.append(scores_in(found))
            if net is not None:
                (reference,) = reference_outputs(net, layers, [batch], run=run_layer_fast)
                errors.add(found, reference)
            bar.advance(len(batch))
    cost = measure_cost(scores, held_out.reference) if held_out.reference else None
    return Costs(cost, errors.costs())
