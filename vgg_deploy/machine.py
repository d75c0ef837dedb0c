"""The machine that a run works on: the part of it that the run may use, and what its results depend on."""

import os
import platform
import re
from functools import cache
from pathlib import Path
from typing import Any

from vgg_deploy.errors import InputError

# Extensions that decide which kernels a CPU runs, as Linux calls them: how fast it multiplies, and for 8-bit and
# half-precision arithmetic also how it rounds
INSTRUCTIONS = (
    "avx2", "fma", "avx512f", "avx512_bf16", "avx512_fp16", "avx512_vnni", "avx_vnni", "amx_bf16", "amx_int8",
    "asimd", "asimdhp", "asimddp", "i8mm", "sve",
)  # fmt: skip


def allowed_cores() -> list[int] | None:
    """Numbers of the cores that this process may run on; None where the system does not say."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return sorted(affinity(0)) if affinity else None


def available_cores() -> int:
    """Number of cores that this process may use: its CPU affinity, else all of the machine."""
    allowed = allowed_cores()
    return len(allowed) if allowed else os.cpu_count() or 1


def pick_device(wanted: str | None) -> str:
    """The named device, else cuda where PyTorch sees one.

    Raises: InputError if cuda was asked for and is not there.
    """
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        raise InputError(
            "PyTorch sees no CUDA GPU",
            "run on the CPU, or install a driver and a CUDA build of torch",
            "device",
        )
    return wanted or ("cuda" if torch.cuda.is_available() else "cpu")


def host_name() -> str:
    """This machine's name on the network."""
    return platform.node()


def cpu_model() -> str:
    """The CPU's name, e.g. "AMD EPYC 9V84 96-Core Processor"; empty if the system does not say."""
    return _of_first_core("model name") or platform.processor()


def cpu_instructions() -> list[str]:
    """Those of INSTRUCTIONS that this CPU has."""
    flags = (_of_first_core("flags") or _of_first_core("Features")).split()
    return [name for name in INSTRUCTIONS if name in flags]


def gpu_stack() -> dict[str, Any]:
    """What the results of the current GPU depend on: its name, CUDA, cuDNN and the driver. PyTorch must see a GPU."""
    import torch

    return {
        "gpu": torch.cuda.get_device_name(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "driver": driver_version(),
    }


def driver_version() -> str | None:
    """Version of NVIDIA's kernel driver, e.g. "580.65.06"; None without one."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"\b\d+\.\d+(\.\d+)?\b", text)
    return found.group() if found else None


@cache
def _of_first_core(what: str) -> str:
    """An entry of the first core's description in /proc/cpuinfo, empty if it is not there."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(what)), "")
