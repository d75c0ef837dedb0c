"""Runs the PyTorch net itself; in float32 it is the reference for every exported file."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from vgg_deploy.machine import pick_device
from vgg_deploy.net.fully_connected import fc_channels_last
from vgg_deploy.net.model import VGG, channel_mean, memory_format, posterior
from vgg_deploy.net.outputs import SCORES, all_outputs, map_name
from vgg_deploy.runtimes.contract import Outputs, Scores, checked, give_scores, require, to_host

TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class _Forward(nn.Module):
    """Computes score map and posterior of uint8 images.

    As in exported graphs, the mean, LRN, fc8 and what follows are float32.
    """

    mean: Tensor

    def __init__(
        self, net: VGG, dtype: torch.dtype, memory_format: torch.memory_format, products: bool
    ):
        """Convert the layers of a net, which is changed.

        Args:
            net: The net.
            dtype: Of its weights.
            memory_format: Of its weights and activations.
            products: Compute fc6 as a matrix product.
        """
        super().__init__()
        self.net, self.dtype, self.memory_format = net, dtype, memory_format
        self.products = products
        self.register_buffer("mean", channel_mean(net.spec.preprocessing))
        for name, layer in net.named_children():
            layer.to(torch.float32 if name == "fc8" else dtype)
            layer.to(memory_format=memory_format)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Score a batch.

        Args:
            pixels: (N, 3, H, W) uint8 RGB.

        Returns:
            (N, classes) posterior and (N, classes, h, w) score map, float32.
        """
        values = self.start(pixels)
        for name, layer in self.net.named_children():
            values = self.run(name, layer, values)
        return posterior(values), values

    def start(self, pixels: Tensor) -> Tensor:
        """What the first layer takes: (N, 3, H, W) float32, minus the mean."""
        return (pixels.float() - self.mean).contiguous(memory_format=self.memory_format)

    def run(self, name: str, layer: nn.Module, values: Tensor) -> Tensor:
        """The output of one layer; a ReLU overwrites its input."""
        # Squares of LRN overflow half precision
        is_float32 = name == "fc8" or isinstance(layer, nn.LocalResponseNorm)
        values = values.float() if is_float32 else values.to(self.dtype)
        if self.products and name == "fc6" and isinstance(layer, nn.Conv2d):
            return fc_channels_last(layer, values)
        output: Tensor = layer(values)
        return output


class TorchRuntime:
    """Weights in PyTorch, eager or compiled."""

    artifact = None

    def __init__(
        self,
        net: VGG,
        device: str = "cpu",
        threads: int = 1,
        precision: str = "fp32",
        compiled: bool = False,
        layout: torch.memory_format | None = None,
        where: str = "",
    ):
        """Take over a net: its layers are moved and converted.

        Args:
            net: The net.
            device: "cpu" or "cuda".
            threads: On the CPU.
            precision: Key of TYPES.
            compiled: Use torch.compile.
            layout: Of weights and activations; by default the one that is usually fastest.
            where: The file with the weights, for messages.
        """
        torch.set_num_threads(threads)
        torch.backends.cudnn.allow_tf32 = False  # on by default; float32 means float32 here
        self.name = "torch-compile" if compiled else "torch"
        self.spec, self.threads, self.precision = net.spec, threads, precision
        self.outputs = all_outputs(net.spec)
        self.device = pick_device(device)
        layout = layout or memory_format(self.device, precision)
        self.settings, self.where = {"layout": str(layout)}, where or f"net {net.spec.arch}"
        products = self.device == "cpu" and layout == torch.channels_last and not compiled
        module = _Forward(net.eval(), TYPES[precision], layout, products).to(device)
        self.net, self._module = net, module
        self.forward: Callable[[Tensor], tuple[Tensor, Tensor]] = module
        if compiled:  # for any size at once: PyTorch silently gives up after some eight single ones
            self.forward = torch.compile(module, dynamic=True)

    def layer_outputs(self, pixels: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Run the net layer by layer, eager even where the runtime is compiled.

        Args:
            pixels: (N, 3, H, W) uint8 RGB on the device.

        Yields:
            Name and output of each layer, before the next layer may overwrite it. Dropout, which
            does nothing here, is left out.
        """
        yield from self.layers_from(self.start(pixels))

    def start(self, pixels: Tensor) -> Tensor:
        """What the first layer takes, (N, 3, H, W) float32 on the device."""
        return self._module.start(pixels)

    def layers_from(self, values: Tensor, first: str = "conv1_1") -> Iterator[tuple[str, Tensor]]:
        """Run the net from a layer on, as `layer_outputs`.

        Args:
            values: What the layer takes; a ReLU overwrites it.
            first: Name of the layer.

        Yields:
            As `layer_outputs`.
        """
        has_started = False
        for name, layer in self.net.named_children():
            has_started = has_started or name == first
            if has_started and not isinstance(layer, nn.Dropout):
                values = self._module.run(name, layer, values)
                yield name, values

    @torch.inference_mode()
    def on_device(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Score a batch that is on the device, as `DeviceRuntime`."""
        return self.forward(pixels)

    def __call__(self, images: np.ndarray) -> Scores:
        """Score a batch, as `Runtime`."""
        return give_scores(self, images)

    @torch.inference_mode()
    def run(self, images: np.ndarray, outputs: Sequence[str]) -> Outputs:
        """Give some outputs, as `Runtime`. Those of layers are computed eagerly."""
        require(self.where, self.outputs, outputs)
        pixels = torch.from_numpy(images).to(self.device)
        if set(outputs) <= set(SCORES):
            scores = dict(zip(SCORES, self.on_device(pixels), strict=True))
            found = to_host({name: scores[name] for name in outputs})
        else:
            found = self._run_layers(pixels, outputs)
        return checked({name: found[name] for name in outputs}, images, self.spec, self.where)

    def _run_layers(self, pixels: Tensor, outputs: Sequence[str]) -> Outputs:
        """Outputs of layers and scores, each in host memory before the next layer runs."""
        found: Outputs = {}
        for name, values in self.layer_outputs(pixels):
            given = {name: values}
            if name == "fc8":
                given |= {map_name(self.spec): values, "posterior": posterior(values)}
            for each in given.keys() & set(outputs):
                # a ReLU overwrites its input, which is where the CPU's results lie
                found |= to_host({each: given[each].clone()})
            if len(found) == len(set(outputs)):
                break
        return found
