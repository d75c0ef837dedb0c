"""Chooses how the values between the layers of a model are shown."""

from bench.layers.contract import LayerValues, NotSeparable, refuse_fixed_shape
from bench.layers.ncnn_values import NcnnValues
from bench.layers.onnx_values import OnnxValues
from bench.layers.torch_values import TorchValues
from vgg_deploy.runtimes import NcnnRuntime, OnnxRuntime, Runtime, TorchRuntime
from vgg_deploy.runtimes.graph_interface import interface_of


def layer_values(runtime: Runtime) -> LayerValues:
    """Open the values between a model's layers.

    Args:
        runtime: The model.

    Raises:
        NotSeparable: If they cannot be shown here; says why.
    """
    refuse_fixed_shape(interface_of(runtime))
    match runtime:
        case TorchRuntime():
            return TorchValues(runtime)
        case OnnxRuntime(name="onnxruntime"):
            return OnnxValues(runtime)
        case NcnnRuntime():
            return NcnnValues(runtime)
    raise NotSeparable(f"the runtime {runtime.name} shows no values between layers")
