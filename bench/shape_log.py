"""The first run of every new shape, apart from the warm ones: runtimes choose kernels, build or allocate then."""

import time
from dataclasses import dataclass

import numpy as np

from vgg_deploy.runtimes import Runtime, Scores


@dataclass(frozen=True)
class ShapeRow:
    """One model at one input shape while a data set was scored; field names are the columns of shapes.csv."""

    model: str
    runtime: str
    precision: str
    batch: int
    height_px: int
    width_px: int
    first_ms: float
    warm_calls: int
    warm_median_ms: float  # missing without a second call


class ShapeLog:
    """Calls a runtime and remembers how long each took, by shape."""

    def __init__(self, runtime: Runtime):
        self.runtime = runtime
        self.ms: dict[tuple[int, ...], list[float]] = {}

    def __call__(self, images: np.ndarray) -> Scores:
        begun = time.perf_counter()
        scores = self.runtime(images)
        self.ms.setdefault((len(images), *images.shape[2:]), []).append(1000 * (time.perf_counter() - begun))
        return scores

    def merge(self, of_all: tuple[dict[tuple[int, ...], list[float]], ...]) -> None:
        """Take the times of all processes of a job, this one's among them. The slowest first run counts: the others wait for it."""
        for shape in set().union(*of_all):
            lists = [ms[shape] for ms in of_all if shape in ms]
            self.ms[shape] = [max(ms[0] for ms in lists), *(one for ms in lists for one in ms[1:])]

    def rows(self, described: dict) -> list[ShapeRow]:
        return [
            ShapeRow(**described, batch=batch, height_px=height, width_px=width, first_ms=ms[0], warm_calls=len(ms) - 1,
                     warm_median_ms=float(np.median(ms[1:])) if len(ms) > 1 else float("nan"))
            for (batch, height, width), ms in sorted(self.ms.items())
        ]  # fmt: skip
