"""Reads the tables of a run, or of a chain's runs."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from train.recipe.config import CLASSIFY, TrainConfig
from train.recipe.stages import CHAIN_FILE
from train.record.measures import MEASURES, Measures, measures_of
from train.record.run_folder import Run
from train.record.tables import COLUMNS, LATER_COLUMNS
from vgg_deploy.errors import InputError
from vgg_deploy.json_files import read_json_object
from vgg_deploy.net.checkpoint import load_checkpoint
from vgg_deploy.regular_files import is_regular, read_regular_text, real_path


class History(NamedTuple):
    """The course of one run that has finished an epoch or more.

    Attributes:
        name: Of its folder.
        config: Its recipe.
        classes: Their number; None if best.pt was removed.
        epochs: metrics.csv.
        steps: steps.csv.
    """

    name: str
    config: TrainConfig
    classes: int | None
    epochs: pd.DataFrame
    steps: pd.DataFrame

    @property
    def updates(self) -> int:
        """The number of updates, with those of an epoch that is not finished."""
        return int(max(self.epochs.step.max(), self.steps.step.max() if len(self.steps) else 0))

    @property
    def measures(self) -> Measures:
        """Of the run's task."""
        return measures_of(self.config)

    @property
    def best(self) -> pd.Series:
        """The epoch of best.pt: the last one with the lowest validation error."""
        errors = self.epochs[f"val_{self.measures.first}"]
        return self.epochs[::-1].loc[errors[::-1].idxmin()]


def read_histories(folder: Path) -> list[History]:
    """Read the run in a folder, or a chain's stages that have finished an epoch.

    Returns:
        In running order, one or more.

    Raises:
        InputError: If a file is missing, damaged, or has no epoch yet; names the file.
    """
    path = folder / CHAIN_FILE
    if not is_regular(path):
        return [read_history(folder)]
    stages = [folder / name for name in _stage_names(path)]
    # the stages of a chain are classifiers
    started = [stage for stage in stages if is_regular(Run(stage).metrics)]
    histories = [
        read_history(stage) for stage in started if len(read_table(Run(stage).metrics, COLUMNS))
    ]
    if not histories:
        raise InputError(
            f"{folder}: no stage of this chain has finished an epoch yet; draw it once one has"
        )
    return histories


def read_history(folder: Path) -> History:
    """Read one run.

    Raises:
        InputError: As `read_histories`.
    """
    run = Run(folder)
    epochs = read_epochs(folder)
    config, _ = run.saved_config()
    classes = len(load_checkpoint(run.best).spec.classes) if run.best.is_file() else None
    steps = read_table(run.steps, measures_of(config).step_columns)
    return History(real_path(folder).name, config, classes, epochs, steps)


def read_epochs(folder: Path) -> pd.DataFrame:
    """Read metrics.csv of a run's folder, one row or more.

    Raises:
        InputError: As `read_histories`.
    """
    run = Run(folder)
    path = run.metrics
    epochs = read_table(path, _measures_beside(run).columns)
    if epochs.empty:
        raise InputError(f"{path}: has no epoch yet; draw it once the first is done")
    return epochs


def _measures_beside(run: Run) -> Measures:
    """Of the task in config.json; a classifier's where there is none."""
    return measures_of(run.saved_config()[0]) if run.exists else MEASURES[CLASSIFY]


def read_table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """Read a table of numbers whose `step` rises.

    A last line without its end is left out: a run in progress is just writing it.

    Args:
        path: The table.
        columns: The columns that it must have.

    Returns:
        All columns, float64.

    Raises:
        InputError: If the table is missing or damaged; names the line.
    """
    header, *rows = [line.rstrip("\r").split(",") for line in _whole_lines(path)]
    missing = [column for column in columns if column not in header and column not in LATER_COLUMNS]
    if missing:
        raise InputError(
            f"{path}: damaged, lacks the columns {', '.join(missing)}; a run's own table has them"
        )
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header) or not all(map(_is_valid, header, row)):
            raise InputError(
                f"{path}: damaged, line {number} is not {len(header)} numbers; "
                "correct or remove that line"
            )
    numbers = [[float(text or "nan") for text in row] for row in rows]
    table = pd.DataFrame(numbers, columns=header, dtype=float)
    if not all(before < after for before, after in pairwise(table.step)):
        raise InputError(
            f"{path}: damaged, its steps do not rise; "
            "correct or remove the lines that are out of order"
        )
    return table


def _stage_names(path: Path) -> list[str]:
    """The names of a chain's stages, from its chain.json."""
    hint = "give the folder of one stage instead"
    saved: dict[str, Any] = read_json_object(path, hint)
    try:
        return [str(stage["name"]) for stage in saved["stages"]]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: damaged ({error!r})", hint) from None


def _whole_lines(path: Path) -> list[str]:
    """The lines of a file that end; one empty line if there are none."""
    try:
        text = read_regular_text(path)
    except FileNotFoundError:
        raise InputError(
            f"{path}: not there; give the folder of a run or chain, as `python -m train` names it"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    return text.split("\n")[:-1] or [""]


def _is_valid(column: str, text: str) -> bool:
    """Whether a text is a number, or nothing where an earlier version had no such column."""
    return _is_number(text) or (column in LATER_COLUMNS and not text)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
