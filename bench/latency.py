"""How long one call takes: from uint8 pictures in host memory to scores in host memory, and on a GPU without the copies."""

import time
from dataclasses import asdict, dataclass

import numpy as np
import torch

from bench import gpu
from vgg_deploy.archs import ARCHS, macs, values_moved
from vgg_deploy.runtimes import Runtime

WARM_UP = 2  # calls after the first, not counted
FEWEST, MOST = 5, 1000  # calls counted
STEADY_PCT = 3.0  # the median's 95 % interval, as a part of it, at which measuring stops
LONGEST_S = 10.0  # or when this much time is spent on one row


BYTES = {"fp32": 4, "fp16": 2, "bf16": 2, "int8": 1, "int8-cpu": 1, "fp8": 1}  # a value
NAN = float("nan")


@dataclass(frozen=True)
class DeviceTimes:
    """What the GPU's own clock says; missing on a CPU."""

    device_median_ms: float = NAN  # pictures and scores staying on the GPU
    device_p90_ms: float = NAN
    device_p99_ms: float = NAN
    device_images_per_s: float = NAN
    device_tflop_per_s: float = NAN
    roofline_pct: float = NAN  # of what this GPU's measured matrix peak and memory allow
    sm_mhz: float = NAN
    temperature_c: float = NAN
    power_w: float = NAN
    used_mib: float = NAN
    throttled: str = ""


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
    device_times: DeviceTimes = DeviceTimes()

    def record(self) -> dict:
        """Columns of latency.csv, with those of DeviceTimes."""
        columns = asdict(self)
        return {**columns, **columns.pop("device_times")}


def measure_latency(runtime: Runtime, described: dict, side: int, batch: int) -> tuple[LatencyRow, np.ndarray, np.ndarray]:
    """Time `batch` square pictures of random pixels until the median is steady.

    Returns: the row, every counted time in milliseconds, and as many by the GPU's clock, none on a CPU.
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
    device_ms, device_times = _on_device(runtime, images, len(ms), work) if runtime.device == "cuda" else (np.array([]), DeviceTimes())
    return LatencyRow(
        **described, device=runtime.device, threads=runtime.threads, height_px=side, width_px=side, batch=batch,
        first_ms=first, runs=len(ms), median_ms=median, median_interval_pct=median_interval_pct(ms),
        p90_ms=float(np.percentile(ms, 90)), p99_ms=float(np.percentile(ms, 99)), spread_pct=float(100 * (high - low) / median),
        images_per_s=1000 * batch / median, gmacs=work / 1e9, gflop_per_s=2 * work / 1e6 / median, device_times=device_times,
    ), ms, device_ms  # fmt: skip


def _on_device(runtime: Runtime, images: np.ndarray, calls: int, work: int) -> tuple[np.ndarray, DeviceTimes]:
    """The same calls without copies, right after those with them. Args: work, multiply-accumulates of a call."""
    ms = gpu.device_ms(runtime.on_device, torch.from_numpy(images).cuda(), calls)
    condition, median, spec = gpu.condition(), float(np.median(ms)), runtime.spec
    moved = BYTES[runtime.precision] * values_moved(ARCHS[spec.arch], *images.shape[::2], images.shape[3], len(spec.classes), spec.width, spec.crop)
    reached = 2 * work / 1e9 / median
    return ms, DeviceTimes(
        median, float(np.percentile(ms, 90)), float(np.percentile(ms, 99)), 1000 * len(images) / median, reached,
        100 * reached / gpu.roofline_tflops(runtime.precision, 2 * work, moved), **asdict(condition),
    )  # fmt: skip


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
