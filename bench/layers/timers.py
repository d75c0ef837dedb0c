"""Chooses how the layers of a model are timed."""

from bench.layers.contract import LayerTimer, NotSeparable, refuse_fixed_shape
from bench.layers.ncnn_times import NcnnTimer
from bench.layers.onnx_times import OnnxTimer
from bench.layers.openvino_times import OPENVINO, OpenVinoTimer
from bench.layers.tensorrt_times import EngineTimer
from bench.layers.torch_times import TorchTimer
from vgg_deploy.runtimes import (
    EngineRuntime,
    NcnnRuntime,
    OnnxRuntime,
    Runtime,
    TorchRuntime,
)
from vgg_deploy.runtimes.graph_interface import interface_of


def layer_timer(runtime: Runtime) -> LayerTimer:
    """Make a timer of a model's layers.

    Args:
        runtime: The model.

    Raises:
        NotSeparable: If its layers cannot be timed here; says why.
    """
    interface = interface_of(runtime)
    if interface.side is not None:
        raise NotSeparable("its graph rescales too; time a file of the same net that does not")
    refuse_fixed_shape(interface)
    match runtime:
        case TorchRuntime():
            return TorchTimer(runtime)
        case OnnxRuntime():
            return OnnxTimer(runtime)
        case NcnnRuntime():
            return NcnnTimer(runtime)
        case EngineRuntime():
            return EngineTimer(runtime)
    if runtime.name in OPENVINO:
        return OpenVinoTimer(runtime)
    raise NotSeparable(f"the runtime {runtime.name} tells no times of layers")
