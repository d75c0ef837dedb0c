"""Calls an ONNX file in ONNX Runtime with NumPy alone, as a service without PyTorch does."""

from collections.abc import Callable
from typing import Any

import numpy as np

from vgg_deploy.onnx_options import PROVIDERS, provider_options, session_options

TYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}


def onnx_caller(job: dict[str, Any]) -> Callable[[np.ndarray], object]:
    """Open the file as `vgg_deploy.runtimes` does on the CPU.

    Args:
        job: Of `bench.memory.measure`.

    Returns:
        Takes (N, 3, H, W) uint8 images.
    """
    import onnxruntime as ort

    provider = PROVIDERS[job["runtime"], job["device"]]
    options = session_options(ort, job["device"], job["threads"])
    session = ort.InferenceSession(
        job["path"], options, providers=[(provider, provider_options(provider))]
    )
    (taken,) = session.get_inputs()
    dtype, outputs = TYPES[taken.type], list(job["outputs"])

    def call(images: np.ndarray) -> object:
        if job["whole_images"]:
            images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
        return session.run(outputs, {taken.name: images.astype(dtype, copy=False)})

    return call
