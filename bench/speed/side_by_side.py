"""Compares runtimes side by side: calls in turn, A B A B, so that the ratio can be trusted.

What disturbs one model disturbs all of them.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.models.model import Model
from bench.statistics.median import median_interval
from vgg_deploy.name_frames import named_frame
from vgg_deploy.progress import Bar, progress

ROUNDS = 30
MOST_ROUNDS = 4 * ROUNDS  # where fewer have no interval
WARM_UP = 2  # rounds before them, not counted
# Seconds before each call: the threads of the previous runtime still spin for a while on the cores
PAUSE_S = 0.05


@dataclass(frozen=True)
class SideBySideRow:
    """One model against the first at one input size.

    Field names are the columns of side_by_side.csv.
    """

    model: str
    runtime: str
    precision: str
    reference: str  # the first model
    device: str
    threads: int
    height_px: int
    width_px: int
    batch: int
    rounds: int
    median_ms: float
    reference_median_ms: float
    speedup: float  # median of the rounds' ratios, reference over model
    speedup_low: float  # 95 % interval of this median, wider where rounds depend on each other
    speedup_high: float
    slowest_round: float
    fastest_round: float


def measure_side_by_side(
    models: list[Model], sides_of: Callable[[Model], tuple[int, ...]], batches: tuple[int, ...]
) -> tuple[list[SideBySideRow], pd.DataFrame]:
    """Call every model once per round, at every Q x Q and batch size of the first.

    Args:
        models: Opened models; the first is the reference.
        sides_of: Gives the values of Q of a model, in pixels.
        batches: Images per call.

    Returns:
        The rows, and every counted time (columns: model, runtime, precision, height_px, width_px,
        batch, round, ms).
    """
    rows, samples, sides = [], [], sides_of(models[0])
    with progress("side by side", len(sides) * len(batches) * (ROUNDS + WARM_UP)) as bar:
        for side in sides:
            for batch in batches:
                ms = time_rounds(models, side, batch, bar)
                for index, model in enumerate(models):
                    size = {"height_px": side, "width_px": side, "batch": batch}
                    times = {"round": range(len(ms)), "ms": ms[:, index]}
                    samples.append(named_frame({**model.described, **size, **times}))
                for index in range(1, len(models)):
                    row = _row(models[0], models[index], (side, batch), ms[:, [0, index]])
                    rows.append(row)
    return rows, pd.concat(samples, ignore_index=True)


def time_rounds(models: Sequence[Model], side: int, batch: int, bar: Bar) -> np.ndarray:
    """Call every model once per round, ROUNDS times.

    Where the rounds depend on each other so much that a ratio to the first model has no interval,
    as on a machine that others start to use, as many rounds follow again, up to MOST_ROUNDS. This
    looks at the order of the rounds alone, never at which model is faster.

    Args:
        models: Opened models.
        side: Of the images, pixels.
        batch: Images per call.
        bar: Advances by one per round.

    Returns:
        (rounds, models) milliseconds.
    """
    images = np.random.default_rng(0).integers(0, 256, (batch, 3, side, side), np.uint8)

    def rounds(count: int) -> np.ndarray:
        ms = np.empty((count, len(models)))
        for of_round in ms:
            for index, model in enumerate(models):
                time.sleep(PAUSE_S)
                start = time.perf_counter()
                model.runtime(images)
                of_round[index] = 1000 * (time.perf_counter() - start)
            bar.advance(1, f"{side} x {side} batch {batch}")
        return ms

    rounds(WARM_UP)
    ms = rounds(ROUNDS)
    while len(ms) < MOST_ROUNDS and not _all_have_intervals(ms):
        bar.extend(ROUNDS)
        ms = np.concatenate([ms, rounds(ROUNDS)])
    return ms


def _all_have_intervals(ms: np.ndarray) -> bool:
    """Whether the ratios of every model to the first have an interval.

    Args:
        ms: (rounds, models) milliseconds.
    """
    reference, *others = ms.T
    return all(np.isfinite(median_interval(reference / other)).all() for other in others)


def _row(
    reference: Model,
    model: Model,
    size: tuple[int, int],
    ms: np.ndarray,
) -> SideBySideRow:
    """Compare a model with the reference.

    Args:
        reference: The first model.
        model: Another one.
        size: Side of the images in pixels, and images per call.
        ms: (rounds, 2) milliseconds of the reference and of the model.
    """
    side, batch = size
    reference_ms, model_ms = ms.T
    ratios = reference_ms / model_ms
    low, high = median_interval(ratios)
    return SideBySideRow(
        **model.described,
        reference=reference.name,
        device=model.runtime.device,
        threads=model.runtime.threads,
        height_px=side,
        width_px=side,
        batch=batch,
        rounds=len(ratios),
        median_ms=float(np.median(model_ms)),
        reference_median_ms=float(np.median(reference_ms)),
        speedup=float(np.median(ratios)),
        speedup_low=low,
        speedup_high=high,
        slowest_round=float(ratios.min()),
        fastest_round=float(ratios.max()),
    )
