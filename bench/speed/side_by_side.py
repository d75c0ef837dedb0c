"""Runtimes side by side: calls in turn, A B A B, so that what disturbs one disturbs all, and the ratio can be trusted."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.models.model import Model
from bench.statistics.median import median_interval
from vgg_deploy.progress import progress

ROUNDS = 30
WARM_UP = 2
PAUSE_S = 0.05  # before each call: the threads of the runtime before still spin for a while, on the same cores


@dataclass(frozen=True)
class SideBySideRow:
    """One model against the first at one input size; field names are the columns of side_by_side.csv."""

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
    """Every model once a round, at every Q x Q and batch size of the first.

    Returns: the rows, and every counted time (columns: model, height_px, batch, round, ms).
    """
    rows, samples, sides = [], [], sides_of(models[0])
    with progress("side by side", len(sides) * len(batches) * (ROUNDS + WARM_UP)) as bar:
        for side in sides:
            for batch in batches:
                images = np.random.default_rng(0).integers(0, 256, (batch, 3, side, side), np.uint8)
                ms = np.empty((WARM_UP + ROUNDS, len(models)))
                for turn in ms:
                    for m, model in enumerate(models):
                        time.sleep(PAUSE_S)
                        begun = time.perf_counter()
                        model.runtime(images)
                        turn[m] = 1000 * (time.perf_counter() - begun)
                    bar.advance(1, f"{side} x {side} batch {batch}")
                ms = ms[WARM_UP:]
                rows += [
                    _row(models, m, side, ms) | {"batch": batch} for m in range(1, len(models))
                ]
                for m, model in enumerate(models):
                    samples.append(
                        pd.DataFrame(
                            {
                                "model": model.name,
                                "height_px": side,
                                "batch": batch,
                                "round": range(ROUNDS),
                                "ms": ms[:, m],
                            }
                        )
                    )
    return [SideBySideRow(**row) for row in rows], pd.concat(samples, ignore_index=True)


def _row(models: list[Model], m: int, side: int, ms: np.ndarray) -> dict:
    ratios = ms[:, 0] / ms[:, m]
    low, high = median_interval(ratios)
    return {
        **models[m].described, "reference": models[0].name, "device": models[m].runtime.device, "threads": models[m].runtime.threads,
        "height_px": side, "width_px": side, "rounds": len(ratios), "median_ms": float(np.median(ms[:, m])),
        "reference_median_ms": float(np.median(ms[:, 0])),
        "speedup": float(np.median(ratios)), "speedup_low": low, "speedup_high": high,
        "slowest_round": float(ratios.min()), "fastest_round": float(ratios.max()),
    }  # fmt: skip
