"""Separates the first call of every new input shape from the warm ones.

At the first call of a shape, runtimes choose kernels, build or allocate.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from vgg_deploy.runtimes import Runtime, Scores

CallTimes = dict[tuple[int, int, int], list[float]]  # milliseconds by (batch, height, width)

NAN = float("nan")
NOISE = 2.0  # standard deviations that the extra time of first calls must exceed

_SHAPES_SEEN: WeakKeyDictionary[Runtime, set[tuple[int, ...]]] = WeakKeyDictionary()


def note_call(runtime: Runtime, images: np.ndarray) -> bool:
    """Note that a runtime is about to be called.

    Args:
        runtime: An opened runtime.
        images: (N, 3, H, W), its input.

    Returns:
        Whether the runtime is called with this shape for the first time in this process, as far as
        its calls were noted: only then is the call's time that of a cold start.
    """
    seen = _SHAPES_SEEN.setdefault(runtime, set())
    first = images.shape not in seen
    seen.add(images.shape)
    return first


@dataclass(frozen=True)
class ShapeRow:
    """One model at one input shape while a data set was scored.

    Field names are the columns of shapes.csv.
    """

    model: str
    runtime: str
    precision: str
    batch: int
    height_px: int
    width_px: int
    first_ms: float  # missing where the runtime had seen this shape before
    warm_calls: int
    warm_median_ms: float  # missing without a warm call
    warm_sd_ms: float  # standard deviation of warm calls; missing for fewer than two


class ShapeLog:
    """Calls a runtime and remembers how long each call took, by input shape.

    Attributes:
        inner: The runtime.
        ms: Milliseconds per call by (batch, height, width): first the cold call, NaN where the
            runtime had seen the shape before, then the warm ones.
    """

    def __init__(self, runtime: Runtime):
        self.inner = runtime
        self.ms: CallTimes = {}

    def __call__(self, images: np.ndarray) -> Scores:
        """Call the runtime with (N, 3, H, W) uint8 RGB images."""
        cold = note_call(self.inner, images)
        start = time.perf_counter()
        scores = self.inner(images)
        ms = 1000 * (time.perf_counter() - start)
        batch, _, height, width = images.shape
        times = self.ms.setdefault((batch, height, width), [] if cold else [NAN])
        times.append(ms)
        return scores

    def merge(self, times_of_processes: Sequence[CallTimes]) -> None:
        """Take the times of all processes of a job.

        The slowest first call counts, since the others wait for it.

        Args:
            times_of_processes: `ms` of each process, this one included.
        """
        shapes = {shape for times in times_of_processes for shape in times}
        for shape in shapes:
            of_shape = [times[shape] for times in times_of_processes if shape in times]
            cold = [first for first, *_ in of_shape if not math.isnan(first)]
            warm = [ms for _, *others in of_shape for ms in others]
            self.ms[shape] = [max(cold, default=NAN), *warm]

    def rows(self, described: Mapping[str, str]) -> list[ShapeRow]:
        """One row per shape, by batch, height and width.

        Args:
            described: Columns model, runtime and precision.
        """
        rows = []
        for (batch, height, width), (first, *warm) in sorted(self.ms.items()):
            row = ShapeRow(
                **described,
                batch=batch,
                height_px=height,
                width_px=width,
                first_ms=first,
                warm_calls=len(warm),
                warm_median_ms=float(np.median(warm)) if warm else NAN,
                warm_sd_ms=float(np.std(warm, ddof=1)) if len(warm) > 1 else NAN,
            )
            rows.append(row)
        return rows


def cold_start_s(rows: list[ShapeRow]) -> float:
    """Seconds that first calls took longer than warm ones of the same shapes, over all shapes.

    A warm call varies too; its relative standard deviation is pooled over the shapes that have
    several. Only what is NOISE standard deviations above zero is a cost of the first calls.

    Args:
        rows: Of one model.

    Returns:
        NaN where the difference is within the noise of warm calls.
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
