"""Opens an ONNX file in ONNX Runtime, on one provider and no other, and explains its failures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, uint8

from vgg_deploy.errors import InputError
from vgg_deploy.exported.metadata import EXPORT_AGAIN, check_manifest
from vgg_deploy.exported.onnx_wire import data_files
from vgg_deploy.onnx_options import (
    PROVIDERS,
    provider_options,
    session_options,
    session_settings,
)
from vgg_deploy.runtimes.packages import runtime_package
from vgg_deploy.runtimes.plugins import add_plugin, is_plugin

# ONNX Runtime's exceptions have no base class of their own
LOAD_FAILURES = (
    "EPFail",
    "Fail",
    "InvalidArgument",
    "InvalidGraph",
    "InvalidProtobuf",
    "NoSuchFile",
    "NotImplemented",
    "RuntimeException",
)
NO_KERNELS_THERE = "fallback to CPU EP has been explicitly disabled"  # words of ONNX Runtime


@dataclass(frozen=True, eq=False)
class OnnxSession:
    """A file in ONNX Runtime, and what it states about itself.

    Attributes:
        session: An onnxruntime.InferenceSession.
        metadata: Its entries.
        inputs: Name -> type.
        outputs: Name -> type and shape.
        failures: What ONNX Runtime raises.
        settings: Options that can change results.
    """

    session: Any
    metadata: dict[str, str]
    inputs: dict[str, str]
    outputs: dict[str, tuple[str, list[int | str]]]
    failures: tuple[type[Exception], ...]
    settings: Mapping[str, str]


def open_session(
    path: Path,
    device: str = "cpu",
    threads: int = 1,
    runtime: str = "onnxruntime",
    optimisation: str = "ENABLE_ALL",
    arena: bool = True,
) -> OnnxSession:
    """Open a file; ONNX Runtime's fallback to another provider is refused.

    Args:
        path: Written by vgg-export.
        device: "cpu" or "cuda".
        threads: On the CPU.
        runtime: "onnxruntime", "onnxruntime-tensorrt" or "onnxruntime-rtx". The second builds an
            engine of its own for every new shape and keeps it in the cache folder. The third is
            TensorRT-RTX as a plug-in, whose kernels are kept there.
        optimisation: ONNX Runtime's own word, ENABLE_ALL or ENABLE_EXTENDED. ENABLE_ALL also
            reorders weights for the CPU's vector units. That is faster to run, and takes four
            times the file's size in memory while loading.
        arena: Keep the memory of activations for the next call.

    Raises:
        InputError: If the file, the runtime or the device cannot be used. Weights that are not
            beside the file are refused before ONNX Runtime sees it.
    """
    runtime_package("onnxruntime")  # refuses two of them
    runtime_package(runtime)
    data_files(path)
    check_manifest(path)
    import onnxruntime as ort  # here, so that PyTorch users need not load it
    from onnxruntime.capi import onnxruntime_pybind11_state as library

    if (runtime, device) not in PROVIDERS:
        raise InputError(f"the runtime {runtime} needs a GPU", "run it on cuda", "cuda")
    provider = PROVIDERS[runtime, device]
    failures: tuple[type[Exception], ...] = tuple(getattr(library, n) for n in LOAD_FAILURES)
    if device != "cpu":
        ort.preload_dlls()
    options = session_options(ort, device, threads, optimisation, arena)
    # The last of them from damaged names
    load_failures: tuple[type[Exception], ...] = (*failures, UnicodeDecodeError)
    providers = [] if is_plugin(provider) else [(provider, provider_options(provider))]
    if is_plugin(provider):
        add_plugin(ort, options, provider)
    try:
        session = ort.InferenceSession(str(path), options, providers=providers, enable_fallback=0)
        opened = OnnxSession(
            session,
            session.get_modelmeta().custom_metadata_map,
            {i.name: i.type for i in session.get_inputs()},
            {o.name: (o.type, o.shape) for o in session.get_outputs()},
            failures,
            session_settings(runtime, device, optimisation),
        )
    except load_failures as error:
        raise _load_failure(path, device, error, provider) from None
    used = session.get_providers()[0]
    if used != provider:  # it falls back with a mere line in the log
        raise InputError(
            f"device {device}: ONNX Runtime fell back to {used}",
            "install onnxruntime-gpu for this CUDA, or run it on the CPU",
            "device",
        )
    return opened


def bound(tensor: Tensor) -> tuple[str, int, type[np.generic], tuple[int, ...], int]:
    """A tensor as ONNX Runtime binds it: device, its index, type, shape and address."""
    dtype = np.uint8 if tensor.dtype == uint8 else np.float32
    index = tensor.device.index or 0
    return tensor.device.type, index, dtype, tuple(tensor.shape), tensor.data_ptr()


def run_failure(where: str, shape: Sequence[int], what: str, error: Exception) -> InputError:
    """Explain an error of ONNX Runtime in a call.

    Args:
        where: The file.
        shape: Of the input, (N, 3, H, W).
        what: What N counts, such as "images".
        error: Of ONNX Runtime.
    """
    return InputError(
        f"{where}: ONNX Runtime cannot run it on {shape[0]} {what} of "
        f"{shape[2]}x{shape[3]} ({_first_line(error)}); "
        "export it again, or free memory if that is the reason"
    )


def _load_failure(path: Path, device: str, error: Exception, provider: str) -> InputError:
    """Explain an error of ONNX Runtime while loading the file."""
    reason = _first_line(error)
    if device != "cpu" and NO_KERNELS_THERE in str(error):
        return InputError(
            f"device {device}: {path} has nodes that ONNX Runtime runs on the CPU only, as files "
            "that rescale whole images have",
            "run it on the CPU, or export a file that takes rescaled images",
            "device",
        )
    if device != "cpu":
        return InputError(
            f"device {device}: ONNX Runtime cannot run {path} on {provider} ({reason})",
            "run it on the CPU, or install onnxruntime-gpu with the CUDA and cuDNN it was "
            "built for",
            "device",
        )
    if "Could not find an implementation" in str(error):
        return InputError(
            f"{path}: ONNX Runtime has no CPU kernels for its types ({reason})",
            "run it on cuda, or use another precision",
            "cuda or precision",
        )
    return InputError(f"{path}: not a model that ONNX Runtime can load ({reason})", EXPORT_AGAIN)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200]
