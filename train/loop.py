"""The training loop, top to bottom."""

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from train.config import TrainConfig, learning_rate
from train.run import Run
from vgg_deploy.errors import CheckFailed
from vgg_deploy.model import VGG
from vgg_deploy.progress import progress


class Examples(NamedTuple):
    """One update's input, ready for `trainee`, on its device."""

    inputs: Tensor  # (N, ...) float32
    labels: Tensor  # (N,) int64


class Errors(NamedTuple):
    """Validation errors in per cent."""

    top1: float
    top5: float


@dataclass
class State:
    """How far a run has come; everything here goes into last.pt."""

    step: int = 0
    errors: list[float] = field(default_factory=list)  # validation top-1 error after each epoch
    elapsed_s: float = 0.0


def fit(
    net: VGG,
    trainee: nn.Module,
    batches: Iterator[Examples],
    steps_an_epoch: int,
    validate: Callable[[], Errors],
    config: TrainConfig,
    run: Run,
    optimiser: torch.optim.Optimizer,
    state: State,
) -> bool:
    """Train `trainee`, which is `net` or a part of it, until the last epoch or an interrupt.

    Returns: whether it came to the end; after an interrupt last.pt holds the step it stopped at.
    Raises: CheckFailed if the loss is no longer finite; the last good checkpoints stay.
    """
    def save_last() -> None:
        state.elapsed_s += time.monotonic() - begun[0]
        begun[0] = time.monotonic()
        held = {**state.__dict__, "optimiser": optimiser.state_dict(), "rng": torch.get_rng_state()}
        run.save_last(net, held)

    begun = [time.monotonic()]
    with _interrupt_noted() as interrupted:
        for epoch in range(state.step // steps_an_epoch, config.epochs):
            lr = learning_rate(config, state.errors)
            for group in optimiser.param_groups:
                group["lr"] = lr
            trainee.train()
            first = state.step - epoch * steps_an_epoch
            running, images, epoch_begun = torch.zeros(4, dtype=torch.float64), 0, time.monotonic()
            with progress(f"epoch {epoch + 1}/{config.epochs}", steps_an_epoch, first) as bar:
                for _ in range(first, steps_an_epoch):
                    examples = next(batches)
                    logits = trainee(examples.inputs).flatten(1)
                    loss = cross_entropy(logits, examples.labels)
                    optimiser.zero_grad(set_to_none=True)
                    loss.backward()
                    optimiser.step()
                    state.step += 1
                    running += _tally(loss.detach(), logits.detach(), examples.labels)
                    images += len(examples.labels)
                    loss_so_far, top1, top5 = (running[:3] / running[3]).tolist()
                    if not math.isfinite(loss_so_far):
                        raise CheckFailed(
                            f"the loss is {loss_so_far} at step {state.step} (LR {lr:g}); {run.folder} keeps the last good checkpoints. "
                            "Lower --lr, or choose another --init (he and glorot are made for deep nets)"
                        )
                    speed = images / (time.monotonic() - epoch_begun)
                    bar.advance(1, f"loss {loss_so_far:.3f}  top-1 {top1:.1f} %  top-5 {top5:.1f} % error  {speed:.0f} images/s")
                    if interrupted:
                        break
            if interrupted:
                save_last()
                return False
            errors = validate()
            state.errors.append(errors.top1)
            best = errors.top1 <= min(state.errors)
            if best:
                run.save_best(net)
            save_last()
            print(
                f"epoch {epoch + 1:>{len(str(config.epochs))}}/{config.epochs}  LR {lr:g}  loss {loss_so_far:.3f}  error: training "
                f"top-1 {top1:.1f} %  validation top-1 {errors.top1:.1f} %  top-5 {errors.top5:.1f} %{'  (best)' if best else ''}",
                flush=True,
            )
            run.add_row(
                {
                    "epoch": epoch + 1, "step": state.step, "lr": lr, "train_loss": round(loss_so_far, 5),
                    "train_top1_error_pct": round(top1, 3), "train_top5_error_pct": round(top5, 3),
                    "val_top1_error_pct": round(errors.top1, 3), "val_top5_error_pct": round(errors.top5, 3),
                    "images_per_s": round(speed, 1), "elapsed_s": round(state.elapsed_s, 1),
                }  # fmt: skip
            )
    return True


def sgd(trainee: nn.Module, config: TrainConfig) -> torch.optim.SGD:
    """Momentum SGD with weight decay on weights only; the decay is L2 in the gradient, as in the paper's Caffe."""
    weights = [p for name, p in trainee.named_parameters() if p.requires_grad and name.endswith("weight")]
    biases = [p for name, p in trainee.named_parameters() if p.requires_grad and name.endswith("bias")]
    groups = [{"params": weights, "weight_decay": config.weight_decay}, {"params": biases, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)


def _tally(loss: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
    """Sums over a batch: loss, top-1 and top-5 errors in per cent, images."""
    best = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]
    n = len(labels)
    wrong = [100 * (n - best[:, :k].sum().item()) for k in (1, 5)]
    return torch.tensor([loss.item() * n, *wrong, n], dtype=torch.float64)


@contextmanager
def _interrupt_noted() -> Iterator[list]:
    """Collect the first Ctrl-C (or SIGTERM) so that a step is never cut in two; a second one acts as usual."""
    noted: list = []

    def note(signum, frame):
        noted.append(signum)
        for s, handler in before.items():
            signal.signal(s, handler)

    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    for s in before:
        signal.signal(s, note)
    try:
        yield noted
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
