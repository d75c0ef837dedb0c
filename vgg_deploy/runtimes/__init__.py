"""One net, several ways to run it. Every runtime takes the same pictures and gives the same two results."""

from collections.abc import Callable
from pathlib import Path

from vgg_deploy.errors import InputError
from vgg_deploy.exported.ncnn_files import find_ncnn
from vgg_deploy.exported.trt_manifest import read_engine_manifest
from vgg_deploy.exported.trt_packages import FLAVOURS
from vgg_deploy.net.foreign_weights import Assumed
from vgg_deploy.net.input_convention import NOTHING_STATED, StatedInput
from vgg_deploy.net.open_net import open_net
from vgg_deploy.runtimes.contract import Runtime, Scores, WrongOutputs
from vgg_deploy.runtimes.ncnn import NcnnRuntime
from vgg_deploy.runtimes.onnxruntime import OnnxRuntime
from vgg_deploy.runtimes.pytorch import TYPES, TorchRuntime
from vgg_deploy.runtimes.tensorrt import EngineRuntime

__all__ = [
    "PACKAGES", "TYPES", "EngineRuntime", "NcnnRuntime", "OnnxRuntime", "Runtime", "Scores", "TorchRuntime",
    "WrongOutputs", "open_runtime", "runtimes_for",
]  # fmt: skip

PACKAGES = {  # the package of each runtime, whose version can change scores
    "torch": "torch",
    "torch-compile": "torch",
    "onnxruntime": "onnxruntime-gpu",
    "onnxruntime-tensorrt": "onnxruntime-gpu",
    "ncnn": "ncnn",
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "tensorrt-rtx",
}


def runtimes_for(path: Path) -> tuple[str, ...]:
    """Names of the runtimes that open a file, by its suffix; the first is the usual one.

    Raises: InputError for an engine without a manifest.
    """
    match Path(path).suffix:
        case ".onnx":
            return ("onnxruntime", "onnxruntime-tensorrt")
        case ".param":
            return ("ncnn",)
        case ".engine":
            return (FLAVOURS[read_engine_manifest(path).flavour].runtime,)
    return ("torch", "torch-compile")


def open_runtime(
    path: Path,
    device: str = "cpu",
    threads: int = 1,
    runtime: str | None = None,
    precision: str = "fp32",
    stated: StatedInput = NOTHING_STATED,
    on_assumed: Callable[[Assumed], None] | None = None,
) -> Runtime:
    """A file ready to run: .onnx in ONNX Runtime, .param in ncnn, .engine in TensorRT, everything else as weights in PyTorch.

    Args: runtime, one of `runtimes_for(path)`, else the usual one; precision, of weights in PyTorch. Other files have theirs.
        stated, on_assumed, for weights of other projects, see `open_net`.
    Raises: InputError if the file is no model, or its runtime or the device is not there; never another one instead.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"{path}: no such file; give a checkpoint (.pt), an exported model (.onnx, .ncnn.param) or an engine (.engine)"
        )
    runtime = runtime or runtimes_for(path)[0]
    if runtime not in runtimes_for(path):
        raise InputError(
            f"{path}: the runtime {runtime} does not open it; choose from {', '.join(runtimes_for(path))}"
        )
    match path.suffix:
        case ".onnx":
            return OnnxRuntime(path, device, threads, runtime)
        case ".param":
            return NcnnRuntime(find_ncnn(path), device, threads)
        case ".engine":
            return EngineRuntime(path, device, threads)
    net = open_net(path, None, stated, on_assumed)
    compiled = runtime == "torch-compile"
    return TorchRuntime(net, device, threads, precision, compiled=compiled, where=str(path))
