"""Times one call: from uint8 images in host memory to scores in host memory.

On a GPU it is also timed without the copies, by the GPU's own clock.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import cast

import numpy as np

from bench.speed import gpu
from bench.speed.energy import counters as energy_counters
from bench.speed.energy import joules
from bench.speed.first_calls import note_call
from bench.speed.steady import LEAST_S, time_until_steady, wall_clock
from vgg_deploy.net.archs import ARCHS, macs, values_moved
from vgg_deploy.net.spec import NetSpec
from vgg_deploy.runtimes import Runtime
from vgg_deploy.runtimes.contract import DeviceRuntime
from vgg_deploy.runtimes.graph_interface import interface_of

WARM_UP = 2  # calls after the first, not counted
# A percentile is given if at least so many calls are expected above it: 50 calls for p90, 500 for
# p99. Fewer show little about it: with 5 the standard error of their number is 45 %.
BEYOND = 5
DEVICE_CALLS = 1000  # most calls timed by the GPU's clock

BYTES = {  # per value; the 4-bit layers of int4 hold most weights, but not most values
    "fp32": 4,
    "fp16": 2,
    "bf16": 2,
    "int8": 1,
    "int8-cpu": 1,
    "fp8": 1,
    "int4": 1,
    "int4-cpu": 1,
}
NAN = float("nan")


@dataclass(frozen=True)
class DeviceTimes:
    """Times by the GPU's own clock, and its state; missing on a CPU."""

    device_median_ms: float = NAN  # images and scores stay on the GPU
    device_p90_ms: float = NAN  # missing for fewer than 50 calls
    device_p99_ms: float = NAN  # missing for fewer than 500 calls
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
    """One model at one input size.

    Field names are the columns of latency.csv. A missing number (NaN, an empty cell of the CSV) was
    not measured: first_ms where the runtime had seen this shape before, a percentile or an interval
    without enough calls for it.
    """

    model: str
    runtime: str
    precision: str
    device: str
    threads: int
    height_px: int
    width_px: int
    batch: int
    # includes what the runtime prepares for a shape; missing if it had seen this shape before, for
    # instance while the accuracy was measured
    first_ms: float
    runs: int  # calls counted, without the first and the warm-up
    seconds: float  # that they took
    median_ms: float
    median_low_ms: float  # interval of the median, 95 % or more; missing for fewer than 6 calls
    median_high_ms: float
    median_interval_pct: float  # its width in per cent of the median
    steady: bool  # whether the calls show a steady state; only then is the interval valid
    unsteady: str  # why not
    drift_pct: float  # median of the second half of the calls against the first half's
    dependence: float  # number of consecutive calls that are worth one independent call
    p90_ms: float  # missing for fewer than 50 calls
    p99_ms: float  # missing for fewer than 500 calls
    spread_pct: float  # interquartile range in per cent of the median
    images_per_s: float
    gmacs: float  # exact multiply-accumulates of the batch, in 1e9
    gflop_per_s: float  # two floating-point operations per multiply-accumulate
    joules_per_image: float = NAN  # missing where the machine counts no energy
    joules_of: str = ""  # what counts it: CPU packages, GPU
    device_times: DeviceTimes = DeviceTimes()

    def record(self) -> dict[str, object]:
        """The row by column of latency.csv, with the columns of DeviceTimes."""
        columns = asdict(self)
        of_device = columns.pop("device_times")
        return {**columns, **of_device}

    @property
    def key(self) -> dict[str, object]:
        """Key of this row, by column; the same columns are in latency_samples.csv."""
        names = ("model", "runtime", "precision", "height_px", "width_px", "batch")
        return {name: getattr(self, name) for name in names}


def measure_latency(
    runtime: Runtime,
    described: Mapping[str, str],
    side: int,
    batch: int,
    least_s: float = LEAST_S,
    clock: Callable[[], float] = wall_clock,
) -> tuple[LatencyRow, np.ndarray, np.ndarray]:
    """Time `batch` square images of random pixels until the median is steady (bench.speed.steady).

    Args:
        runtime: What is timed.
        described: Columns model, runtime and precision.
        side: Of the images, pixels.
        batch: Images per call.
        least_s: Seconds that the measurement takes at least.
        clock: Seconds from any origin.

    Returns:
        The row; (runs,) milliseconds of the counted calls; (calls,) milliseconds by the GPU's
        clock, (0,) on a CPU.
    """
    images = np.random.default_rng(0).integers(0, 256, (batch, 3, side, side), np.uint8)
    cold = note_call(runtime, images)
    first = _call_ms(runtime, images, clock)
    if first < 1000 * least_s:
        for _ in range(WARM_UP):
            runtime(images)
    energy = energy_counters(runtime.device)
    before = energy.read()
    timed = time_until_steady(lambda: runtime(images), least_s, clock)
    used = joules(before, energy.read())
    ms, median = timed.ms, timed.median_ms
    seen = interface_of(runtime).seen(images.shape, runtime.spec.crop)
    work = _work(runtime.spec, seen)
    lower_quartile, upper_quartile = np.percentile(ms, (25, 75))
    device_ms, device_times = np.array([]), DeviceTimes()
    if runtime.device == "cuda":
        on_gpu = cast(DeviceRuntime, runtime)
        device_ms, device_times = _on_device(on_gpu, images, min(len(ms), DEVICE_CALLS))
    row = LatencyRow(
        **described,
        device=runtime.device,
        threads=runtime.threads,
        height_px=side,
        width_px=side,
        batch=batch,
        first_ms=first if cold else NAN,
        runs=len(ms),
        seconds=timed.seconds,
        median_ms=median,
        median_low_ms=timed.low_ms,
        median_high_ms=timed.high_ms,
        median_interval_pct=timed.interval_pct,
        steady=timed.steady,
        unsteady=timed.unsteady,
        drift_pct=timed.drift_pct,
        dependence=timed.dependence,
        p90_ms=percentile(ms, 90),
        p99_ms=percentile(ms, 99),
        spread_pct=float(100 * (upper_quartile - lower_quartile) / median),
        images_per_s=1000 * batch / median,
        gmacs=work / 1e9,
        gflop_per_s=2 * work / 1e6 / median,
        joules_per_image=used / (len(ms) * batch),
        joules_of="" if math.isnan(used) else energy.of,
        device_times=device_times,
    )
    return row, ms, device_ms


def percentile(ms: np.ndarray, percent: int) -> float:
    """A percentile of times.

    Args:
        ms: (calls,).
        percent: Such as 90.

    Returns:
        NaN where fewer than BEYOND calls are expected above it.
    """
    if len(ms) * (100 - percent) < 100 * BEYOND:
        return NAN
    return float(np.percentile(ms, percent))


def _work(spec: NetSpec, seen: tuple[int, int, int, int]) -> int:
    """Multiply-accumulates of a call whose convolutions see (N, 3, H, W)."""
    batch, _, height, width = seen
    arch = ARCHS[spec.arch]
    per_image: int = macs(arch, height, width, len(spec.classes), spec.width, spec.crop)
    return int(batch) * per_image


def _bytes_moved(runtime: Runtime, seen: tuple[int, int, int, int]) -> int:
    """Bytes that a call whose convolutions see (N, 3, H, W) reads and writes at least."""
    spec = runtime.spec
    batch, _, height, width = seen
    arch = ARCHS[spec.arch]
    values: int = values_moved(arch, batch, height, width, len(spec.classes), spec.width, spec.crop)
    return BYTES[runtime.precision] * values


def _on_device(
    runtime: DeviceRuntime, images: np.ndarray, calls: int
) -> tuple[np.ndarray, DeviceTimes]:
    """Time the same calls without copies, right after those with them.

    Args:
        runtime: What is timed.
        images: (N, 3, H, W) uint8, in host memory.
        calls: Number of calls.

    Returns:
        (calls,) milliseconds by the GPU's clock, and what they show.
    """
    import torch

    ms = gpu.device_ms(runtime.on_device, torch.from_numpy(images).cuda(), calls)
    condition, median = gpu.condition(), float(np.median(ms))
    seen = interface_of(runtime).seen(images.shape, runtime.spec.crop)
    flop = 2 * _work(runtime.spec, seen)
    tflop_per_s = flop / 1e9 / median
    limit = gpu.roofline_tflops(runtime.precision, flop, _bytes_moved(runtime, seen))
    times = DeviceTimes(
        device_median_ms=median,
        device_p90_ms=percentile(ms, 90),
        device_p99_ms=percentile(ms, 99),
        device_images_per_s=1000 * len(images) / median,
        device_tflop_per_s=tflop_per_s,
        roofline_pct=100 * tflop_per_s / limit,
        **asdict(condition),
    )
    return ms, times


def _call_ms(runtime: Runtime, images: np.ndarray, clock: Callable[[], float]) -> float:
    start = clock()
    runtime(images)
    return 1000 * (clock() - start)
