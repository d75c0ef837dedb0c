"""The first run of every new shape, apart from the warm ones: runtimes choose kernels, build or allocate then."""

import math
import time
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from vgg_deploy.runtimes import Runtime, Scores

NAN = float("nan")
NOISE = 2.0  # standard deviations that the first runs' extra time must exceed

_RUN: WeakKeyDictionary[Runtime, set[tuple[int, ...]]] = WeakKeyDictionary()


def note_call(runtime: Runtime, images: np.ndarray) -> bool:
    """Note that a runtime is about to run (N, 3, H, W) images.

    Returns:
        Whether this opened runtime runs this shape for the first time in this process, as far as
        its calls have been noted here: only then is the call's time that of a cold start.
    """
    seen = _RUN.setdefault(runtime, set())
    first = images.shape not in seen
    seen.add(images.shape)
    return first


@dataclass(frozen=True)
class ShapeRow:
    """One model at one input shape while a data set was scored; field names are the columns of shapes.csv."""

    model: str
    runtime: str
    precision: str
    batch: int
    height_px: int
    width_px: int
    first_ms: float  # missing where the runtime had run this shape before
    warm_calls: int
    warm_median_ms: float  # missing without a warm call
    warm_sd_ms: float  # standard deviation of warm calls; missing for fewer than two


class ShapeLog:
    """Calls a runtime and remembers how long each call took, by shape."""

    def __init__(self, runtime: Runtime):
        self.inner = runtime
        # a shape's first call, NaN where the runtime had run the shape before, then the warm ones
        self.ms: dict[tuple[int, ...], list[float]] = {}

    def __call__(self, images: np.ndarray) -> Scores:
        cold = note_call(self.inner, images)
        begun = time.perf_counter()
        scores = self.inner(images)
        ms = 1000 * (time.perf_counter() - begun)
        times = self.ms.setdefault((len(images), *images.shape[2:]), [] if cold else [NAN])
        times.append(ms)
        return scores

    def merge(self, of_all: list[dict[tuple[int, ...], list[float]]]) -> None:
        """Take the times of all processes of a job, this one's among them. The slowest first run counts: the others wait for it."""
        for shape in set().union(*of_all):
            lists = [ms[shape] for ms in of_all if shape in ms]
            cold = [ms[0] for ms in lists if not math.isnan(ms[0])]
            self.ms[shape] = [max(cold, default=NAN), *(one for ms in lists for one in ms[1:])]

    def rows(self, described: dict) -> list[ShapeRow]:
        """One row per shape. Args: described, columns model, runtime and precision."""
        return [
            ShapeRow(**described, batch=batch, height_px=height, width_px=width, first_ms=ms[0], warm_calls=len(ms) - 1,
                     warm_median_ms=float(np.median(ms[1:])) if len(ms) > 1 else NAN,
                     warm_sd_ms=float(np.std(ms[1:], ddof=1)) if len(ms) > 2 else NAN)
            for (batch, height, width), ms in sorted(self.ms.items())
        ]  # fmt: skip


def cold_start_s(rows: list[ShapeRow]) -> float:
    """Seconds that first runs took longer than warm ones of the same shapes, summed over shapes.

    A warm call varies too; its relative standard deviation is pooled over the shapes that have
    several. Only what is NOISE standard deviations above zero is a cost of the first runs.

    Args:
        rows: of one model.

    Returns:
        NaN where nothing can be told from the noise of warm calls.
    """
    spread = [row.warm_sd_ms / row.warm_median_ms for row in rows if row.warm_calls > 1]
    compared = [row for row in rows if row.warm_calls and not math.isnan(row.first_ms)]
    if not spread or not compared:
        return NAN
    relative = math.sqrt(float(np.mean(np.square(spread))))
    extra = sum(row.first_ms - row.warm_median_ms for row in compared)
    variances = [(1 + 1 / row.warm_calls) * row.warm_median_ms**2 for row in compared]
    if extra <= NOISE * relative * math.sqrt(sum(variances)):
        return NAN
    return extra / 1000
