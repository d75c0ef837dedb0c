"""What updates came to, from one row of steps.csv to the next."""

import math
import time

import numpy as np
import torch
from torch import Tensor

from train.record.keeper import Keeper
from train.record.state import State
from train.step.health import Health, diverged, overflown
from train.step.update import Updater


class StepMetrics:
    """The updates since the last row of steps.csv.

    Their sums are part of the run's state, so that the rows depend neither on when checkpoints are
    written nor on where a run was interrupted.
    """

    def __init__(
        self, updater: Updater, state: State, lr: float, keeper: Keeper | None, health: Health
    ):
        self.updater, self.state, self.lr, self.keeper, self.health = (
            updater,
            state,
            lr,
            keeper,
            health,
        )
        self.unseen: list[Tensor] = []
        self.since = time.monotonic()

    def add(self, tally: Tensor) -> None:
        self.unseen.append(tally)

    def look(self) -> None:
        """Fetch the tallies of all processes and add them to the state.

        Raises: CheckFailed at the first loss that is not finite.
        """
        if not self.unseen:
            return
        tallies = self.updater.job.sum(torch.stack(self.unseen).cpu().numpy())
        first = self.state.step - len(tallies)
        self.unseen = []
        for step, tally in enumerate(tallies, start=first + 1):
            loss = tally[0] / tally[3]
            if not math.isfinite(loss):
                self.updater.job.on_all(diverged, f"the loss is {loss}", step, self.lr, self.keeper)
            self.health.after_step(step, loss)
        if self.updater.overflows():
            self.updater.job.on_all(overflown, self.state.step, self.lr)
        now = time.monotonic()
        self.state.epoch_s += now - self.since
        self.state.window_s += now - self.since
        self.since = now
        self.state.window = (np.array(self.state.window) + tallies.sum(0)).tolist()
        self.state.tally = (np.array(self.state.tally) + tallies.sum(0)).tolist()

    def close(self) -> None:
        """Write the row and start the next."""
        self.look()
        loss, top1, _, images = self.state.window
        if not images:
            return
        if self.keeper:
            row = {
                "step": self.state.step, "epoch": len(self.state.errors) + 1, "lr": self.lr,
                "train_loss": round(loss / images, 5),
                "train_top1_error_pct": round(100 * top1 / images, 3),
                "images_per_s": round(images / self.state.window_s, 1),
            }  # fmt: skip
            self.keeper.run.add_step(row)
            if self.keeper.board:
                self.keeper.board.step(row)
        self.state.window, self.state.window_s = [0.0] * 4, 0.0

    def note(self) -> str:
        """For the progress bar: the epoch so far."""
        *sums, images = self.state.tally
        if not images:
            return ""
        loss, top1, top5 = (s / images for s in sums)
        seconds = self.state.epoch_s + time.monotonic() - self.since
        return f"loss {loss:.3f}  top-1 {100 * top1:.1f} %  top-5 {100 * top5:.1f} % error  {images / seconds:.0f} images/s"
