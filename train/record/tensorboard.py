"""The tables of a run as TensorBoard reads them."""

import math
from importlib.util import find_spec

from train.record.history import read_table
from train.record.run_folder import COLUMNS, STEP_COLUMNS, Run
from vgg_deploy.errors import InputError

NOT_PLOTTED = ("step", "epoch")  # columns that only say when


def check_installed() -> None:
    """Raises: InputError without the package that writes events, which nothing else here needs."""
    if find_spec("tensorboard") is None:
        raise InputError(
            "--tensorboard: the package tensorboard is not installed; pip install tensorboard, or leave the option out"
        )


class TensorBoardWriter:
    """Events in the run's folder: each number of metrics.csv as epochs/COLUMN, each of steps.csv as updates/COLUMN, by update.

    It begins with what the tables hold and has TensorBoard forget the events of before. So they always tell the same,
    also where a process was killed before its last events were written, or --tensorboard was given later.
    """

    def __init__(self, run: Run):
        from torch.utils.tensorboard import (
            SummaryWriter,
        )  # fails where tensorboard is not installed

        self.writer = SummaryWriter(run.folder, purge_step=0)
        for row in read_table(run.steps, STEP_COLUMNS).to_dict("records"):
            self._add("updates", row)
        for row in read_table(run.metrics, COLUMNS).to_dict("records"):
            self._add("epochs", row)
        self.writer.flush()

    def step(self, row: dict) -> None:
        """A row of steps.csv."""
        self._add("updates", row)
        self.writer.flush()

    def epoch(self, row: dict) -> None:
        """A row of metrics.csv."""
        self._add("epochs", row)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()

    def _add(self, group: str, row: dict) -> None:
        for column, value in row.items():
            if column not in NOT_PLOTTED and not math.isnan(float(value)):
                self.writer.add_scalar(f"{group}/{column}", value, int(row["step"]))
