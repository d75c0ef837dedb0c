"""Accumulates the metrics of updates between rows of steps.csv."""

import math
import time

import numpy as np
import torch
from torch import Tensor

from train.record.measures import measures_of
from train.step.training import Training


class StepMetrics:
    """The updates since the last row of steps.csv, and of the epoch so far.

    Their sums are part of the run's state. So the rows depend neither on when checkpoints are
    written nor on where a run was interrupted.
    """

    def __init__(self, training: Training):
        """Start the clock of an epoch, or of the rest of one.

        Args:
            training: Its state is added to.
        """
        self.training = training
        self.state = training.state
        self.measures = measures_of(training.config)
        self.unseen: list[Tensor] = []
        self.since = time.monotonic()

    def add(self, tally: Tensor) -> None:
        """Add an update; its numbers stay on the device until `collect`.

        Args:
            tally: (4,) float64, as `Updater.step` returns it.
        """
        self.unseen.append(tally)

    def collect(self) -> None:
        """Fetch the tallies of all processes and add them to the state.

        Raises:
            CheckFailed: A loss is not finite, or float16's gradients never are.
        """
        if not self.unseen:
            return
        job = self.training.job
        tallies = job.sum_in_step(torch.stack(self.unseen).cpu().numpy())
        first = self.state.step - len(tallies)
        self.unseen = []
        for step, tally in enumerate(tallies, start=first + 1):
            loss = tally[0] / tally[3]
            if not math.isfinite(loss):
                job.on_all(self.training.diverged, f"the loss is {loss}", step)
            self.training.health.after_step(step, loss)
        if self.training.updater.overflows():
            job.on_all(self.training.overflowed)
        now = time.monotonic()
        self.state.epoch_s += now - self.since
        self.state.window_s += now - self.since
        self.since = now
        self.state.window = (np.array(self.state.window) + tallies.sum(0)).tolist()
        self.state.tally = (np.array(self.state.tally) + tallies.sum(0)).tolist()

    def write_row(self) -> None:
        """Write a row of steps.csv, in the main process, and start the next.

        Raises:
            CheckFailed: As `collect`.
        """
        self.collect()
        loss, first, _, images = self.state.window
        if not images:
            return
        keeper = self.training.keeper
        if keeper:
            row = {
                "step": self.state.step,
                "epoch": len(self.state.errors) + 1,
                "lr": self.training.updater.learning_rate,
                "train_loss": round(loss / images, 5),
                f"train_{self.measures.first}": round(100 * first / images, 3),
                "images_per_s": round(images / self.state.window_s, 1),
            }
            keeper.run.add_step(row)
            if keeper.board:
                keeper.board.step(row)
        self.state.window, self.state.window_s = [0.0] * 4, 0.0

    def progress_note(self) -> str:
        """The epoch so far, for the progress bar."""
        *sums, images = self.state.tally
        if not images:
            return ""
        loss, first, second = (value / images for value in sums)
        words = self.measures.in_words(100 * first, 100 * second)
        seconds = self.state.epoch_s + time.monotonic() - self.since
        return f"loss {loss:.3f}  {words}  {images / seconds:.0f} images/s"
