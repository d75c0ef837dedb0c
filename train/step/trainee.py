"""A net as training runs it: at the crop's own size, with dropout that depends on seed and step alone."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear, relu

from train.recipe.config import TrainConfig
from vgg_deploy.net.model import VGG, memory_format

TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}  # of autocast


class Trainee(nn.Module):
    """The weights of `net`, or of its head alone, for inputs whose score map is 1x1.

    There fc6 sees its whole input at once: a matrix product, several times faster on a CPU than the same convolution.
    """

    def __init__(self, net: VGG, head_only: bool):
        super().__init__()
        self.trunk = nn.Identity() if head_only else net.trunk
        self.head = nn.ModuleDict(
            {name: layer for name, layer in net.head.named_children() if name.startswith("fc")}
        )

    def forward(self, inputs: Tensor, masks: list[Tensor]) -> Tensor:
        """Logits.

        Args: inputs, (N, 3, crop, crop) float RGB minus mean, or (N, C, crop/32, crop/32) of pool5 for the head alone;
            masks, of `dropout_masks`, for fc6 and fc7. Returns: (N, classes).
        """
        values = self.trunk(inputs).flatten(1)
        for layer, mask in zip((self.head["fc6"], self.head["fc7"]), masks, strict=True):
            values = relu(linear(values, layer.weight.flatten(1), layer.bias)) * mask
        fc8 = self.head["fc8"]
        return linear(values, fc8.weight.flatten(1), fc8.bias)


def dropout_masks(net: VGG, config: TrainConfig, step: int, rows: Tensor) -> list[Tensor]:
    """What fc6's and fc7's outputs are multiplied with: 0, or 1 / (1 - p).

    Drawn anew for each step for the whole batch, of which a process takes the rows of its images: so nothing has to be
    remembered for a resumed run, and neither the number of processes nor an image left out changes another image's mask.
    Args: step, counted over the run; rows, (N,) places of this process's images in the whole batch, on the net's device.
    Returns: two (N, outputs) float tensors.
    """
    masks = []
    for place, name in enumerate(("fc6", "fc7")):
        outputs = net.get_submodule(name).out_channels
        if not config.dropout:
            masks.append(torch.ones((), device=rows.device))
            continue
        # mixed, because PyTorch's generator on the CPU looks at the lower 32 bits only
        seed = (
            int(np.random.SeedSequence((config.seed, step, place)).generate_state(1, np.uint64)[0])
            >> 1
        )
        draw = torch.rand(
            config.batch,
            outputs,
            device=rows.device,
            generator=torch.Generator(rows.device).manual_seed(seed),
        )
        masks.append((draw[rows] >= config.dropout) / (1 - config.dropout))
    return masks


def layout(device: str, precision: str) -> torch.memory_format:
    """How images and the trunk's weights lie in memory where gradients are taken: as in `memory_format`, but on CPUs without
    AVX-512 convolutions run backwards faster in planes."""
    if device == "cpu" and torch.backends.cpu.get_cpu_capability() != "AVX512":
        return torch.contiguous_format
    return memory_format(device, precision)


def shape_for_training(net: VGG, device: str, precision: str) -> VGG:
    """Move a net and lay the trunk's weights out as its convolutions run fastest; fc6-fc8 stay rows for matrix products."""
    net.to(device)
    net.trunk.to(memory_format=layout(device, precision))
    return net


def shaped(images: Tensor, precision: str) -> Tensor:
    """(N, 3, H, W) laid out as `shape_for_training` lays the weights."""
    return images.contiguous(memory_format=layout(images.device.type, precision))


def mixed(device: str, precision: str) -> torch.autocast:
    """A block in which convolutions and products run in this precision. Weights and their updates are float32."""
    return torch.autocast(device, TYPES.get(precision), enabled=precision in TYPES)
