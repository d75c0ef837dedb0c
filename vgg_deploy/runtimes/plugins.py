"""Registers providers of ONNX Runtime that come in packages of their own."""

import importlib
from functools import cache
from typing import Any

from vgg_deploy.cache import cache_folder, writable_folder
from vgg_deploy.errors import InputError

MODULES = {"NvTensorRTRTXExecutionProvider": "onnxruntime_ep_nv_tensorrt_rtx"}  # by provider
RTX = "NvTensorRTRTXExecutionProvider"


def is_plugin(provider: str) -> bool:
    """Whether a provider comes in a package of its own."""
    return provider in MODULES


def add_plugin(ort: Any, options: Any, provider: str) -> None:
    """Let a session use the first GPU by a provider that comes as a plug-in.

    Args:
        ort: The module onnxruntime.
        options: Its SessionOptions; they are changed.
        provider: One for which `is_plugin` is true.

    Raises:
        InputError: If it cannot be loaded, or finds no GPU.
    """
    _register(ort, provider)
    devices = [device for device in ort.get_ep_devices() if device.ep_name == provider]
    if not devices:
        raise InputError(
            f"{provider}: finds no GPU that it runs on", "run it on the CPU, in onnxruntime", "gpu"
        )
    options.add_provider_for_devices(devices[:1], plugin_options(provider))


def plugin_options(provider: str) -> dict[str, str]:
    """Options of a provider: where kernels that are compiled at the first call are kept."""
    if provider != RTX:
        return {}
    kernels = writable_folder(cache_folder() / "onnxruntime-rtx")
    return {"nv_runtime_cache_path": str(kernels)}


@cache
def _register(ort: Any, provider: str) -> None:
    """Load the provider's library, once in a process."""
    try:
        module = importlib.import_module(MODULES[provider])
        ort.register_execution_provider_library(provider, module.get_library_path())
    except Exception as error:  # ONNX Runtime's have no base class of their own
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"{provider}: cannot be loaded ({reason})",
            "it needs an RTX GPU and its driver; else run the file in onnxruntime",
            "gpu",
        ) from None
