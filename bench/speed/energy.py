"""The energy that calls take, where the machine counts it: RAPL of the CPU, NVML of the GPU.

The counters are of whole CPU packages and of a whole GPU, so what else runs there is in them, and
so is what they take while nothing runs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from vgg_deploy.regular_files import read_regular

POWERCAP = Path("/sys/class/powercap")
PACKAGE = "package-"  # names of RAPL's zones of a CPU package; others are parts of one
MOST_BYTES = 4096  # of a file there
NAN = float("nan")
CPU, GPU = "CPU packages", "GPU"


class Reading(NamedTuple):
    """What a counter shows.

    Attributes:
        joules: Since some origin.
        wraps_at: Where it begins again; infinite if it does not.
    """

    joules: float
    wraps_at: float = math.inf


class Counter(Protocol):
    """Counts the energy of some part of the machine.

    Attributes:
        of: What it counts, CPU or GPU.
    """

    of: str

    def read(self) -> Reading:
        """The present reading.

        Raises:
            OSError: If it cannot be read.
        """


class Rapl:
    """One CPU package, by Linux's powercap."""

    of = CPU

    def __init__(self, zone: Path):
        """Take a zone.

        Args:
            zone: Its folder.
        """
        self.zone = zone

    def read(self) -> Reading:
        """The present reading."""
        used, most = (_number(self.zone / f"{name}_uj") for name in ("energy", "max_energy_range"))
        return Reading(used / 1e6, most / 1e6)


class Nvml:
    """The GPU that PyTorch uses, by its own counter."""

    of = GPU

    def read(self) -> Reading:
        """The present reading."""
        import pynvml
        import torch

        try:
            pynvml.nvmlInit()
            try:
                uuid = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
                gpu = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}".encode())
                return Reading(pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1000)
            finally:
                pynvml.nvmlShutdown()
        except pynvml.NVMLError as error:
            raise OSError(str(error)) from None


@dataclass(frozen=True)
class Counters:
    """What can be read on this machine.

    Attributes:
        found: The counters.
        why_not: Why there is none for a device, as part of a sentence; empty if there is one.
    """

    found: Sequence[Counter]
    why_not: str = ""

    @property
    def of(self) -> str:
        """What is counted."""
        return self.found[0].of if self.found else ""

    def read(self) -> list[Reading]:
        """All of them; empty if one cannot be read now."""
        try:
            return [counter.read() for counter in self.found]
        except OSError:
            return []


def counters(device: str, powercap: Path = POWERCAP) -> Counters:
    """The counters of a device, each of which was read once.

    Args:
        device: "cpu" or "cuda".
        powercap: Folder of RAPL's zones.
    """
    return _of_gpu() if device == "cuda" else _of_cpu(powercap)


def joules(before: Sequence[Reading], after: Sequence[Reading]) -> float:
    """Energy between two readings of all counters.

    Args:
        before: Of `Counters.read`.
        after: The same, later; by less than a counter's range.

    Returns:
        NaN where there is nothing to read.
    """
    if not before or len(before) != len(after):
        return NAN
    total = 0.0
    for first, last in zip(before, after, strict=True):
        used = last.joules - first.joules
        total += used if used >= 0 else used + last.wraps_at
    return total if math.isfinite(total) else NAN


def _of_cpu(powercap: Path) -> Counters:
    zones: dict[str, Path] = {}  # by package, which may have two: one of them by MMIO
    for zone in sorted(powercap.glob("*"), key=lambda path: ("mmio" in path.name, path.name)):
        if (name := _name(zone)).startswith(PACKAGE):
            zones.setdefault(name, zone)
    if not zones:
        return Counters([], f"no counter of the CPU's energy in {powercap}")
    found = [Rapl(zone) for zone in zones.values()]
    try:
        for counter in found:
            counter.read()
    except OSError as error:
        file = error.filename or powercap
        return Counters([], f"{file}: cannot be read ({error.strerror or error})")
    return Counters(found)


def _of_gpu() -> Counters:
    try:
        import pynvml  # noqa: F401  # only whether it is there
    except ImportError:
        return Counters([], "nvidia-ml-py is not installed, which reads the GPU's counter")
    counter = Nvml()
    try:
        counter.read()
    except OSError as error:
        return Counters([], f"the GPU counts no energy ({error})")
    return Counters([counter])


def _name(zone: Path) -> str:
    """What a zone counts; empty if it does not say."""
    try:
        return read_regular(zone / "name", MOST_BYTES).decode(errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int:
    text = read_regular(path, MOST_BYTES).decode(errors="replace").strip()
    if not text.isdecimal():
        raise OSError(0, "holds no number", str(path))
    return int(text)
