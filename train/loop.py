"""The training loop, top to bottom."""

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple, NoReturn

import numpy as np
import torch
from torch import Tensor

from train.config import TrainConfig, learning_rate
from train.health import Health
from train.run import Run, State
from train.update import Examples, Updater
from vgg_deploy.errors import CheckFailed, InputError, Interrupted
from vgg_deploy.progress import progress
from vgg_deploy.ranks import by_torchrun

LOG_STEPS = 20  # between rows of steps.csv; as often a GPU is asked for its losses, for asking makes it wait


class Errors(NamedTuple):
    """Validation errors in per cent."""

    top1: float
    top5: float


class Signals:
    """The first Ctrl-C or SIGTERM is noted, so that a step is never cut in two; a second one acts as usual.

    Not so under torchrun: it passes on what its whole process group was sent already, and kills by itself what takes too long.
    """

    def __init__(self):
        self.noted = 0

    @contextmanager
    def watched(self) -> Iterator["Signals"]:
        before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

        def note(signum, frame):
            self.noted = max(self.noted, signum)  # a scheduler's before a Ctrl-C
            for s, handler in before.items():
                signal.signal(s, note if by_torchrun() else handler)

        for s in before:
            signal.signal(s, note)
        try:
            yield self
        finally:
            for s, handler in before.items():
                signal.signal(s, handler)


Validate = Callable[[Signals], Errors | None]  # None when a signal came before the end


class Keeper(NamedTuple):
    """Where the main process leaves what a run comes to; the other processes have none."""

    run: Run
    every: int  # updates between checkpoints
    board: object | None = None  # train.board.Board


def fit(
    updater: Updater, batches: Iterator[Examples], steps_an_epoch: int, validate: Validate, config: TrainConfig, state: State, keeper: Keeper | None,
    health: Health,
) -> None:  # fmt: skip
    """Train until the last epoch.

    Raises: Interrupted after a signal, when last.pt holds the step it stopped at; CheckFailed if the loss is no longer
        finite, or float16's gradients never are: the last good checkpoints stay.
    """
    with Signals().watched() as signals:
        clock = _Clock(state)
        while (epoch := len(state.errors)) < config.epochs:
            lr = learning_rate(config, state.errors)
            stopped = _epoch(updater, batches, steps_an_epoch, config, state, keeper, signals, clock, lr, health)
            if not stopped:
                updater.ranks.together(partial(_refuse_spoilt, updater, state, keeper))
            errors = None if stopped else validate(signals)
            if errors is None:
                _save(updater, state, keeper, clock)
                raise Interrupted(f"stopped at step {state.step}" + _way_on(keeper), _strongest(updater, signals))
            if math.isnan(errors.top1):
                updater.ranks.together(partial(_diverged, "validation gives no numbers", state.step, lr, keeper))
            state.errors.append(errors.top1)
            row = _row(epoch, lr, errors, state, clock)
            state.rows.append(row)
            state.tally, state.epoch_s = [0.0] * 4, 0.0
            best = errors.top1 <= min(state.errors)
            if keeper and best:
                keeper.run.save_best(updater.net)
            _save(updater, state, keeper, clock)
            _tell(row, config, best)
            if keeper:
                keeper.run.add_epoch(row)
                if keeper.board:
                    keeper.board.epoch(row)
            health.after_epoch(row)


def _epoch(updater, batches, steps_an_epoch, config, state, keeper, signals, clock, lr, health) -> bool:
    """The updates of one epoch, or what is left of them. Returns: whether a signal came first, to any process."""
    first = state.step - len(state.errors) * steps_an_epoch
    window = _Window(updater, state, lr, keeper, health)
    with progress(f"epoch {len(state.errors) + 1}/{config.epochs}", steps_an_epoch, first) as bar:
        for _ in range(first, steps_an_epoch):
            examples = next(batches)
            images, interrupted = updater.ranks.sum(np.array([len(examples.labels), signals.noted > 0]))
            if interrupted:
                window.close()
                return True
            if not images:
                updater.ranks.from_main(partial(_refuse_empty, config.batch))
            window.add(updater.step(examples, state.step, int(images), lr))
            state.step += 1
            due = state.step % LOG_STEPS == 0 or state.step % steps_an_epoch == 0
            if updater.device.type == "cpu" or due:
                window.look()
            if due:
                window.close()
            bar.advance(1, window.note())
            if keeper and state.step % keeper.every == 0 and state.step % steps_an_epoch:
                window.close()
                _save(updater, state, keeper, clock)
    return False


class _Window:
    """The updates since the last row of steps.csv."""

    def __init__(self, updater: Updater, state: State, lr: float, keeper: Keeper | None, health: Health):
        self.updater, self.state, self.lr, self.keeper, self.health = updater, state, lr, keeper, health
        self.unseen: list[Tensor] = []
        self.sums, self.begun = np.zeros(4), time.monotonic()

    def add(self, tally: Tensor) -> None:
        self.unseen.append(tally)

    def look(self) -> None:
        """Fetch the tallies of all processes; stop at the first loss that is not finite."""
        if not self.unseen:
            return
        tallies = self.updater.ranks.sum(torch.stack(self.unseen).cpu().numpy())
        first = self.state.step - len(tallies)
        self.unseen = []
        for step, tally in enumerate(tallies, start=first + 1):
            loss = tally[0] / tally[3]
            if not math.isfinite(loss):
                self.updater.ranks.together(partial(_diverged, f"the loss is {loss}", step, self.lr, self.keeper))
            self.health.after_step(step, loss)
        if self.updater.overflows():
            self.updater.ranks.together(partial(_overflown, self.state.step, self.lr))
        self.sums += tallies.sum(0)
        self.state.tally = (np.array(self.state.tally) + tallies.sum(0)).tolist()

    def close(self) -> None:
        """Write the row and begin the next."""
        self.look()
        if not self.sums[3]:
            return
        now = time.monotonic()
        self.state.epoch_s += now - self.begun
        if self.keeper:
            loss, top1, _ = self.sums[:3] / self.sums[3]
            row = {
                "step": self.state.step, "epoch": len(self.state.errors) + 1, "lr": self.lr, "train_loss": round(loss, 5),
                "train_top1_error_pct": round(100 * top1, 3), "images_per_s": round(self.sums[3] / (now - self.begun), 1),
            }  # fmt: skip
            self.keeper.run.add_step(row)
            if self.keeper.board:
                self.keeper.board.step(row)
        self.sums, self.begun = np.zeros(4), now

    def note(self) -> str:
        """For the progress bar: the epoch so far."""
        *sums, images = self.state.tally
        if not images:
            return ""
        loss, top1, top5 = (s / images for s in sums)
        seconds = self.state.epoch_s + time.monotonic() - self.begun
        return f"loss {loss:.3f}  top-1 {100 * top1:.1f} %  top-5 {100 * top5:.1f} % error  {images / seconds:.0f} images/s"


class _Clock:
    """Adds to `elapsed_s` what passed since it was last asked."""

    def __init__(self, state: State):
        self.state, self.since = state, time.monotonic()

    def read(self) -> float:
        now = time.monotonic()
        self.state.elapsed_s += now - self.since
        self.since = now
        return self.state.elapsed_s


def _save(updater: Updater, state: State, keeper: Keeper | None, clock: _Clock) -> None:
    """Write last.pt.

    Raises: CheckFailed if the last update spoilt the weights: the loss tells it only at the next.
    """
    clock.read()
    if keeper is None:
        return
    _refuse_spoilt(updater, state, keeper)
    keeper.run.save_last(updater.net, {**state.__dict__, **updater.state()})


def _refuse_spoilt(updater: Updater, state: State, keeper: Keeper | None) -> None:
    if not updater.weights_are_finite():
        _diverged("the loss is nan", state.step + 1, updater.optimiser.param_groups[0]["lr"], keeper)


def _overflown(step: int, lr: float) -> NoReturn:
    raise CheckFailed(
        f"gradients overflow float16 in every update up to step {step} (LR {lr:g}), however small the loss scale; "
        "start anew with --precision bf16 or fp32, or with a lower --lr"
    )


def _diverged(found: str, step: int, lr: float, keeper: Keeper | None) -> NoReturn:
    last = keeper.run.last if keeper and keeper.run.last.exists() else None
    kept = f"{last} is of before and sound: start from it with --weights, or from the beginning. " if last else ""
    raise CheckFailed(f"{found} at step {step} (LR {lr:g}). {kept}Lower --lr, or choose another --init (he and glorot are made for deep nets)")


def _refuse_empty(batch: int) -> NoReturn:
    raise InputError(f"not one image of a batch of {batch} could be read")


def _way_on(keeper: Keeper | None) -> str:
    return f"; go on with: {keeper.run.way_on}" if keeper else ""


def _strongest(updater: Updater, signals: Signals) -> int:
    """The signal to name in the exit code, the same in every process: a scheduler's before a Ctrl-C."""
    return max(updater.ranks.gather(signals.noted))


def _row(epoch: int, lr: float, errors: Errors, state: State, clock: _Clock) -> dict:
    """Of metrics.csv."""
    *sums, images = state.tally
    loss, top1, top5 = (s / images for s in sums)
    return {
        "epoch": epoch + 1, "step": state.step, "lr": lr, "train_loss": round(loss, 5),
        "train_top1_error_pct": round(100 * top1, 3), "train_top5_error_pct": round(100 * top5, 3),
        "val_top1_error_pct": round(errors.top1, 3), "val_top5_error_pct": round(errors.top5, 3),
        "images_per_s": round(images / state.epoch_s, 1), "elapsed_s": round(clock.read(), 1),
    }  # fmt: skip


def _tell(row: dict, config: TrainConfig, best: bool) -> None:
    print(
        f"epoch {row['epoch']:>{len(str(config.epochs))}}/{config.epochs}  LR {row['lr']:g}  loss {row['train_loss']:.3f}  error: training "
        f"top-1 {row['train_top1_error_pct']:.1f} %  validation top-1 {row['val_top1_error_pct']:.1f} %  "
        f"top-5 {row['val_top5_error_pct']:.1f} %{'  (best)' if best else ''}",
        flush=True,
    )
