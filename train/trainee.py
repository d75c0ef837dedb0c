"""A net as training runs it: at the crop's own size, with dropout that depends on seed and step alone."""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, relu

from train.config import TrainConfig
from vgg_deploy.model import VGG, memory_format

TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}  # of autocast


class Trainee(nn.Module):
    """The weights of `net`, or of its head alone, for inputs whose score map is 1x1.

    There fc6 sees its whole input at once: a matrix product, several times faster on a CPU than the same convolution.
    """

    def __init__(self, net: VGG, head_only: bool):
        super().__init__()
        self.trunk = nn.Identity() if head_only else net.trunk
        self.head = nn.ModuleDict({name: layer for name, layer in net.head.named_children() if name.startswith("fc")})

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


def dropout_masks(net: VGG, config: TrainConfig, step: int, first: int, count: int, device: torch.device) -> list[Tensor]:
    """What fc6's and fc7's outputs are multiplied with: 0, or 1 / (1 - p).

    Drawn anew for each step for the whole batch, of which a process takes its rows: so nothing has to be remembered
    for a resumed run, and the number of processes does not matter.
    Args: step, counted over the run; first, count, this process's rows. Returns: two (count, outputs) float tensors.
    """
    masks = []
    for place, name in enumerate(("fc6", "fc7")):
        outputs = net.get_submodule(name).out_channels
        if not config.dropout:
            masks.append(torch.ones((), device=device))
            continue
        seed = (config.seed * 2**32 + step) * 2 + place & 2**63 - 1
        draw = torch.rand(config.batch, outputs, device=device, generator=torch.Generator(device).manual_seed(seed))
        masks.append((draw[first : first + count] >= config.dropout) / (1 - config.dropout))
    return masks


def shape_for_training(net: VGG, device: str, precision: str) -> VGG:
    """Move a net and lay the trunk's weights out as its convolutions run fastest; fc6-fc8 stay rows for matrix products."""
    net.to(device)
    net.trunk.to(memory_format=memory_format(device, precision))
    return net


def shaped(images: Tensor, precision: str) -> Tensor:
    """(N, 3, H, W) laid out as `shape_for_training` lays the weights."""
    return images.contiguous(memory_format=memory_format(images.device.type, precision))


def mixed(device: str, precision: str) -> torch.autocast:
    """A block in which convolutions and products run in this precision. Weights and their updates are float32."""
    return torch.autocast(device, TYPES.get(precision), enabled=precision in TYPES)
