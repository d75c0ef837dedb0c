"""What a GPU adds to a latency table: its own time, its ceilings, and whether it was throttled meanwhile."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
MATRIX = 8192  # rows and columns of the product that shows the peak
COPY_BYTES = 2**30
REPEATS = 20


def device_ms(run: Callable[[Tensor], object], pixels: Tensor, calls: int) -> np.ndarray:
    """(calls,) milliseconds on the device by CUDA events, inputs and outputs staying there."""
    marks = [
        (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
        for _ in range(calls)
    ]
    torch.cuda.synchronize()
    for begin, end in marks:
        begin.record()
        run(pixels)
        end.record()
    torch.cuda.synchronize()
    return np.array([begin.elapsed_time(end) for begin, end in marks])


@cache
def matmul_ceiling(precision: str) -> float:
    """TFLOP/s of this GPU's largest matrix product in the type of a precision; NaN where PyTorch has no such product."""
    if precision not in TYPES:
        return float("nan")
    a, b = (torch.randn(MATRIX, MATRIX, device="cuda", dtype=TYPES[precision]) for _ in range(2))
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        device_ms(lambda _: a @ b, a, 3)
        return 2 * MATRIX**3 / 1e9 / float(np.median(device_ms(lambda _: a @ b, a, REPEATS)))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


@cache
def copy_ceiling() -> float:
    """GB/s of a copy within the GPU's memory, bytes read and written."""
    source = torch.empty(COPY_BYTES, device="cuda", dtype=torch.uint8)
    target = torch.empty_like(source)
    device_ms(lambda _: target.copy_(source), source, 3)
    return (
        2
        * COPY_BYTES
        / 1e6
        / float(np.median(device_ms(lambda _: target.copy_(source), source, REPEATS)))
    )


def roofline_tflops(precision: str, flop: float, bytes_moved: float) -> float:
    """What this GPU could reach at best: its matrix peak, or what its memory feeds."""
    return min(matmul_ceiling(precision), copy_ceiling() * flop / bytes_moved / 1e3)


@dataclass(frozen=True)
class Condition:
    """Of the GPU, from NVML; missing without nvidia-ml-py."""

    sm_mhz: float
    temperature_c: float
    power_w: float
    used_mib: float
    throttled: str  # NVML's reasons, "" for none


def condition() -> Condition:
    """Right now."""
    try:
        import pynvml
    except ImportError:
        return Condition(*[float("nan")] * 3, torch.cuda.memory_reserved() / 2**20, "")
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
            pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM),
            pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU),
            pynvml.nvmlDeviceGetPowerUsage(gpu) / 1000,
            pynvml.nvmlDeviceGetMemoryInfo(gpu).used / 2**20,
            ", ".join(name for name, bit in harmful.items() if reasons & bit),
        )
    finally:
        pynvml.nvmlShutdown()
