"""Defines what the main process of a run writes to."""

from typing import NamedTuple

from train.record.background import BackgroundWriter
from train.record.run_folder import Run
from train.record.tensorboard import TensorBoardWriter


class Keeper(NamedTuple):
    """Where the main process keeps the results of a run; the other processes have none.

    Attributes:
        run: The folder with checkpoints and tables.
        every: Updates between checkpoints.
        writer: Writes checkpoints while the training goes on.
        board: Also writes the tables for TensorBoard; None unless asked for.
    """

    run: Run
    every: int
    writer: BackgroundWriter
    board: TensorBoardWriter | None = None
