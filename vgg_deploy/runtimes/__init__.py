"""Runs a net in PyTorch, ONNX Runtime, OpenVINO, ncnn or TensorRT, by one interface.

A runtime's own module is imported when it is used: stored posteriors need none of them.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vgg_deploy.errors import InputError
from vgg_deploy.exported.trt_manifest import read_engine_manifest
from vgg_deploy.exported.trt_packages import FLAVOURS
from vgg_deploy.net.input_convention import NOTHING_STATED, StatedInput
from vgg_deploy.net.named_weights import Located, locate
from vgg_deploy.regular_files import is_regular
from vgg_deploy.runtimes.contract import Runtime, Scores, WrongOutputs
from vgg_deploy.runtimes.packages import PACKAGES, runtime_package, runtime_version
from vgg_deploy.unchanged_files import unchanged

if TYPE_CHECKING:
    from vgg_deploy.net.foreign_weights import Assumed
    from vgg_deploy.runtimes.ncnn import NcnnRuntime
    from vgg_deploy.runtimes.onnxruntime import OnnxRuntime
    from vgg_deploy.runtimes.openvino import OpenVinoRuntime
    from vgg_deploy.runtimes.pytorch import TYPES, TorchRuntime
    from vgg_deploy.runtimes.tensorrt import EngineRuntime

__all__ = [
    "PACKAGES",
    "TYPES",
    "EngineRuntime",
    "NcnnRuntime",
    "OnnxRuntime",
    "OpenVinoRuntime",
    "Runtime",
    "Scores",
    "TorchRuntime",
    "WrongOutputs",
    "open_runtime",
    "runtime_package",
    "runtime_version",
    "runtimes_for",
]

OPENVINO = ("openvino", "openvino-bf16")
NCNN = ("ncnn", "ncnn-bf16")
IR = ".xml"  # the suffix of OpenVINO's own files
MODULES = {  # of this package, by what they define
    "EngineRuntime": "tensorrt",
    "NcnnRuntime": "ncnn",
    "OnnxRuntime": "onnxruntime",
    "OpenVinoRuntime": "openvino",
    "TYPES": "pytorch",
    "TorchRuntime": "pytorch",
}


def __getattr__(name: str) -> Any:
    if name in MODULES:
        return getattr(import_module(f"{__name__}.{MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def runtimes_for(path: Path) -> tuple[str, ...]:
    """List the runtimes that open a file, by its suffix; the first is the usual one.

    Args:
        path: Of a checkpoint or an exported file.

    Raises:
        InputError: For an engine without a manifest.
    """
    match Path(path).suffix:
        case ".onnx":
            return ("onnxruntime", "onnxruntime-tensorrt", "onnxruntime-rtx", *OPENVINO)
        case ".xml":
            return OPENVINO
        case ".param":
            return NCNN
        case ".engine":
            return (FLAVOURS[read_engine_manifest(path).flavour].runtime,)
    return ("torch", "torch-compile")


def open_runtime(
    source: str | Path | Located,
    device: str = "cpu",
    threads: int = 1,
    runtime: str | None = None,
    precision: str = "fp32",
    stated: StatedInput = NOTHING_STATED,
    on_assumed: "Callable[[Assumed], None] | None" = None,
) -> Runtime:
    """Open a file, ready to run.

    .onnx runs in ONNX Runtime, or in OpenVINO if asked for, .xml in OpenVINO, .param in ncnn,
    .engine in TensorRT, everything else as weights in PyTorch.

    Args:
        source: A checkpoint, an exported file, or weights by their name, see `locate`.
        device: "cpu" or "cuda".
        threads: On the CPU.
        runtime: One of `runtimes_for` for its file; by default the usual one.
        precision: Of weights in PyTorch; other files have theirs.
        stated: What the user states of the input of another project's weights, see `open_net`.
        on_assumed: Called with what was assumed of them, see `open_net`.

    Raises:
        InputError: If the file is not a model, or its runtime or the device is missing. No other
            runtime or device is used instead.
    """
    path = locate(source).path
    if not is_regular(path):
        raise InputError(
            f"{path}: no such file; give a checkpoint (.pt), an exported model (.onnx, "
            ".xml, .ncnn.param) or an engine (.engine)"
        )
    choices = runtimes_for(path)
    runtime = runtime or choices[0]
    if runtime not in choices:
        raise InputError(
            f"{path}: the runtime {runtime} does not open it; choose from {', '.join(choices)}"
        )
    if path.suffix in (".onnx", IR, ".param", ".engine"):
        with unchanged(path):  # what is checked is what runs
            return _open_exported(path, device, threads, runtime)
    from vgg_deploy.net.open_net import open_layers
    from vgg_deploy.runtimes.pytorch import TorchRuntime

    net = open_layers(path, None, stated, on_assumed)
    compiled = runtime == "torch-compile"
    return TorchRuntime(net, device, threads, precision, compiled=compiled, where=str(path))


def _open_exported(path: Path, device: str, threads: int, runtime: str) -> Runtime:
    """Open an exported file, as `open_runtime`."""
    if runtime in OPENVINO:
        from vgg_deploy.runtimes.openvino import OpenVinoRuntime

        return OpenVinoRuntime(path, device, threads, runtime)
    match path.suffix:
        case ".onnx":
            from vgg_deploy.runtimes.onnxruntime import OnnxRuntime

            return OnnxRuntime(path, device, threads, runtime)
        case ".param":
            from vgg_deploy.exported.ncnn_files import find_ncnn
            from vgg_deploy.runtimes.ncnn import NcnnRuntime

            return NcnnRuntime(find_ncnn(path), device, threads, runtime)
    from vgg_deploy.runtimes.tensorrt import EngineRuntime

    return EngineRuntime(path, device, threads)
