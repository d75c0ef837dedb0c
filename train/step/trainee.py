"""Runs a net for training: at the crop's own size, with dropout that depends on seed and step."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from train.recipe.config import TrainConfig
from vgg_deploy.net.fully_connected import fc_at_crop_size
from vgg_deploy.net.model import VGG, memory_format

TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}  # of autocast
DROPOUT_LAYERS = ("fc6", "fc7")


class Trainee(nn.Module):
    """The weights of a net, or of its head alone, for inputs whose score map is 1x1.

    There fc6 sees its whole input at once. It is a matrix product, several times faster on a CPU
    than the same convolution.
    """

    def __init__(self, net: VGG, head_only: bool):
        """Share the weights of a net.

        Args:
            net: The net.
            head_only: Whether to leave out the trunk; inputs are pool5 then.
        """
        super().__init__()
        self.trunk = nn.Identity() if head_only else net.trunk
        self.fc6 = net.convolution("fc6")
        self.fc7 = net.convolution("fc7")
        self.fc8 = net.convolution("fc8")

    def forward(self, inputs: Tensor, masks: list[Tensor]) -> Tensor:
        """Compute the logits.

        Args:
            inputs: (N, 3, crop, crop) float RGB minus mean, or (N, C, crop/32, crop/32) of pool5
                for the head alone.
            masks: Of `dropout_masks`, for fc6 and fc7.

        Returns:
            (N, classes).
        """
        values = self.trunk(inputs).flatten(1)
        for layer, mask in zip((self.fc6, self.fc7), masks, strict=True):
            values = relu(fc_at_crop_size(layer, values)) * mask
        return fc_at_crop_size(self.fc8, values)


def dropout_masks(net: VGG, config: TrainConfig, step: int, rows: Tensor) -> list[Tensor]:
    """Draw the factors of the outputs of fc6 and fc7: 0, or 1 / (1 - p).

    They are drawn in each step for the whole batch, of which a process takes the rows of its
    images. So a resumed run needs no generator's state, and neither the number of processes nor a
    skipped image changes another image's mask.

    Args:
        net: For the sizes of its layers.
        config: Dropout p, batch and seed.
        step: Counted over the run from 0.
        rows: (N,) int64, positions of this process's images in the whole batch, on the net's
            device.

    Returns:
        Two (N, outputs) float32 tensors; scalars of 1 without dropout.
    """
    if not config.dropout:
        return [torch.ones((), device=rows.device) for _ in DROPOUT_LAYERS]
    masks = []
    for layer, name in enumerate(DROPOUT_LAYERS):
        outputs = net.convolution(name).out_channels
        generator = torch.Generator(rows.device).manual_seed(_seed(config.seed, step, layer))
        draw = torch.rand(config.batch, outputs, device=rows.device, generator=generator)
        masks.append((draw[rows] >= config.dropout) / (1 - config.dropout))
    return masks


def _seed(seed: int, step: int, layer: int) -> int:
    """63 bits, mixed: PyTorch's generator on the CPU reads the lower 32 bits only."""
    mixed_seed = np.random.SeedSequence((seed, step, layer)).generate_state(1, np.uint64)
    return int(mixed_seed[0]) >> 1


def layout(device: str, precision: str) -> torch.memory_format:
    """How images and the trunk's weights lie in memory where gradients are taken.

    As `memory_format`, but convolutions run backwards faster in planes on CPUs without AVX-512.
    """
    if device == "cpu" and torch.backends.cpu.get_cpu_capability() != "AVX512":
        return torch.contiguous_format
    return memory_format(device, precision)


def shape_for_training(net: VGG, device: str, precision: str) -> VGG:
    """Move a net to its device and lay the trunk's weights out for its fastest convolutions.

    The weights of fc6 to fc8 stay rows, for matrix products.

    Args:
        net: Changed in place.
        device: "cpu" or "cuda".
        precision: One of `PRECISIONS`.

    Returns:
        The same net.
    """
    net.to(device)
    net.trunk.to(memory_format=layout(device, precision))
    return net


def shaped(images: Tensor, precision: str) -> Tensor:
    """Lay images out as `shape_for_training` lays the weights.

    Args:
        images: (N, 3, H, W) on the net's device.
        precision: One of `PRECISIONS`.

    Returns:
        (N, 3, H, W), a copy if the layout differs.
    """
    return images.contiguous(memory_format=layout(images.device.type, precision))


def mixed(device: str, precision: str) -> torch.autocast:
    """A block in which convolutions and products run in this precision.

    Weights and their updates stay float32.

    Args:
        device: "cpu" or "cuda".
        precision: One of `PRECISIONS`.
    """
    return torch.autocast(device, TYPES.get(precision), enabled=precision in TYPES)
