"""Updates the weights once: forward, backward, step; in all processes of a job together."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from train.feed.examples import Examples
from train.recipe.config import TrainConfig
from train.step.free_memory import is_out_of_memory
from train.step.micro_batch import MicroBatch
from train.step.objective import objective_of
from train.step.saved_state import check_saved_state
from train.step.trainee import Trainee, dropout_masks, mixed
from vgg_deploy.errors import CheckFailed
from vgg_deploy.job import Job, explain_lost_process
from vgg_deploy.net.model import VGG


class Updater:
    """A net in training with its optimiser.

    Attributes:
        net: The net, on its device.
        config: The recipe.
        job: The processes that train together.
        device: Of the weights.
        trainee: The part of the net that is trained.
        optimiser: Momentum SGD over the trainee's weights.
        scaler: Of the loss, for float16.
        objective: What the outputs are trained for.
        micro_batch: How many images go through the net at once.
        forward: Computes outputs from inputs and dropout masks, see `Trainee.forward`.
    """

    def __init__(
        self,
        net: VGG,
        head_only: bool,
        config: TrainConfig,
        job: Job,
        compiled: bool,
        log: Callable[[str], None] = print,
    ):
        """Prepare the updates; the learning rate is that of the recipe's start.

        Args:
            net: On its device, laid out by `shape_for_training`.
            head_only: Train fc6-fc8 on pool5.
            config: The recipe.
            job: The processes that train together.
            compiled: Whether to use torch.compile.
            log: Prints a line about parts of a batch.
        """
        self.net, self.config, self.job = net, config, job
        self.device = net.convolution("fc8").weight.device
        self.head_only = head_only
        self.trainee: nn.Module = Trainee(net, head_only)
        self.optimiser = sgd(self.trainee, config)
        self.objective = objective_of(config)
        self.micro_batch = MicroBatch(config, job, log)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "fp16")
        self.forward: Callable[[Tensor, list[Tensor]], Tensor] = self.trainee
        self.shared: DistributedDataParallel | None = None
        if job.world > 1:
            with explain_lost_process():
                self.forward = self.shared = DistributedDataParallel(
                    self.trainee,
                    device_ids=[self.device] if self.device.type == "cuda" else None,
                    # NCCL's own group on GPUs, whose waits PyTorch ends
                    process_group=job.steps.group
                    if job.steps and self.device.type == "cpu"
                    else None,
                    gradient_as_bucket_view=True,
                )
        if compiled:
            self.forward = torch.compile(self.forward)

    @property
    def learning_rate(self) -> float:
        """The rate of the weights; that of the biases is a multiple of it."""
        return float(self.optimiser.param_groups[0]["lr"])

    def set_learning_rate(self, lr: float) -> None:
        """Set the rate of the updates that follow.

        Args:
            lr: Of the weights.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = lr * group["rate"]

    def step(self, examples: Examples, number: int, images: int) -> Tensor:
        """Change the weights once.

        Args:
            examples: This process's part of the batch.
            number: Of the step in the run, from 0.
            images: Readable images in the batch, of all processes together.

        Returns:
            (4,) float64 on the device: sums over this process's images of loss and of the two
            numbers of `Measures`, and the number of images.

        Raises:
            CheckFailed: Memory ran out and the parts of the batch may not or cannot be smaller.
        """
        if not self.micro_batch.size:
            self.micro_batch.choose(self.net, self.trainee, self.head_only)
        share = self.config.batch // self.job.world
        # of the whole batch: how it is cut changes no image's mask
        masks = dropout_masks(self.net, self.config, number, examples.rows + self.job.rank * share)
        with self.job.explained_waits():
            while isinstance(tally := self._gradients(examples, masks, images), str):
                self.micro_batch.halve(len(examples.labels), number + 1, self.device, tally)
            self.scaler.step(self.optimiser)
            self.scaler.update()
        return tally

    def _gradients(self, examples: Examples, masks: list[Tensor], images: int) -> Tensor | str:
        """Add up the gradients of all parts of the batch, from zero.

        Args:
            examples: As of `step`.
            masks: Of dropout, for the images of `examples`.
            images: As of `step`.

        Returns:
            As `step`. If memory ran out, what PyTorch said; what was computed until then is
            dropped.
        """
        self.optimiser.zero_grad(set_to_none=True)
        tallies: list[Tensor] = []
        *others, last = self.micro_batch.parts(len(examples.labels))
        try:
            for part in others:
                with self.shared.no_sync() if self.shared else nullcontext():
                    tallies.append(self._part(examples.part(part), masks, part, images))
            tallies.append(self._part(examples.part(last), masks, last, images))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if self.shared and len(tallies) == len(others):
                raise CheckFailed(
                    f"memory ran out with {last.stop - last.start} images at once, while the "
                    "processes exchanged gradients; resume with a smaller --micro-batch"
                ) from None
            # the text alone: the error holds the arrays of its part
            reason = str(error).partition("\n")[0]
        else:
            return torch.stack(tallies).sum(0)
        self.optimiser.zero_grad(set_to_none=True)  # frees what the parts had added up
        return reason

    def _part(self, examples: Examples, masks: list[Tensor], part: slice, images: int) -> Tensor:
        """Add the gradients of a part.

        Args:
            examples: The part.
            masks: Of dropout, for all parts.
            part: Its place among them.
            images: As of `step`.

        Returns:
            As `step`.
        """
        own_masks = [mask[part] if mask.dim() else mask for mask in masks]
        with mixed(self.device.type, self.config.precision):
            outputs = self.forward(examples.inputs, own_masks).float()
        loss = self.objective.loss(outputs, examples)
        # DDP averages over processes; their batches differ in size where images were skipped
        scaled = self.scaler.scale(loss * (self.job.world / images))
        scaled.backward()  # type: ignore[no-untyped-call]  # PyTorch states no types
        first, second = self.objective.judged(outputs.detach(), examples)
        images_here = torch.full_like(first, len(examples.labels))
        return torch.stack([loss.detach().double(), first, second, images_here])

    def state(self) -> dict[str, dict[str, Any]]:
        """What a resumed run needs, apart from the weights."""
        return {"optimiser": self.optimiser.state_dict(), "scaler": self.scaler.state_dict()}

    def load_state(self, state: Mapping[str, Any] | None) -> None:
        """Continue from a checkpoint.

        Args:
            state: What `state` returned, in the main process. None in the others, which get it
                from there.

        Raises:
            InputError: If the state is not that of such a run.
        """
        if state is not None:
            check_saved_state(state, self.state())
            self.optimiser.load_state_dict(state["optimiser"])
        scaler: dict[str, Any] = {} if state is None else state["scaler"]
        self.scaler.load_state_dict(self.job.gather(scaler)[0])
        for weights in self.trainee.parameters():
            entry = self.optimiser.state[weights]
            # a copy: a view of a mapped file would keep the file open, and its space on disk
            entry["momentum_buffer"] = entry["momentum_buffer"].clone()
            self.job.broadcast(entry["momentum_buffer"])

    def overflows(self) -> bool:
        """Whether float16's gradients overflow at any loss scale.

        The scale is halved at each overflow. Below one, there is no more to gain.
        """
        return self.scaler.is_enabled() and self.scaler.get_scale() < 1

    def weights_are_finite(self) -> bool:
        """Whether no trained weight is NaN or infinite."""
        return all(bool(weights.isfinite().all()) for weights in self.trainee.parameters())


def sgd(trainee: nn.Module, config: TrainConfig) -> torch.optim.SGD:
    """Momentum SGD (section 3.1); the decay is L2 in the gradient, as in the paper's Caffe.

    Args:
        trainee: Its weights and biases are updated.
        config: Rates, momentum and decays.

    Returns:
        An optimiser with a group of weights and a group of biases. The "rate" of a group multiplies
        the learning rate.
    """
    groups = [
        {
            "params": _parameters(trainee, "weight"),
            "weight_decay": config.weight_decay,
            "rate": 1.0,
            "lr": config.lr,
        },
        {
            "params": _parameters(trainee, "bias"),
            "weight_decay": config.bias_decay,
            "rate": config.bias_lr,
            "lr": config.lr * config.bias_lr,
        },
    ]
    optimiser = torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=True)
    for weights in trainee.parameters():
        # zero, as the rule has it before the first step; PyTorch would leave the memory
        # uninitialised where float16 skips that step
        optimiser.state[weights]["momentum_buffer"] = torch.zeros_like(weights)
    return optimiser


def _parameters(trainee: nn.Module, kind: str) -> list[nn.Parameter]:
    return [
        parameter
        for name, parameter in trainee.named_parameters()
        if parameter.requires_grad and name.endswith(kind)
    ]
