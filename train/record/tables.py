"""Writes the tables of a run: metrics.csv, one row per epoch, and steps.csv."""

import csv
import io
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from train.recipe.config import CLASSIFY
from train.record.measures import MEASURES
from vgg_deploy.errors import InputError
from vgg_deploy.files import write_text
from vgg_deploy.regular_files import MOST_TEXT_BYTES, read_regular, read_regular_text

WHOLE = re.compile("[0-9]{1,18}")
Row = dict[str, float]  # values by column

COLUMNS = MEASURES[CLASSIFY].columns  # of metrics.csv of a classifier
LATER_COLUMNS = ("val_images",)  # empty in the first rows of runs that an earlier version started
STEP_COLUMNS = MEASURES[CLASSIFY].step_columns


def write_table(path: Path, columns: tuple[str, ...], rows: Iterable[Mapping[str, object]]) -> None:
    """Write a whole table."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


def append_row(path: Path, columns: tuple[str, ...], row: Mapping[str, object]) -> None:
    """Append one row.

    Raises:
        OSError: If the file cannot be written.
    """
    with open(path, "a", newline="", encoding="utf-8") as file:
        csv.DictWriter(file, columns).writerow(row)


def count_rows(path: Path) -> int:
    """The number of rows; 0 if there is no table.

    Raises:
        InputError: If the table cannot be read.
    """
    if not os.path.lexists(path):
        return 0
    try:
        with io.StringIO(read_regular_text(path)) as file:
            return sum(1 for _ in csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); remove it, --resume writes it again"
        ) from None


def rows_up_to(
    path: Path, step: int, columns: tuple[str, ...] = STEP_COLUMNS
) -> list[dict[str, str]]:
    """The rows of steps.csv up to a step, without those that were not written to their end.

    Args:
        path: Of the table.
        step: Of the last row.
        columns: Those of the run's task.

    Raises:
        InputError: If the table cannot be read, or has other columns.
    """
    if not os.path.lexists(path):
        return []
    hint = "remove it, the run goes on without its earlier rows"
    try:
        text = read_regular(path, MOST_TEXT_BYTES).decode("utf-8", "replace")
        rows = csv.DictReader(io.StringIO(text))
        names = rows.fieldnames or ()
        if "step" not in names or not set(names) <= set(columns):
            raise InputError(f"{path}: has other columns than a run's own table", hint)
        return [row for row in rows if _is_whole(row) and int(row["step"]) <= step]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error})", hint) from None


def _is_whole(row: dict[str, str]) -> bool:
    """Whether a row was written to its end: a power cut may leave half a line, or zeros.

    `csv.DictReader` fills missing values with None, and keeps values without a column under None.
    """
    return None not in row.values() and None not in row and bool(WHOLE.fullmatch(row["step"]))
