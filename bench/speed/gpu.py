"""What a GPU adds to a latency table: its own clock, its ceilings, and whether it was throttled."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch
    from torch import Tensor

TYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}  # names in PyTorch
MATRIX = 8192  # rows and columns of the product that shows the peak
COPY_BYTES = 2**30
WARM_UP = 3  # calls before the timed ones
REPEATS = 20
NAN = float("nan")


def device_ms(run: "Callable[[Tensor], object]", pixels: "Tensor", calls: int) -> np.ndarray:
    """Time calls on the device by CUDA events; inputs and outputs stay there.

    Args:
        run: What is timed; it queues its work on PyTorch's current stream.
        pixels: Its input, on the device.
        calls: Number of calls.

    Returns:
        (calls,) milliseconds.
    """
    import torch  # here, because tables of stored measurements need no PyTorch

    marks = [(_timing_event(), _timing_event()) for _ in range(calls)]
    torch.cuda.synchronize()
    for start, end in marks:
        start.record()
        run(pixels)
        end.record()
    torch.cuda.synchronize()
    return np.array([start.elapsed_time(end) for start, end in marks])


@cache
def matmul_ceiling(precision: str) -> float:
    """Measure the TFLOP/s of a large matrix product on this GPU.

    Args:
        precision: Of the product: one of TYPES, or another.

    Returns:
        TFLOP/s; NaN where PyTorch has no product of this precision.
    """
    if precision not in TYPES:
        return NAN
    import torch

    kind = getattr(torch, TYPES[precision])
    a, b = (torch.randn(MATRIX, MATRIX, device="cuda", dtype=kind) for _ in range(2))
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        return 2 * MATRIX**3 / 1e9 / _warm_median_ms(lambda _: a @ b, a)
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


@cache
def copy_ceiling() -> float:
    """Measure the GB/s of a copy within the GPU's memory, counting bytes read and written."""
    import torch

    source = torch.empty(COPY_BYTES, device="cuda", dtype=torch.uint8)
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / 1e6 / _warm_median_ms(target.copy_, source)


def roofline_tflops(precision: str, flop: float, bytes_moved: float) -> float:
    """The TFLOP/s that this GPU could reach at best: its matrix peak, or what its memory feeds.

    Args:
        precision: Of the arithmetic.
        flop: Floating-point operations of a call.
        bytes_moved: Bytes that a call reads and writes.

    Source:
        Williams, Waterman and Patterson, "Roofline: an insightful visual performance model for
        multicore architectures" (2009).
    """
    return min(matmul_ceiling(precision), copy_ceiling() * flop / bytes_moved / 1e3)


@dataclass(frozen=True)
class Condition:
    """State of the GPU, from NVML; missing without nvidia-ml-py."""

    sm_mhz: float
    temperature_c: float
    power_w: float
    used_mib: float
    throttled: str  # NVML's reasons, "" for none


def condition() -> Condition:
    """Read the present state of the GPU."""
    import torch

    try:
        import pynvml
    except ImportError:
        return Condition(NAN, NAN, NAN, torch.cuda.memory_reserved() / 2**20, "")
    pynvml.nvmlInit()
    try:
        uuid = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
        gpu = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}".encode())
        reasons = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu)
        harmful = {
            "power cap": pynvml.nvmlClocksThrottleReasonSwPowerCap,
            "hardware slowdown": pynvml.nvmlClocksThrottleReasonHwSlowdown,
            "heat, by software": pynvml.nvmlClocksThrottleReasonSwThermalSlowdown,
            "heat, by hardware": pynvml.nvmlClocksThrottleReasonHwThermalSlowdown,
        }
        return Condition(
            sm_mhz=pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM),
            temperature_c=pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU),
            power_w=pynvml.nvmlDeviceGetPowerUsage(gpu) / 1000,
            used_mib=pynvml.nvmlDeviceGetMemoryInfo(gpu).used / 2**20,
            throttled=", ".join(name for name, bit in harmful.items() if reasons & bit),
        )
    finally:
        pynvml.nvmlShutdown()


def _timing_event() -> "torch.cuda.Event":
    import torch

    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call] # in PyTorch


def _warm_median_ms(run: "Callable[[Tensor], object]", tensor: "Tensor") -> float:
    """Median of REPEATS calls after WARM_UP others, in milliseconds on the device."""
    device_ms(run, tensor, WARM_UP)
    return float(np.median(device_ms(run, tensor, REPEATS)))
