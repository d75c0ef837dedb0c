"""The float32 net that the layers of every file are compared with, computed layer by layer."""

from collections.abc import Sequence

import numpy as np
import onnx
import torch
from google.protobuf.message import DecodeError
from onnx import numpy_helper
from torch import Tensor, nn

from bench.models.model import Model
from vgg_deploy.errors import InputError
from vgg_deploy.exported.metadata import EXPORT_AGAIN
from vgg_deploy.net.checkpoint import build
from vgg_deploy.net.model import VGG
from vgg_deploy.runtimes import OnnxRuntime, Runtime, TorchRuntime
from vgg_deploy.runtimes.contract import require_scores


class FloatNet:
    """A net in float32, one layer after the other, without any of them overwriting its input.

    Attributes:
        name: Of the model that it is, as tables name it.
        net: The layers.
        device: Where they are.
    """

    def __init__(self, name: str, runtime: TorchRuntime):
        self.name, self._runtime = name, runtime
        self.net, self.device = runtime.net, runtime.device
        self.layers = [
            layer
            for layer, module in self.net.named_children()
            if not isinstance(module, nn.Dropout)
        ]

    @torch.inference_mode()
    def start(self, images: np.ndarray) -> Tensor:
        """What conv1_1 takes of (N, 3, H, W) uint8 RGB."""
        return self._runtime.start(torch.from_numpy(images).to(self.device))

    @torch.inference_mode()
    def part(self, layers: Sequence[str], values: Tensor) -> Tensor:
        """What some layers in a row give.

        Args:
            layers: Their names.
            values: (N, C, h, w) that the first of them takes.
        """
        values = values.clone()  # a ReLU overwrites its input
        given = self._runtime.layers_from(values, layers[0])
        return next(output for name, output in given if name == layers[-1])

    @torch.inference_mode()
    def scores_after(self, layer: str, values: Tensor) -> np.ndarray:
        """The mean scores if the net continues from a layer's output.

        Args:
            layer: Its name.
            values: (N, C, h, w) that it gives.

        Returns:
            (N, classes) float64.
        """
        rest = self.layers[self.layers.index(layer) + 1 :]
        if rest:
            values = self.part(rest, values)
        return values.double().mean((2, 3)).cpu().numpy()

    def is_of(self, runtime: Runtime) -> bool:
        """Whether a runtime is this very net."""
        return runtime is self._runtime

    def on_device(self, values: np.ndarray) -> Tensor:
        """Values of another runtime, where this net is and as it takes them."""
        return torch.from_numpy(values).to(self.device)


def float_net(models: Sequence[Model], model: Model) -> FloatNet | None:
    """The first float32 model of the run that has the weights that a model was made from.

    Args:
        models: All models of the run.
        model: One of them.

    Returns:
        None if the run has none: neither a checkpoint in PyTorch nor a float32 ONNX file.

    Raises:
        InputError: For an ONNX file whose weights are not those of its net.
    """
    for one in models:
        runtime = one.runtime
        if one.origin != model.origin or runtime.precision != "fp32":
            continue
        if isinstance(runtime, TorchRuntime) and runtime.name == "torch":
            return FloatNet(one.name, runtime)
    for one in models:
        runtime = one.runtime
        if one.origin != model.origin or runtime.precision != "fp32":
            continue
        if isinstance(runtime, OnnxRuntime):
            require_scores(runtime)
            opened = TorchRuntime(_net_of(runtime), "cpu", runtime.threads, where=runtime.where)
            return FloatNet(one.name, opened)
    return None


def _net_of(runtime: OnnxRuntime) -> VGG:
    """The net of a float32 ONNX file."""
    where = runtime.where
    try:
        stored = {tensor.name: tensor for tensor in onnx.load(where).graph.initializer}
    except (DecodeError, OSError, ValueError) as error:
        raise InputError(f"{where}: its weights cannot be read ({error})", EXPORT_AGAIN) from None
    with torch.device("meta"):
        expected = VGG(runtime.spec).state_dict()
    weights = {}
    for name, tensor in expected.items():
        found = stored.get(name)
        if found is None or tuple(found.dims) != tuple(tensor.shape):
            raise InputError(
                f"{where}: has no {name} of {tuple(tensor.shape)}, which its net has", EXPORT_AGAIN
            )
        weights[name] = torch.from_numpy(numpy_helper.to_array(found).astype(np.float32))
    return build(runtime.spec, weights)
