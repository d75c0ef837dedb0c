"""What the tables of a run, or of a chain's runs, tell of its course."""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from train.recipe.config import TrainConfig
from train.recipe.stages import CHAIN_FILE
from train.record.run_folder import COLUMNS, LATER_COLUMNS, STEP_COLUMNS, Run
from vgg_deploy.errors import InputError
from vgg_deploy.net.checkpoint import load_checkpoint


class History(NamedTuple):
    """Of one run with one finished epoch or more."""

    name: str  # of its folder
    config: TrainConfig
    classes: int | None  # None where best.pt was taken away
    epochs: pd.DataFrame  # metrics.csv
    steps: pd.DataFrame  # steps.csv

    @property
    def updates(self) -> int:
        """How many were made, those of the epoch that runs with them."""
        return int(max(self.epochs.step.max(), self.steps.step.max() if len(self.steps) else 0))

    @property
    def best(self) -> pd.Series:
        """The epoch that best.pt is of: the last with the lowest validation top-1 error."""
        return self.epochs[::-1].loc[self.epochs.val_top1_error_pct[::-1].idxmin()]


def read_histories(folder: Path) -> list[History]:
    """Of the run in a folder, or of a chain's stages that have finished an epoch, in running order.

    Raises: InputError, naming the file, if one is missing, damaged, or has no epoch yet.
    """
    path = folder / CHAIN_FILE
    if not path.is_file():
        return [read_history(folder)]
    try:
        names = [
            str(stage["name"]) for stage in json.loads(path.read_text(encoding="utf-8"))["stages"]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: damaged ({error!r}); give the folder of one stage instead"
        ) from None
    begun = [folder / name for name in names if Run(folder / name).metrics.is_file()]
    done = [read_history(run) for run in begun if len(read_table(Run(run).metrics, COLUMNS))]
    if not done:
        raise InputError(
            f"{folder}: no stage of this chain has finished an epoch yet; draw it once one has"
        )
    return done


def read_history(folder: Path) -> History:
    """Of one run."""
    run = Run(folder)
    epochs, (config, _) = read_epochs(folder), run.saved_config()
    classes = len(load_checkpoint(run.best).spec.classes) if run.best.is_file() else None
    return History(
        folder.resolve().name, config, classes, epochs, read_table(run.steps, STEP_COLUMNS)
    )


def read_epochs(folder: Path) -> pd.DataFrame:
    """metrics.csv of a run's folder, one row or more."""
    path = Run(folder).metrics
    epochs = read_table(path, COLUMNS)
    if epochs.empty:
        raise InputError(f"{path}: has no epoch yet; draw it once the first is done")
    return epochs


def read_table(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """A table of numbers whose `step` rises. A last line without its end is left out: a run that goes on is just writing it."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(
            f"{path}: not there; give the folder of a run or chain, as `python -m train` names it"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    header, *rows = (line.rstrip("\r").split(",") for line in (text.split("\n")[:-1] or [""]))
    missing = [column for column in columns if column not in header and column not in LATER_COLUMNS]
    if missing:
        raise InputError(
            f"{path}: damaged, lacks the columns {', '.join(missing)}; a run's own table has them"
        )
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header) or not all(map(_is_valid, header, row)):
            raise InputError(
                f"{path}: damaged, line {number} is not {len(header)} numbers; mend or remove that line"
            )
    numbers = [[float(text or "nan") for text in row] for row in rows]
    table = pd.DataFrame(numbers, columns=header, dtype=float)
    if not all(a < b for a, b in pairwise(table.step)):
        raise InputError(
            f"{path}: damaged, its steps do not rise; mend or remove the lines that are out of order"
        )
    return table


def _is_valid(column: str, text: str) -> bool:
    """A number; or nothing, where an earlier version had no such column."""
    return _is_number(text) or (column in LATER_COLUMNS and not text)


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
