"""Holds the parts of one training, saves it, and stops it when it cannot continue."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from train.feed.epoch_order import steps_per_epoch
from train.recipe.config import TrainConfig
from train.record.keeper import Keeper
from train.record.snapshot import snapshot
from train.record.state import State
from train.record.tables import Row
from train.step.free_memory import is_out_of_memory
from train.step.health import Health
from train.step.update import Updater
from vgg_deploy.errors import CheckFailed
from vgg_deploy.job import Job
from vgg_deploy.net.checkpoint import Checkpoint


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

    def save(self, epoch: Row | None = None, best: bool = False) -> None:
        """Start to write last.pt, in the main process.

        It is written in the background, from a copy of weights and state. Where memory does not
        suffice for the copy, it is written at once.

        Args:
            epoch: Row of metrics.csv, which is added once the checkpoint is complete.
            best: Whether best.pt gets these weights, too.

        Raises:
            CheckFailed: The last update broke the weights, which only the next loss would show.
            InputError: An earlier checkpoint could not be written.
        """
        self.read_clock()
        if self.keeper is None:
            return
        self.refuse_broken_weights()
        self.state.micro_batch = self.updater.micro_batch.size
        run, net = self.keeper.run, self.updater.net
        self.keeper.writer.wait()  # before there is a second copy
        content = {**self.state.__dict__, **self.updater.state()}, net.state_dict()
        try:
            training, weights = snapshot(list(content))
            is_copy = True
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            (training, weights), is_copy = content, False
        checkpoint = Checkpoint(net.spec, weights, training)

        def write() -> None:
            run.save(checkpoint, best)
            if epoch is not None:
                run.add_epoch(epoch)

        self.keeper.writer.start(write)
        if not is_copy:  # for want of memory; training would change what is being written
            self.keeper.writer.wait()

    def wait_for_checkpoint(self) -> None:
        """Wait until the checkpoint that was started is complete.

        Raises:
            InputError: If it could not be written.
        """
        if self.keeper:
            self.keeper.writer.wait()

    def refuse_failed_checkpoint(self) -> None:
        """Check the checkpoint that is being written, without waiting for it.

        Raises:
            InputError: If it could not be written.
        """
        if self.keeper:
            self.keeper.writer.check()

    @contextmanager
    def settled(self) -> Iterator[None]:
        """A block at whose end, with or without an error, no file is being written."""
        try:
            yield
        finally:
            if self.keeper:
                self.keeper.writer.settle()

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
        if self.keeper:
            self.keeper.writer.settle()
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
