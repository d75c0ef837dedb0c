"""Puts everything that is known of this machine together, as data and as text."""

import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from vgg_deploy import __version__
from vgg_deploy.checkup.processors import cpu, gpus
from vgg_deploy.checkup.runtimes import WORKS, devices_to_try, known_runtimes, try_runtime
from vgg_deploy.checkup.storage import storage
from vgg_deploy.errors import InputError
from vgg_deploy.progress import progress

LIBRARIES = (
    *("torch", "torchvision", "onnx", "onnxruntime", "onnxruntime-gpu", "openvino"),
    *("ncnn", "tensorrt", "tensorrt-rtx", "numpy", "pillow", "pandas"),
)
SWITCHES = ("VGG_DEPLOY_CACHE", "VGG_DEPLOY_START_METHOD", "ORT_DISABLE_TELEMETRY")


def examine(names: Sequence[str] = (), device: str | None = None) -> dict[str, Any]:
    """Find out what works here.

    Args:
        names: Runtimes to try; none for all.
        device: "cpu" or "cuda", to try only this one.

    Returns:
        Ready for JSON: versions, cpu, gpu, storage, environment, and under "runtimes" a record per
        trial, see `vgg_deploy.checkup.runtimes.Tried`.

    Raises:
        InputError: For an unknown name, or a device that a named runtime cannot use.
    """
    for name in names:
        if name not in known_runtimes():
            raise InputError(
                f"the runtime {name!r} is unknown; choose from {', '.join(known_runtimes())}"
            )
    gpu = gpus()
    count = len(gpu["gpus"])
    trials = [
        (name, where)
        for name in names or known_runtimes()
        for where in devices_to_try(name, count, device)
    ]
    for name in names:
        if name not in dict(trials):
            raise InputError(f"the runtime {name} does not run on {device}; choose another device")
    tried = []
    with progress("trying runtimes", len(trials)) as bar:
        for name, where in trials:
            bar.advance(0, note=f"{name} on {where}")
            tried.append(try_runtime(name, where, count)._asdict())
            bar.advance()
    return {
        "versions": {
            "vgg-deploy": __version__,
            "python": platform.python_version(),
            "system": platform.platform(),
            **_versions(),
        },
        "cpu": cpu(),
        "gpu": gpu,
        "storage": storage(),
        "environment": {name: os.environ.get(name) for name in SWITCHES},
        "runtimes": tried,
    }


def failed(found: dict[str, Any], names: Sequence[str]) -> list[str]:
    """Those of the named runtimes that do not work on a device on which they were tried."""
    bad = {tried["runtime"] for tried in found["runtimes"] if tried["state"] != WORKS}
    return [name for name in names if name in bad]


def as_text(found: dict[str, Any]) -> str:
    """The result of `examine` for people, in lines."""
    lines = ["Versions"]
    lines += [f"  {name} {number}" for name, number in found["versions"].items()]
    lines += ["", "CPU", *_cpu_lines(found["cpu"]), "", "GPU", *_gpu_lines(found["gpu"])]
    lines += ["", "Storage", *_storage_lines(found["storage"]), "", "Runtimes"]
    for tried in found["runtimes"]:
        where = f"{tried['runtime']} on {tried['device']}"
        note = f" in {tried['seconds']:.1f} s" if tried["state"] == WORKS else ""
        lines.append(f"  {where:<28} {tried['state']}{note}")
        if tried["reason"]:
            lines.append(f"      {tried['reason']}")
    return "\n".join(lines)


def size(count: int | None) -> str:
    """Bytes for people.

    Example:
        >>> size(5_340_000_000), size(2_000), size(None)
        ('5.3 GB', '2.0 kB', 'unknown')
    """
    if count is None:
        return "unknown"
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= one:
            return f"{count / one:.1f} {unit}"
    return f"{count} B"


def _cpu_lines(cpu: dict[str, Any]) -> list[str]:
    return [
        f"  {cpu['model']}, {cpu['cores']} cores, {size(cpu['memory_bytes'])} of memory",
        f"  instructions: {', '.join(cpu['instructions']) or 'not reported'}",
        f"  int8-cpu: {cpu['int8']}",
    ]


def _gpu_lines(gpu: dict[str, Any]) -> list[str]:
    if not gpu["gpus"]:
        return [f"  {gpu['why_none']}"]
    return [
        f"  {one['name']}, {one['memory.total']}, compute capability {one['compute_cap']}, "
        f"driver {one['driver_version']}"
        for one in gpu["gpus"]
    ]


def _storage_lines(storage: dict[str, Any]) -> list[str]:
    state = "" if storage["cache_writable"] else ", CANNOT BE WRITTEN: set VGG_DEPLOY_CACHE"
    lines = [f"  cache {storage['cache']}: {size(storage['cache_bytes'])}{state}"]
    lines += [f"    {name}: {size(count)}" for name, count in storage["caches"].items()]
    lines += [f"  free for {name}: {size(count)}" for name, count in storage["free"].items()]
    if storage["shared_memory_free"] is not None:
        lines.append(f"  free in /dev/shm: {size(storage['shared_memory_free'])}")
    return lines


def _versions() -> dict[str, str]:
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
