"""Times every model at every input size and batch size."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from bench.models.model import Model
from bench.speed.latency import LatencyRow, measure_latency
from bench.speed.steady import LEAST_S
from vgg_deploy.name_frames import named_frame
from vgg_deploy.progress import progress


def measure_latencies(
    models: list[Model],
    sides_of: Callable[[Model], tuple[int, ...]],
    batches: tuple[int, ...],
    warn: Callable[[str], None],
    least_s: float = LEAST_S,
) -> tuple[list[LatencyRow], pd.DataFrame]:
    """Time every model at every Q x Q and batch size.

    Args:
        models: Opened models.
        sides_of: Gives the values of Q of a model, in pixels.
        batches: Images per call.
        warn: Takes one line per row whose times are not steady or whose GPU was throttled.
        least_s: Seconds that a row takes at least.

    Returns:
        The rows, and every counted time (columns: those of LatencyRow.key, run, clock, ms); clock
        is "end to end" or "device".
    """
    rows, samples = [], []
    calls = [
        (model, side, batch) for model in models for side in sides_of(model) for batch in batches
    ]
    with progress("latency", len(calls)) as bar:
        for model, side, batch in calls:
            row, end_to_end, on_device = measure_latency(
                model.runtime, model.described, side, batch, least_s
            )
            rows.append(row)
            for clock, ms in (("end to end", end_to_end), ("device", on_device)):
                runs = {"run": np.arange(len(ms)), "clock": clock, "ms": ms}
                samples.append(named_frame({**row.key, **runs}))
            bar.advance(1, f"{model.name} {side} x {side} batch {batch}")
            _warn_about(row, f"{model.name} at {side} x {side}, batch {batch}", warn)
    return rows, pd.concat(samples, ignore_index=True)


def _warn_about(row: LatencyRow, where: str, warn: Callable[[str], None]) -> None:
    if row.device_times.throttled:
        warn(f"{where}: the GPU was throttled ({row.device_times.throttled})")
    if not row.steady:
        warn(f"{where}: {row.unsteady}")
