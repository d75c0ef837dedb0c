"""One update of the weights: forward, backward, step; on one process or on all processes of a job."""

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from train.feed.examples import Examples
from train.recipe.config import TrainConfig
from train.step.trainee import Trainee, dropout_masks, mixed
from vgg_deploy.job import Job, explain_lost_process
from vgg_deploy.net.model import VGG


class Updater:
    """The trainee with its optimiser."""

    def __init__(self, net: VGG, head_only: bool, config: TrainConfig, job: Job, compiled: bool):
        """Args: net, on its device, laid out by `shape_for_training`; head_only, train fc6-fc8 on pool5; compiled, by torch.compile."""
        self.net, self.config, self.job = net, config, job
        self.device = net.fc8.weight.device
        self.trainee: nn.Module = Trainee(net, head_only)
        self.optimiser = sgd(self.trainee, config)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "fp16")
        self.forward: nn.Module = self.trainee
        if job.world > 1:
            with explain_lost_process():
                self.forward = DistributedDataParallel(
                    self.trainee,
                    device_ids=[self.device] if self.device.type == "cuda" else None,
                    gradient_as_bucket_view=True,
                )
        if compiled:
            self.forward = torch.compile(self.forward)

    def step(self, examples: Examples, number: int, images: int, lr: float) -> Tensor:
        """Change the weights once.

        Args: number, of the step in the run, from 0; images, in the batches of all processes together; lr, learning rate.
        Returns: (4,) float64 on the device: sums over this process's images of loss, top-1 and top-5 errors, and how many.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = lr * group["rate"]
        share = self.config.batch // self.job.world
        masks = dropout_masks(self.net, self.config, number, examples.rows + self.job.rank * share)
        self.optimiser.zero_grad(set_to_none=True)
        with explain_lost_process():
            with mixed(self.device.type, self.config.precision):
                logits = self.forward(examples.inputs, masks)
            loss = cross_entropy(logits.float(), examples.labels, reduction="sum")
            # DDP averages over processes; their batches may differ in size where unreadable images were left out
            self.scaler.scale(loss * (self.job.world / images)).backward()
            self.scaler.step(self.optimiser)
            self.scaler.update()
        return _tally(loss.detach(), logits.detach(), examples.labels)

    def state(self) -> dict:
        """What a later process needs to go on."""
        return {"optimiser": self.optimiser.state_dict(), "scaler": self.scaler.state_dict()}

    def load_state(self, state: dict | None) -> None:
        """Go on from what the main process was given; the other processes get it from there."""
        if self.job.is_main:
            self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(self.job.on_main(lambda: state["scaler"]))
        for weights in self.trainee.parameters():
            kept = self.optimiser.state[weights]
            kept["momentum_buffer"] = kept[
                "momentum_buffer"
            ].clone()  # a mapped file would be held open, and its place on the disk
            self.job.broadcast(kept["momentum_buffer"])

    def overflows(self) -> bool:
        """Whether float16's gradients were not finite so often that the loss scale, halved each time, has come below one."""
        return self.scaler.is_enabled() and self.scaler.get_scale() < 1

    def weights_are_finite(self) -> bool:
        return all(bool(weights.isfinite().all()) for weights in self.trainee.parameters())


def sgd(trainee: nn.Module, config: TrainConfig) -> torch.optim.SGD:
    """Momentum SGD; the decay is L2 in the gradient, as in the paper's Caffe. Each group's "rate" multiplies the learning rate."""
    by_kind = {
        kind: [
            p for name, p in trainee.named_parameters() if p.requires_grad and name.endswith(kind)
        ]
        for kind in ("weight", "bias")
    }
    groups = [
        {"params": by_kind["weight"], "weight_decay": config.weight_decay, "rate": 1.0},
        {"params": by_kind["bias"], "weight_decay": config.bias_decay, "rate": config.bias_lr},
    ]
    optimiser = torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, fused=True)
    for weights in trainee.parameters():
        # as the rule has it before the first step; PyTorch would leave memory as it finds it where float16 skips that step
        optimiser.state[weights]["momentum_buffer"] = torch.zeros_like(weights)
    return optimiser


def _tally(loss: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    hits = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]
    n = torch.full((), len(labels), dtype=torch.float64, device=loss.device)
    return torch.stack([loss.double(), *(n - hits[:, :k].any(1).sum() for k in (1, 5)), n])
