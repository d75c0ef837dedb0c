"""What a measurement depends on beside the model: machine, versions, command."""

import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = ("vgg-deploy", "torch", "torchvision", "onnx", "onnxruntime-gpu", "ncnn", "tensorrt", "tensorrt-rtx", "numpy", "pillow", "pandas", "plotly")


def describe_environment(threads: int, processes: int = 1) -> dict:
    """Everything by name, ready for JSON; what is not there is missing, not guessed. Args: threads, of each process of the job."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join([*_program(Path(sys.argv[0])), *sys.argv[1:]]),
        "host": platform.node(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "cpu": _cpu_name(),
        "cores_allowed": sorted(os.sched_getaffinity(0)),
        "threads": threads,
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "processes": processes,
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "cuda": torch.version.cuda,
        "versions": versions,
    }


def _program(path: Path) -> list[str]:
    return ["python", "-m", path.parent.name] if path.name == "__main__.py" else [path.name]


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
