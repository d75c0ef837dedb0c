"""Calls a model in its runtime of `vgg_deploy.runtimes`, which needs PyTorch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np

from vgg_deploy.net.input_convention import StatedInput
from vgg_deploy.runtimes import open_runtime
from vgg_deploy.runtimes.contract import DeviceRuntime
from vgg_deploy.runtimes.cuda_graphs import GraphedRuntime


def runtime_caller(job: dict[str, Any]) -> Callable[[np.ndarray], object]:
    """Open the file.

    Args:
        job: Of `bench.memory.measure`.

    Returns:
        Takes (N, 3, H, W) uint8 images.

    Raises:
        InputError: If it cannot be opened.
    """
    runtime = open_runtime(
        Path(job["path"]),
        job["device"],
        job["threads"],
        job["runtime"],
        job["precision"],
        _stated(job["stated"]),
    )
    return GraphedRuntime(cast(DeviceRuntime, runtime)) if job["cuda_graphs"] else runtime


def _stated(given: dict[str, Any]) -> StatedInput:
    """JSON has lists where the record has tuples."""
    fields: dict[str, Any] = {}
    for name, value in given.items():
        fields[name] = tuple(value) if isinstance(value, list) else value
    return StatedInput(**fields)
