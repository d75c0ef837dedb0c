"""The shared core of VGG Deploy: the nets of arXiv 1409.1556, their data and how they are run."""

import os
from importlib import import_module

# ONNX Runtime would write a device id and a queue of events under the user's home and send them. It
# reads this when it is imported, which no module of ours does before this line.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"


def doctor(runtimes: tuple[str, ...] = (), device: str | None = None) -> dict[str, object]:
    """Find out what works on this machine; the command vgg-doctor shows the same.

    Args:
        runtimes: Those to try, such as "onnxruntime"; none for all.
        device: "cpu" or "cuda", to try only this one.

    Returns:
        Ready for JSON: versions, cpu, gpu, storage, environment, and "runtimes", a list of records
        with runtime, device, package, state ("works", "fails", "not installed"), reason, seconds.

    Raises:
        InputError: For an unknown runtime, or a device that it cannot use.
    """
    found: dict[str, object] = import_module("vgg_deploy.checkup.report").examine(runtimes, device)
    return found
