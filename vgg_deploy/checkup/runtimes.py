"""Tries every runtime in a process of its own, so that a crash is a result."""

import json
import signal
import subprocess
import sys
import time
from typing import NamedTuple

from vgg_deploy.errors import InputError
from vgg_deploy.runtimes.packages import PACKAGES, runtime_package, runtime_version

DEVICES = {  # that a runtime can use; a test compares the names with PACKAGES
    "torch": ("cpu", "cuda"),
    "torch-compile": ("cpu", "cuda"),
    "onnxruntime": ("cpu", "cuda"),
    "onnxruntime-tensorrt": ("cuda",),
    "onnxruntime-rtx": ("cuda",),
    "openvino": ("cpu",),
    "openvino-bf16": ("cpu",),
    "ncnn": ("cpu",),
    "ncnn-bf16": ("cpu",),
    "tensorrt": ("cuda",),
    "tensorrt-rtx": ("cuda",),
}
WORKS, FAILS, ABSENT = "works", "fails", "not installed"
LONGEST_S = 180  # of one trial; torch-compile calls a C++ compiler
NO_GPU = "needs an NVIDIA GPU, and none is found here"


class Tried(NamedTuple):
    """How one runtime does on one device.

    Attributes:
        runtime: Key of DEVICES.
        device: "cpu" or "cuda".
        package: Installed package and version, such as "ncnn 1.0"; empty without one.
        state: WORKS, FAILS or ABSENT.
        reason: Why it does not work; empty if it does.
        seconds: That the trial took, with its imports.
    """

    runtime: str
    device: str
    package: str
    state: str
    reason: str
    seconds: float


def devices_to_try(runtime: str, gpus: int, device: str | None) -> tuple[str, ...]:
    """On which devices a runtime is tried.

    Args:
        runtime: Key of DEVICES.
        gpus: How many NVIDIA GPUs there are.
        device: The only one to try; None for all that are here. A runtime that needs a GPU is
            tried in any case, so that the reason is shown.
    """
    usable = DEVICES[runtime]
    if device:
        return (device,) if device in usable else ()
    return tuple(one for one in usable if gpus or one == "cpu") or usable


def try_runtime(runtime: str, device: str, gpus: int, longest_s: float = LONGEST_S) -> Tried:
    """Run a tiny net.

    Args:
        runtime: Key of DEVICES.
        device: "cpu" or "cuda".
        gpus: How many NVIDIA GPUs there are.
        longest_s: After so many seconds it counts as failed.
    """
    try:
        package = f"{runtime_package(runtime)} {runtime_version(runtime)}"
    except InputError as error:
        state = ABSENT if "not installed" in error.what else FAILS
        return Tried(runtime, device, "", state, error.message, 0.0)
    if device == "cuda" and not gpus:
        return Tried(runtime, device, package, FAILS, NO_GPU, 0.0)
    start = time.monotonic()
    command = [sys.executable, "-m", "vgg_deploy.checkup.trial", runtime, device]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=longest_s)
        fault = explain(done.returncode, done.stdout, done.stderr)
    except subprocess.TimeoutExpired:
        fault = f"gave no result within {longest_s:g} s"
    seconds = time.monotonic() - start
    return Tried(runtime, device, package, FAILS if fault else WORKS, fault, seconds)


def explain(code: int, stdout: str, stderr: str) -> str:
    """What the process of a trial says.

    Args:
        code: How it ended; minus the signal's number if by one.
        stdout: Its last line is the result, if it got so far.
        stderr: What libraries wrote.

    Returns:
        What is wrong; empty if the runtime works.
    """
    lines = stdout.strip().splitlines()
    try:
        fault = str(json.loads(lines[-1])["fault"])
    except (IndexError, ValueError, KeyError, TypeError):
        fault = ""
    if code == 0 or fault:
        return fault
    last = (stderr.strip().splitlines() or ["it wrote nothing"])[-1][:300]
    if code < 0:
        return f"crashed by {signal.Signals(-code).name} ({last})"
    return f"ended with exit code {code} ({last})"


def known_runtimes() -> tuple[str, ...]:
    """All runtimes, in the order in which they are tried."""
    return tuple(PACKAGES)
