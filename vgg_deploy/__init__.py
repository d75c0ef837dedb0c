"""VGG Deploy from Python: the nets of arXiv 1409.1556, their data and how they are run.

Nothing heavy is imported before a name is used. `evaluate`, `check` and `export` belong to other
packages of this project, which name them as entry points of the group `vgg_deploy.python`.
"""

import os
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from vgg_deploy.waiting_threads import let_waiting_threads_sleep

# ONNX Runtime would write a device id and a queue of events under the user's home and send them. It
# reads this when it is imported, which no module of ours does before this line.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"

__all__ = [
    "Dataset",
    "Model",
    "Predictions",
    "check",
    "doctor",
    "evaluate",
    "export",
    "load",
    "macs",
    "open_data",
]

_HERE = {  # public name -> module of this package
    "Dataset": "vgg_deploy.data.dataset",
    "Model": "vgg_deploy.predict.model",
    "Predictions": "vgg_deploy.predict.predictions",
    "load": "vgg_deploy.predict.model",
    "macs": "vgg_deploy.net.costs",
    "open_data": "vgg_deploy.data.open_data",
}
_GROUP = "vgg_deploy.python"  # of entry points


def __getattr__(name: str) -> Any:
    if name in __all__:
        let_waiting_threads_sleep()  # if the caller has imported PyTorch, that is too late
    if name in _HERE:
        return getattr(import_module(_HERE[name]), name)
    if name in __all__:
        for entry in entry_points(group=_GROUP, name=name):
            return entry.load()
        raise ImportError(
            f"vgg_deploy.{name} belongs to another package of this project, and the installed "
            f"vgg-deploy does not name it; install the whole project again: pip install ."
        )
    raise AttributeError(f"module 'vgg_deploy' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


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
