"""Decides how many images go through the net at once within an update.

The parts of a batch add up their gradients, and the weights change once. No layer mixes images and
the loss is a sum over them, so this is the update of the whole batch but for the order of sums.
"""

from collections.abc import Callable

import torch
from torch import nn

from train.recipe.config import AUTO, TrainConfig
from train.step.activation_bytes import HALF, kept_bytes, layers_of, peak_bytes
from train.step.free_memory import free_bytes, give_back
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.job import Job
from vgg_deploy.net.model import VGG

# Of what is free, by device. The rest is for workspaces of convolutions, and on a CPU for the
# loader and for gaps in the heap: D in bfloat16 took 58 MiB per image there, and 41 are counted.
SHARE_OF_FREE = {"cpu": 0.55, "cuda": 0.8}
MIB = 2**20


class MicroBatch:
    """The number of images of a part, which may fall while a run goes on.

    Attributes:
        size: Images of a part; 0 until the first update.
    """

    def __init__(self, config: TrainConfig, job: Job, log: Callable[[str], None]):
        """Start without a size.

        Args:
            config: The recipe.
            job: The processes that train together.
            log: Prints a line.
        """
        self.config, self.job, self.log = config, job, log
        self.share = config.batch // job.world
        self.size = 0

    def choose(self, net: VGG, trainee: nn.Module, head_only: bool) -> None:
        """Choose the size for the first update, when weights and momentum are in memory already.

        Args:
            net: On its device.
            trainee: The part that is trained; its gradients will take memory too.
            head_only: Whether fc6-fc8 alone are trained.

        Raises:
            InputError: If it is to fit the free memory and the system does not say what is free.
        """
        wanted = self.config.micro_batch
        if wanted is None:
            self.size = self.share
        elif wanted == AUTO:
            self.size = self._fitting(net, trainee, head_only)
        else:
            self.size = min(int(wanted), self.share)
            self._report("")

    def _fitting(self, net: VGG, trainee: nn.Module, head_only: bool) -> int:
        """The largest equal parts that fit into the free memory; prints them."""
        device = net.convolution("fc8").weight.device
        free = free_bytes(device, self.job)
        if free is None:
            raise InputError(
                "--micro-batch auto: this system does not say how much memory is free; "
                "give a number of images"
            )
        layers = layers_of(self.config, net.spec.outputs, head_only)
        spare = int(SHARE_OF_FREE[device.type] * free) - fixed_bytes(trainee, self.config)
        most = max(1, min(self.share, spare // peak_bytes(layers)))
        parts = -(-self.share // most)
        self.size = -(-self.share // parts)
        self._report(
            f": an image keeps {kept_bytes(layers) / MIB:.1f} MiB for its backward pass, "
            f"{free / MIB:,.0f} MiB are free"
        )
        return self.size

    def _report(self, why: str) -> None:
        parts = -(-self.share // self.size)
        self.log(f"Micro-batch {self.size}, {parts} parts an update of {self.share}{why}")

    def parts(self, images: int) -> list[slice]:
        """Cut a batch into parts that differ by one image at most.

        Args:
            images: Of this process; 0 where none could be read.

        Returns:
            One part or more.
        """
        count = max(1, -(-images // self.size))
        ends = [images * part // count for part in range(count + 1)]
        return [slice(*pair) for pair in zip(ends, ends[1:], strict=False)]

    def halve(self, images: int, step: int, device: torch.device, reason: str) -> None:
        """Take smaller parts after memory ran out in an update, which is then computed again.

        Args:
            images: Of this process in this update.
            step: Counted from 1.
            device: Gets back the memory that PyTorch keeps for later.
            reason: What PyTorch said.

        Raises:
            CheckFailed: If parts may not or cannot be smaller.
        """
        tried = max(part.stop - part.start for part in self.parts(images))
        where = f"memory ran out at step {step} with {tried} images at once ({reason:.120})"
        if self.config.micro_batch is None:
            raise CheckFailed(
                f"{where}; add --micro-batch auto, which computes the same update in parts"
            )
        if tried <= 1:
            raise CheckFailed(f"{where}; use a smaller --crop or --width, or more memory")
        self.size = tried // 2
        give_back(device)
        self.log(
            f"Memory ran out at step {step} with {tried} images at once: computing that update "
            f"again in parts of {self.size}"
        )


def fixed_bytes(trainee: nn.Module, config: TrainConfig) -> int:
    """What an update needs whatever its images: gradients, and weights in half precision.

    Args:
        trainee: Its weights are trained.
        config: The recipe.
    """
    trained = sum(weights.nbytes for weights in trainee.parameters() if weights.requires_grad)
    halves = sum(weights.numel() * HALF for weights in trainee.parameters())
    return trained + (0 if config.precision == "fp32" else halves)
