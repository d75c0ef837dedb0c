"""What a measurement depends on beside the model: machine, versions, command."""

import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

PACKAGES = ("vgg-deploy", "torch", "torchvision", "onnx", "onnxruntime-gpu", "ncnn", "openvino", "tensorrt", "tensorrt-rtx", "numpy", "pillow", "pandas",
            "plotly")  # fmt: skip
# What decides how fast a CPU multiplies, as Linux calls it
INSTRUCTIONS = ("avx2", "fma", "avx512f", "avx512_bf16", "avx512_fp16", "avx512_vnni", "avx_vnni", "amx_bf16", "amx_int8", "asimd", "asimdhp", "asimddp",
                "i8mm", "sve")  # fmt: skip


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
        "cpu": _of_cpu("model name") or platform.processor(),
        "cpu_instructions": [name for name in INSTRUCTIONS if name in (_of_cpu("flags") or _of_cpu("Features")).split()],
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


def _of_cpu(what: str) -> str:
    """An entry of the first core's description, empty where there is none."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(what)), "")
