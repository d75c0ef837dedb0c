"""Describes the machine: which part of it a run may use, and what results depend on."""

import ctypes
import os
import platform
import re
import runpy
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from vgg_deploy.errors import InputError

# Extensions that decide which kernels a CPU runs, as Linux names them. They decide how fast it
# multiplies and, in 8-bit and half-precision arithmetic, also how it rounds.
INSTRUCTIONS = (
    "avx2", "fma", "avx512f", "avx512_bf16", "avx512_fp16", "avx512_vnni", "avx_vnni",
    "amx_bf16", "amx_int8", "asimd", "asimdhp", "asimddp", "i8mm", "sve",
)  # fmt: skip


def allowed_cores() -> list[int] | None:
    """Numbers of the cores that this process may run on, where the system reports them (Linux)."""
    affinity = getattr(os, "sched_getaffinity", None)
    return sorted(affinity(0)) if affinity else None


def available_cores() -> int:
    """Number of cores that this process may use: its CPU affinity, or all of the machine."""
    allowed = allowed_cores()
    return len(allowed) if allowed else os.cpu_count() or 1


def total_memory_bytes() -> int | None:
    """Size of the machine's memory; None where the system does not report it."""
    if sys.platform == "win32":
        return _memory_of_windows("total_physical")
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def available_memory_bytes() -> int | None:
    """Memory that programs can still take, also by the limits of this process's control groups.

    Returns:
        Bytes; None where the system does not report it.
    """
    if sys.platform == "win32":
        return _memory_of_windows("available_physical")
    try:
        text = Path("/proc/meminfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    found = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    if found is None:
        return None
    return min([int(found[1]) * 1024, *map(_left_in_group, _memory_groups())])


def _memory_groups() -> list[Path]:
    """Folders of the control groups that limit this process's memory, of either version."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    folders = []
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers in ("", "memory"):
            root = Path("/sys/fs/cgroup") / controllers
            group = root / name.lstrip("/")
            # a container sees its own group at the root, under whatever name
            folders += [root, *(each for each in (group, *group.parents) if root in each.parents)]
    return folders


def _left_in_group(folder: Path) -> int:
    """What a control group may still take, bytes; without a limit more than any machine has.

    The files that the system only keeps because there is room do not count.
    """
    names = ("memory.max", "memory.current", "inactive_file")
    if not (folder / names[0]).exists():
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    try:
        limit, used = ((folder / name).read_text().strip() for name in names[:2])
        stated = re.search(rf"^{names[2]} (\d+)", (folder / "memory.stat").read_text(), re.M)
    except OSError:
        return sys.maxsize
    if not limit.isdecimal():  # "max"
        return sys.maxsize
    return max(0, int(limit) - int(used) + (int(stated[1]) if stated else 0))


def pick_device(wanted: str | None) -> str:
    """Choose the device to run on.

    Args:
        wanted: "cpu", "cuda" or None.

    Returns:
        The device that was asked for; for None, "cuda" where PyTorch sees a GPU, else "cpu".

    Raises:
        InputError: If "cuda" was asked for and PyTorch sees no GPU.
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
    """The CPU's name, such as "AMD EPYC 9V84 96-Core Processor"; empty if it is not known."""
    return _of_first_core("model name") or platform.processor()


def cpu_instructions() -> list[str]:
    """Those of INSTRUCTIONS that this CPU has."""
    flags = (_of_first_core("flags") or _of_first_core("Features")).split()
    return [name for name in INSTRUCTIONS if name in flags]


def gpu_stack() -> dict[str, str | int | None]:
    """What results of the current GPU depend on, which PyTorch must see.

    Returns:
        Name of the GPU, and versions of CUDA, cuDNN and the driver.
    """
    import torch

    return {
        "gpu": torch.cuda.get_device_name(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]  # by torch
        "driver": driver_version(),
    }


def gpu_names() -> list[str]:
    """Names of the GPUs that PyTorch sees; it is not imported where there is no driver for any."""
    if sys.platform == "linux" and "torch" not in sys.modules and not _has_driver():
        return []
    import torch

    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def cuda_of_torch() -> str | None:
    """Version of CUDA that PyTorch was built for, from its own file; None for a build without."""
    spec = find_spec("torch")
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        values = runpy.run_path(os.path.join(folder, "version.py"))
        cuda = values.get("cuda")
        return cuda if isinstance(cuda, str) else None
    return None


def _has_driver() -> bool:
    """Whether this system has a driver of GPUs: NVIDIA's (/dev/dxg under WSL), or AMD's."""
    nodes = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/dxg", "/dev/kfd")
    return any(os.path.exists(node) for node in nodes)


def driver_version() -> str | None:
    """Version of NVIDIA's kernel driver, such as "580.65.06"; None without one."""
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    number = re.search(r"\b\d+\.\d+(\.\d+)?\b", text)
    return number.group() if number else None


@cache
def _of_first_core(key: str) -> str:
    """An entry of the first core in /proc/cpuinfo; empty if it is missing."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "")


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX of the Windows API."""

    _fields_ = (
        ("length", ctypes.c_uint32),
        ("load_percent", ctypes.c_uint32),
        ("total_physical", ctypes.c_uint64),
        ("available_physical", ctypes.c_uint64),
        ("total_page_file", ctypes.c_uint64),
        ("available_page_file", ctypes.c_uint64),
        ("total_virtual", ctypes.c_uint64),
        ("available_virtual", ctypes.c_uint64),
        ("available_extended_virtual", ctypes.c_uint64),
    )


def _memory_of_windows(field: str) -> int | None:
    status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
    kernel = getattr(ctypes, "WinDLL")("kernel32")  # noqa: B009  # absent on other systems
    if not kernel.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None
    return int(getattr(status, field))
