"""Trains epoch after epoch: updates, validation, checkpoints.

The way of a learning rate: `fit` asks the recipe for the rate of each epoch and hands it to
`Updater.set_learning_rate`. The optimiser keeps it; every update and every log row reads it there.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple, NoReturn

import numpy as np

from train.feed.examples import Examples
from train.recipe.config import TrainConfig
from train.recipe.learning_rate import learning_rate
from train.record.keeper import Keeper
from train.record.measures import measures_of
from train.step.step_metrics import StepMetrics
from train.step.stop_signals import Signals
from train.step.training import Training
from vgg_deploy.data.patience import StopWaiting
from vgg_deploy.errors import InputError, Interrupted
from vgg_deploy.progress import progress

# Updates per row of steps.csv. A GPU is asked for its losses as often, because that makes it wait.
LOG_STEPS = 20


class Errors(NamedTuple):
    """Validation errors.

    Attributes:
        top1: Per cent of the images. Of a localiser: the localisation error.
        top5: Per cent of the images. Of a localiser: the mean intersection over union.
        images: How many images were scored.
    """

    top1: float
    top5: float
    images: int


Validate = Callable[[Signals], Errors | None]  # None when a signal came before the end


def fit(
    training: Training,
    batches: Iterator[Examples],
    validate: Validate,
    signals: Signals | None = None,
) -> None:
    """Train until the last epoch.

    Args:
        training: The net and the state of its run; both are changed.
        batches: Of the step in the state, and all that follow.
        validate: Returns the errors of the present weights.
        signals: Notes the signals that end the run; by default its own.

    Raises:
        Interrupted: After a signal, when last.pt holds the step at which the training stopped.
        CheckFailed: The loss is no longer finite, or float16's gradients never are. The last good
            checkpoints stay.
    """
    job, config, state = training.job, training.config, training.state
    with (signals or Signals()).watched() as signals, training.settled():
        checkpoint_every = job.on_main(_checkpoint_every, training.keeper)
        while len(state.errors) < config.epochs:
            training.updater.set_learning_rate(learning_rate(config, state.errors))
            stopped = _update_for_an_epoch(training, batches, checkpoint_every, signals)
            if stopped:
                _save_and_interrupt(training, signals)
            job.on_all(training.refuse_broken_weights)
            # validation forks processes, which a thread that writes would disturb
            training.wait_for_checkpoint()
            errors = validate(signals)
            if errors is None:
                _save_and_interrupt(training, signals)
            if math.isnan(errors.top1):
                job.on_all(training.diverged, "validation gives no numbers", state.step)
            _finish_epoch(training, errors)
        training.wait_for_checkpoint()


def _update_for_an_epoch(
    training: Training, batches: Iterator[Examples], checkpoint_every: int, signals: Signals
) -> bool:
    """The updates of one epoch, or what is left of them.

    Returns:
        Whether a signal came first, to any process.
    """
    updater, state, steps = training.updater, training.state, training.steps_per_epoch
    first = state.step - len(state.errors) * steps
    metrics = StepMetrics(training)
    title = f"epoch {len(state.errors) + 1}/{training.config.epochs}"
    with progress(title, steps, first) as bar:
        for _ in range(first, steps):
            training.refuse_failed_checkpoint()
            examples = _next_unless_stopped(batches)
            count = len(examples.labels) if examples else 0
            images, interrupted = training.job.sum_in_step(np.array([count, signals.arrived()]))
            if interrupted or examples is None:
                metrics.collect()
                return True
            if not images:
                training.job.on_main(_refuse_empty_batch, training.config.batch)
            metrics.add(updater.step(examples, state.step, int(images)))
            state.step += 1
            epoch_ends = state.step % steps == 0
            row_is_due = state.step % LOG_STEPS == 0 or epoch_ends
            if updater.device.type == "cpu" or row_is_due:
                metrics.collect()
            if row_is_due:
                metrics.write_row()
            bar.advance(1, metrics.progress_note())
            if checkpoint_every and state.step % checkpoint_every == 0 and not epoch_ends:
                metrics.collect()  # in every process: they sum their tallies
                training.save()
    return False


def _next_unless_stopped(batches: Iterator[Examples]) -> Examples | None:
    """The next batch; None if a signal came before it."""
    try:
        return next(batches)
    except StopWaiting:
        return None


def _finish_epoch(training: Training, errors: Errors) -> None:
    """Record an epoch with its validation errors, and save the checkpoints."""
    state, keeper = training.state, training.keeper
    state.errors.append(errors.top1)
    row = _row(training, errors)
    state.rows.append(row)
    state.tally, state.epoch_s = [0.0] * 4, 0.0
    best = errors.top1 <= min(state.errors)
    training.save(row, best)
    _print(row, training.config, best)
    if keeper and keeper.board:
        keeper.board.epoch(row)


def _save_and_interrupt(training: Training, signals: Signals) -> NoReturn:
    training.save()
    training.wait_for_checkpoint()
    keeper = training.keeper
    resume = f"; resume with: {keeper.run.resume_command}" if keeper else ""
    # the same exit code in every process; a scheduler's signal counts more than a Ctrl-C
    strongest = max(training.job.gather(signals.noted))
    raise Interrupted(f"stopped at step {training.state.step}{resume}", strongest)


def _checkpoint_every(keeper: Keeper | None) -> int:
    """Updates between checkpoints; 0 for none within an epoch."""
    return keeper.every if keeper else 0


def _refuse_empty_batch(batch: int) -> NoReturn:
    raise InputError(f"not one image of a batch of {batch} could be read")


def _row(training: Training, errors: Errors) -> dict[str, float]:
    """A row of metrics.csv, for the epoch that was added to the state last."""
    state = training.state
    *sums, images = state.tally
    loss, first, second = (value / images for value in sums)
    measures = measures_of(training.config)
    return {
        "epoch": len(state.errors),
        "step": state.step,
        "lr": training.updater.learning_rate,
        "train_loss": round(loss, 5),
        f"train_{measures.first}": round(100 * first, 3),
        f"train_{measures.second}": round(100 * second, 3),
        f"val_{measures.first}": round(errors.top1, 3),
        f"val_{measures.second}": round(errors.top5, 3),
        "images_per_s": round(images / state.epoch_s, 1),
        "elapsed_s": round(training.read_clock(), 1),
        "val_images": errors.images,
    }


def _print(row: dict[str, float], config: TrainConfig, best: bool) -> None:
    """One line per epoch."""
    epochs, measures = config.epochs, measures_of(config)
    print(
        f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}  LR {row['lr']:g}  "
        f"loss {row['train_loss']:.3f}  "
        f"error: training {measures.first_words} {row[f'train_{measures.first}']:.1f} %  "
        f"validation {measures.first_words} {row[f'val_{measures.first}']:.1f} %  "
        f"{measures.second_words} {row[f'val_{measures.second}']:.1f} %"
        f"{'  (best)' if best else ''}",
        flush=True,
    )
