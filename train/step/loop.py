"""The training loop, top to bottom."""

import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple, NoReturn

import numpy as np

from train.feed.examples import Examples
from train.recipe.config import TrainConfig, learning_rate
from train.record.keeper import Keeper
from train.record.state import State
from train.step.health import Health, diverged, refuse_spoilt
from train.step.step_metrics import StepMetrics
from train.step.stop_signals import Signals
from train.step.update import Updater
from vgg_deploy.errors import InputError, Interrupted
from vgg_deploy.progress import progress

LOG_STEPS = 20  # between rows of steps.csv; as often a GPU is asked for its losses, for asking makes it wait


class Errors(NamedTuple):
    """Validation errors in per cent, and the number of images that they are of."""

    top1: float
    top5: float
    images: int


Validate = Callable[[Signals], Errors | None]  # None when a signal came before the end


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
        every = updater.job.on_main(lambda: keeper.every if keeper else 0)
        while (epoch := len(state.errors)) < config.epochs:
            lr = learning_rate(config, state.errors)
            stopped = _epoch(
                updater, batches, steps_an_epoch, config, state, keeper, every, signals, clock, lr,
                health,
            )  # fmt: skip
            if not stopped:
                updater.job.on_all(refuse_spoilt, updater, state, keeper)
            errors = None if stopped else validate(signals)
            if errors is None:
                _save(updater, state, keeper, clock)
                raise Interrupted(
                    f"stopped at step {state.step}" + _way_on(keeper), _strongest(updater, signals)
                )
            if math.isnan(errors.top1):
                updater.job.on_all(diverged, "validation gives no numbers", state.step, lr, keeper)
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


def _epoch(
    updater, batches, steps_an_epoch, config, state, keeper, every, signals, clock, lr, health
) -> bool:
    """The updates of one epoch, or what is left of them. Returns: whether a signal came first, to any process."""
    first = state.step - len(state.errors) * steps_an_epoch
    window = StepMetrics(updater, state, lr, keeper, health)
    with progress(f"epoch {len(state.errors) + 1}/{config.epochs}", steps_an_epoch, first) as bar:
        for _ in range(first, steps_an_epoch):
            examples = next(batches)
            images, interrupted = updater.job.sum(
                np.array([len(examples.labels), signals.noted > 0])
            )
            if interrupted:
                window.look()
                return True
            if not images:
                updater.job.on_main(_refuse_empty, config.batch)
            window.add(updater.step(examples, state.step, int(images), lr))
            state.step += 1
            due = state.step % LOG_STEPS == 0 or state.step % steps_an_epoch == 0
            if updater.device.type == "cpu" or due:
                window.look()
            if due:
                window.close()
            bar.advance(1, window.note())
            if every and state.step % every == 0 and state.step % steps_an_epoch:
                window.look()  # in every process: they sum what they see
                _save(updater, state, keeper, clock)
    return False


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
    refuse_spoilt(updater, state, keeper)
    keeper.run.save_last(updater.net, {**state.__dict__, **updater.state()})


def _refuse_empty(batch: int) -> NoReturn:
    raise InputError(f"not one image of a batch of {batch} could be read")


def _way_on(keeper: Keeper | None) -> str:
    return f"; go on with: {keeper.run.resume_command}" if keeper else ""


def _strongest(updater: Updater, signals: Signals) -> int:
    """The signal to name in the exit code, the same in every process: a scheduler's before a Ctrl-C."""
    return max(updater.job.gather(signals.noted))


def _row(epoch: int, lr: float, errors: Errors, state: State, clock: _Clock) -> dict:
    """Of metrics.csv."""
    *sums, images = state.tally
    loss, top1, top5 = (s / images for s in sums)
    return {
        "epoch": epoch + 1, "step": state.step, "lr": lr, "train_loss": round(loss, 5),
        "train_top1_error_pct": round(100 * top1, 3), "train_top5_error_pct": round(100 * top5, 3),
        "val_top1_error_pct": round(errors.top1, 3), "val_top5_error_pct": round(errors.top5, 3),
        "images_per_s": round(images / state.epoch_s, 1), "elapsed_s": round(clock.read(), 1),
        "val_images": errors.images,
    }  # fmt: skip


def _tell(row: dict, config: TrainConfig, best: bool) -> None:
    print(
        f"epoch {row['epoch']:>{len(str(config.epochs))}}/{config.epochs}  LR {row['lr']:g}  loss {row['train_loss']:.3f}  error: training "
        f"top-1 {row['train_top1_error_pct']:.1f} %  validation top-1 {row['val_top1_error_pct']:.1f} %  "
        f"top-5 {row['val_top5_error_pct']:.1f} %{'  (best)' if best else ''}",
        flush=True,
    )
