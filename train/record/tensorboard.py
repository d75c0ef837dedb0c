"""Writes the tables of a run as events that TensorBoard reads."""

import math
from importlib.util import find_spec

from train.record.history import read_table
from train.record.measures import measures_of
from train.record.run_folder import Run
from train.record.tables import Row
from vgg_deploy.errors import InputError

NOT_PLOTTED = ("step", "epoch")  # columns that only name the point in time


def check_installed() -> None:
    """Check for the package that writes events, which nothing else here needs.

    Raises:
        InputError: If it is not installed.
    """
    if find_spec("tensorboard") is None:
        raise InputError(
            "--tensorboard: the package tensorboard is not installed; "
            "pip install tensorboard, or leave the option out"
        )


class TensorBoardWriter:
    """Events in the run's folder, by update.

    Each number of metrics.csv is epochs/COLUMN, each number of steps.csv is updates/COLUMN.

    The writer starts with the rows that the tables have, and makes TensorBoard drop all earlier
    events. So events and tables always agree, also if a process was killed before its last events
    were written, or if --tensorboard was given later.
    """

    def __init__(self, run: Run):
        # fails if tensorboard is not installed
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(run.folder, purge_step=0)
        measures = measures_of(run.saved_config()[0])
        for row in read_table(run.steps, measures.step_columns).to_dict("records"):
            self._add("updates", row)
        for row in read_table(run.metrics, measures.columns).to_dict("records"):
            self._add("epochs", row)
        self.writer.flush()

    def step(self, row: Row) -> None:
        """Write a row of steps.csv."""
        self._add("updates", row)
        self.writer.flush()

    def epoch(self, row: Row) -> None:
        """Write a row of metrics.csv."""
        self._add("epochs", row)
        self.writer.flush()

    def close(self) -> None:
        """Close the file of events."""
        self.writer.close()

    def _add(self, group: str, row: Row) -> None:
        for column, value in row.items():
            if column not in NOT_PLOTTED and not math.isnan(float(value)):
                self.writer.add_scalar(f"{group}/{column}", value, int(row["step"]))
