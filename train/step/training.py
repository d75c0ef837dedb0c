"""Holds the parts of one training, saves it, and stops it when it cannot continue."""

import time
from typing import NoReturn

from train.feed.epoch_order import steps_per_epoch
from train.recipe.config import TrainConfig
from train.record.keeper import Keeper
from train.record.state import State
from train.step.health import Health
from train.step.update import Updater
from vgg_deploy.errors import CheckFailed
from vgg_deploy.job import Job


class Training:
    """One training, as this process takes part in it.

    Attributes:
        updater: Changes the weights; it also knows the learning rate.
        state: How far the run has come.
        health: Warns of a net that does not learn.
        keeper: Writes files, in the main process; None in the others.
    """

    def __init__(self, updater: Updater, state: State, health: Health, keeper: Keeper | None):
        """Join the parts; the time until the next call of `read_clock` counts from here."""
        self.updater, self.state, self.health, self.keeper = updater, state, health, keeper
        self._read_at = time.monotonic()

    @property
    def config(self) -> TrainConfig:
        """The recipe."""
        return self.updater.config

    @property
    def job(self) -> Job:
        """The processes that train together."""
        return self.updater.job

    @property
    def steps_per_epoch(self) -> int:
        """Updates in one pass over the training set."""
        return steps_per_epoch(self.state.images, self.config.batch)

    def read_clock(self) -> float:
        """Add the time since the last call to `state.elapsed_s`.

        Returns:
            The seconds of the whole run.
        """
        now = time.monotonic()
        self.state.elapsed_s += now - self._read_at
        self._read_at = now
        return self.state.elapsed_s

    def save(self) -> None:
        """Write last.pt, in the main process.

        Raises:
            CheckFailed: The last update broke the weights, which only the next loss would show.
        """
        self.read_clock()
        if self.keeper is None:
            return
        self.refuse_broken_weights()
        self.state.micro_batch = self.updater.micro_batch.size
        self.keeper.run.save_last(self.updater.net, {**self.state.__dict__, **self.updater.state()})

    def refuse_broken_weights(self) -> None:
        """Check the weights after the last update.

        Raises:
            CheckFailed: A weight is NaN or infinite.
        """
        if not self.updater.weights_are_finite():
            self.diverged("the loss is nan", self.state.step + 1)

    def diverged(self, what: str, step: int) -> NoReturn:
        """Stop a training that has diverged.

        Args:
            what: What shows it.
            step: Counted from 1.

        Raises:
            CheckFailed: Always. It names the last good checkpoint.
        """
        last = self.keeper.run.last if self.keeper else None
        restart = ""
        if last and last.exists():
            restart = (
                f"{last} was saved before this step and is intact: restart from it with --weights, "
                "or from the beginning. "
            )
        raise CheckFailed(
            f"{what} at step {step} (LR {self.updater.learning_rate:g}). {restart}Lower --lr, or "
            "choose another --init (he and glorot are made for deep nets)"
        )

    def overflowed(self) -> NoReturn:
        """Stop a training in float16 whose gradients overflow at any loss scale.

        Raises:
            CheckFailed: Always.
        """
        raise CheckFailed(
            f"gradients overflow float16 again and again up to step {self.state.step} "
            f"(LR {self.updater.learning_rate:g}), even at a loss scale of 1; restart with "
            "--precision bf16 or fp32, or with a lower --lr"
        )
