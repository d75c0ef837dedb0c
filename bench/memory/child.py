"""A process that only opens a model and answers: python -m bench.memory.child, a job on its input.

It writes one line of JSON: the memory before the file was opened, and after each size of images.
A file that ONNX Runtime runs on the CPU is opened without PyTorch, which a service does not need.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vgg_deploy.errors import VGGDeployError

STATUS = Path("/proc/self/status")
CALLS = 2  # of each size; the second one runs in memory that is kept from call to call
GREY = 127  # of the images; all of their pages are written


class Seen(NamedTuple):
    """What the child reports.

    Attributes:
        libraries_mib: Resident before the model was opened: Python and its libraries.
        peak_mib: Largest resident memory so far, after each size.
        device_mib: In use on the device after each size, less than before; empty on a CPU.
    """

    libraries_mib: float
    peak_mib: list[float]
    device_mib: list[float]


def memory_mib(field: str, status: Path = STATUS) -> float:
    """A field of Linux's /proc/self/status, MiB.

    Unlike `getrusage`, VmHWM starts from zero with the program: it does not hold the peak of the
    process that started this one.

    Args:
        field: "VmRSS", the resident memory with mapped files, or "VmHWM", its peak.
        status: The file.

    Raises:
        ValueError: If the field is missing.
    """
    for line in status.read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) / 1024
    raise ValueError(f"{status} has no {field}")


def answer(job: dict[str, Any]) -> Seen:
    """Open a model and call it with images of each size.

    Args:
        job: Of `bench.memory.measure`.
    """
    caller, on_gpu = _caller(job), job["device"] == "cuda"
    free_before = _free_mib() if on_gpu else 0.0
    libraries = memory_mib("VmRSS")
    call = caller(job)
    peaks, on_device = [], []
    for side, batch in job["sizes"]:
        images = np.full((batch, 3, side, side), GREY, np.uint8)
        for _ in range(CALLS):
            call(images)
        peaks.append(memory_mib("VmHWM"))
        if on_gpu:
            on_device.append(free_before - _free_mib())
    return Seen(libraries, peaks, on_device)


def _caller(job: dict[str, Any]) -> Callable[[dict[str, Any]], Callable[[np.ndarray], object]]:
    """What opens the file, with its libraries loaded."""
    if (job["runtime"], job["device"]) == ("onnxruntime", "cpu"):
        import onnxruntime  # noqa: F401  # before the memory is read

        from bench.memory.onnx_caller import onnx_caller

        return onnx_caller
    from bench.memory.runtime_caller import runtime_caller

    return runtime_caller


def _free_mib() -> float:
    """Free memory of the GPU, whoever uses the rest."""
    import torch

    return torch.cuda.mem_get_info()[0] / 2**20


def main() -> int:
    """Read the job, answer, and write what was seen; an error as a sentence on standard error."""
    try:
        seen = answer(json.load(sys.stdin))
    except VGGDeployError as error:
        print(error.message, file=sys.stderr)
        return error.exit_code
    print(json.dumps(seen._asdict()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
