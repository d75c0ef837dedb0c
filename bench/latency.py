"""How long one call takes: from uint8 pictures in host memory to scores in host memory."""

import time
from dataclasses import dataclass

import numpy as np

from vgg_deploy.archs import ARCHS, macs
from vgg_deploy.runtimes import Runtime

WARM_UP = 2  # calls after the first, not counted
FEWEST, MOST = 5, 1000  # calls counted
STEADY_PCT = 3.0  # the median's 95 % interval, as a part of it, at which measuring stops
LONGEST_S = 10.0  # or when this much time is spent on one row


@dataclass(frozen=True)
class LatencyRow:
    """One model at one input size; field names are the columns of latency.csv."""

    model: str
    runtime: str
    precision: str
    device: str
    threads: int
    height_px: int
    width_px: int
    batch: int
    first_ms: float  # the first call at this size, with whatever the runtime prepares then
    runs: int
    median_ms: float
    median_interval_pct: float  # width of the median's 95 % interval
    p90_ms: float
    p99_ms: float
    spread_pct: float  # interquartile range as a part of the median
    images_per_s: float
    gmacs: float  # exact multiply-accumulates of the batch, in 1e9
    gflop_per_s: float  # two floating-point operations a multiply-accumulate


def measure_latency(runtime: Runtime, described: dict, side: int, batch: int) -> tuple[LatencyRow, np.ndarray]:
    """Time `batch` square pictures of random pixels until the median is steady.

    Returns: the row, and every counted time in milliseconds.
    """
    images = np.random.default_rng(0).integers(0, 256, (batch, 3, side, side), np.uint8)
    first = _call_ms(runtime, images)
    begun, times = time.perf_counter(), []
    for _ in range(WARM_UP):
        if first < 1000 * LONGEST_S / FEWEST:
            _call_ms(runtime, images)
    while len(times) < FEWEST or (
        len(times) < MOST and time.perf_counter() - begun < LONGEST_S and median_interval_pct(np.array(times)) > STEADY_PCT
    ):
        times.append(_call_ms(runtime, images))
    ms = np.array(times)
    spec, median = runtime.spec, float(np.median(ms))
    work = batch * macs(ARCHS[spec.arch], side, side, len(spec.classes), spec.width, spec.crop)
    low, high = np.percentile(ms, (25, 75))
    return LatencyRow(
        **described, device=runtime.device, threads=runtime.threads, height_px=side, width_px=side, batch=batch,
        first_ms=first, runs=len(ms), median_ms=median, median_interval_pct=median_interval_pct(ms),
        p90_ms=float(np.percentile(ms, 90)), p99_ms=float(np.percentile(ms, 99)), spread_pct=float(100 * (high - low) / median),
        images_per_s=1000 * batch / median, gmacs=work / 1e9, gflop_per_s=2 * work / 1e6 / median,
    ), ms  # fmt: skip


def median_interval_pct(ms: np.ndarray) -> float:
    """Width of the median's 95 % interval by order statistics, in per cent of the median; 100 for too few values."""
    n = len(ms)
    low = int(np.floor((n - 1.96 * np.sqrt(n)) / 2))  # rank from below; its mirror bounds from above
    if low < 1:
        return 100.0
    ordered = np.sort(ms)
    return float(100 * (ordered[n - low] - ordered[low - 1]) / np.median(ms))


def _call_ms(runtime: Runtime, images: np.ndarray) -> float:
    begun = time.perf_counter()
    runtime(images)
    return 1000 * (time.perf_counter() - begun)
