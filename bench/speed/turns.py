"""How much slower a model is than another one, called in turn with it: A B A B."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.models.model import Model
from bench.speed.side_by_side import ROUNDS, WARM_UP, time_rounds
from bench.statistics.mean_test import Estimate
from bench.statistics.median import median_interval
from vgg_deploy.progress import progress

Size = tuple[int, int]  # side of square images in pixels, images per call


def size_text(side: int, batch: int) -> str:
    """A size of calls for people, as in the latency table."""
    return f"{side} x {side}, batch {batch}"


@dataclass(frozen=True, eq=False)
class Turns:
    """Times of a model beside another one's.

    Attributes:
        model: Name of the model.
        against: What it is compared with.
        size: Of the images.
        ms: (rounds, 2) milliseconds of the other one, and of the model.
    """

    model: str
    against: str
    size: Size
    ms: np.ndarray

    @property
    def slowdowns(self) -> np.ndarray:
        """(rounds,) by how much longer the model took than the other one, per cent."""
        other, own = self.ms.T
        slower: np.ndarray = 100 * (own / other - 1)
        return slower

    @property
    def slowdown(self) -> Estimate:
        """Median of the rounds with its 95 % interval, per cent."""
        return Estimate(float(np.median(self.slowdowns)), *median_interval(self.slowdowns))

    @property
    def medians(self) -> tuple[float, float]:
        """Median milliseconds of the other one, and of the model."""
        other, own = np.median(self.ms, axis=0)
        return float(other), float(own)


def call_in_turn(other: Model, model: Model, against: str, sizes: Sequence[Size]) -> list[Turns]:
    """Call two models in turn at each size.

    Args:
        other: What the model is compared with.
        model: The model.
        against: The other one's name in messages.
        sizes: Sides in pixels, and images per call.
    """
    found = []
    with progress("in turn", len(sizes) * (ROUNDS + WARM_UP)) as bar:
        for side, batch in sizes:
            ms = time_rounds([other, model], side, batch, bar)
            found.append(Turns(model.name, against, (side, batch), ms))
    return found


def turns_of_samples(models: Sequence[Model], samples: pd.DataFrame) -> list[Turns]:
    """The rounds of `measure_side_by_side`, each model beside the first.

    Args:
        models: As they were called.
        samples: Of `measure_side_by_side`.
    """
    first, *others = [tuple(model.described.values()) for model in models]
    found = []
    for (side, batch), of_size in samples.groupby(["height_px", "batch"], sort=False):
        ms = {
            described: rows["ms"].to_numpy(float)
            for described, rows in of_size.groupby(["model", "runtime", "precision"], sort=False)
        }
        for other in others:
            both = np.stack([ms[first], ms[other]], axis=1)
            found.append(Turns(other[0], first[0], (int(side), int(batch)), both))
    return found
