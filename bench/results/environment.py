"""Describes what a measurement depends on besides the model: machine, commit, versions, command."""

import os
import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.results.commit import commit_of
from vgg_deploy.images.decode import decoder_versions
from vgg_deploy.machine import (
    allowed_cores,
    cpu_instructions,
    cpu_model,
    cuda_of_torch,
    driver_version,
    gpu_names,
    host_name,
    total_memory_bytes,
)

PACKAGES = (
    "vgg-deploy",
    "torch",
    "torchvision",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "ncnn",
    "openvino",
    "tensorrt",
    "tensorrt-rtx",
    "numpy",
    "pillow",
    "pandas",
    "plotly",
)


def describe_environment(threads: int, processes: int = 1) -> dict[str, Any]:
    """Everything by name, ready for JSON. Packages that are not installed are left out.

    Args:
        threads: Of each process.
        processes: Of the job.
    """
    commit = commit_of(Path())
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join([*_program(Path(sys.argv[0])), *sys.argv[1:]]),
        "host": host_name(),
        "commit": commit.record() if commit else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "cpu": cpu_model(),
        "cpu_instructions": cpu_instructions(),
        "cores_allowed": allowed_cores(),
        "threads": threads,
        "omp_wait_policy": os.environ.get("OMP_WAIT_POLICY"),
        "processes": processes,
        "memory_bytes": total_memory_bytes(),
        "gpus": gpu_names(),
        "cuda": cuda_of_torch(),
        "driver": driver_version(),
        "decoder": decoder_versions(),
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def _program(path: Path) -> list[str]:
    return ["python", "-m", path.parent.name] if path.name == "__main__.py" else [path.name]
