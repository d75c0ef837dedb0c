"""The PyTorch net itself: in float32 the reference that every exported file is compared with."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from vgg_deploy.machine import pick_device
from vgg_deploy.net.model import VGG, memory_format, posterior
from vgg_deploy.runtimes.contract import Scores, checked, to_host

TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


ROWS = 256  # positions of a score map that are multiplied at once; as many rows of fc6's input take 26 MB


class _Forward(nn.Module):
    """Mean subtraction to posterior. As in exported graphs, the mean, LRN, fc8 and what follows are float32."""

    def __init__(
        self, net: VGG, dtype: torch.dtype, memory_format: torch.memory_format, products: bool
    ):
        """Args: products, compute fc6 as a matrix product."""
        super().__init__()
        self.net, self.dtype, self.memory_format, self.products = (
            net,
            dtype,
            memory_format,
            products,
        )
        self.register_buffer(
            "mean", torch.tensor(net.spec.preprocessing.mean, dtype=torch.float32).view(1, 3, 1, 1)
        )
        for name, layer in net.named_children():
            layer.to(torch.float32 if name == "fc8" else dtype, memory_format=memory_format)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        images = (pixels.float() - self.mean).contiguous(memory_format=self.memory_format)
        for name, layer in self.net.named_children():
            wide = name == "fc8" or isinstance(
                layer, nn.LocalResponseNorm
            )  # whose squares overflow half precision
            images = images.float() if wide else images.to(self.dtype)
            images = product(layer, images) if self.products and name == "fc6" else layer(images)
        return posterior(images), images


def product(fc: nn.Conv2d, maps: Tensor) -> Tensor:
    """A convolution without padding, stride 1, in channels-last order, as products of matrices.

    oneDNN's convolution lays the weights out anew in every call; of fc6's 411 MB that takes longer than one picture's whole trunk.
    Args: maps, (N, C, H, W). Returns: (N, O, H - k + 1, W - k + 1).
    """
    k = fc.kernel_size[0]
    windows = maps.unfold(2, k, 1).unfold(3, k, 1).permute(0, 2, 3, 4, 5, 1)  # N, h, w, k, k, C
    weights = fc.weight.permute(0, 2, 3, 1).flatten(1)  # a view, in this order
    parts = [
        linear(part.flatten(3), weights, fc.bias)
        for part in windows.split(max(1, ROWS // (windows.shape[1] * windows.shape[2])))
    ]
    return torch.cat(parts).permute(0, 3, 1, 2)


class TorchRuntime:
    """Weights in PyTorch, eagerly or compiled."""

    artifact = None

    def __init__(
        self, net: VGG, device: str = "cpu", threads: int = 1, precision: str = "fp32", compiled: bool = False,
        layout: torch.memory_format | None = None, where: str = "",
    ):  # fmt: skip
        """Takes `net` over: its layers are moved and converted.

        Args: precision, one of TYPES; layout, by default the one that is usually fastest; where, the file with
        the weights, for messages.
        """
        torch.set_num_threads(threads)
        torch.backends.cudnn.allow_tf32 = False  # on by default; float32 means float32 here
        self.name = "torch-compile" if compiled else "torch"
        self.spec, self.device, self.threads, self.precision = (
            net.spec,
            pick_device(device),
            threads,
            precision,
        )
        layout = layout or memory_format(self.device, precision)
        self.settings, self.where = {"layout": str(layout)}, where or f"net {net.spec.arch}"
        products = self.device == "cpu" and layout == torch.channels_last and not compiled
        self.forward = _Forward(net.eval(), TYPES[precision], layout, products).to(device)
        if (
            compiled
        ):  # for any size at once: PyTorch gives up after some eight single ones, without a word
            self.forward = torch.compile(self.forward, dynamic=True)

    @torch.inference_mode()
    def on_device(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return self.forward(pixels)

    def __call__(self, images: np.ndarray) -> Scores:
        outputs = to_host(self.on_device(torch.from_numpy(images).to(self.device)))
        return checked(outputs, images, self.spec, self.where)
