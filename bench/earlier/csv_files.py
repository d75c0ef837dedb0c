"""Reads CSV files of vgg-bench that lie in somebody's folder: whole and sound, or one sentence."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from vgg_deploy.errors import InputError
from vgg_deploy.regular_files import open_regular

MOST_BYTES = 4 * 2**30
HINT = "run vgg-bench again, or name another folder"
FLAGS = {"True": True, "False": False}
NAN = float("nan")


class Wanted(NamedTuple):
    """The columns that are read of a table.

    Attributes:
        texts: Columns of words.
        numbers: Columns of numbers; an empty cell is NaN.
        flags: Columns of True and False.
        optional: Further columns of numbers, which files of earlier versions lack.
    """

    texts: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


def read_columns(path: Path, wanted: Wanted) -> pd.DataFrame | None:
    """Read columns of a table.

    Args:
        path: The file.
        wanted: The columns.

    Returns:
        None if the file is not there. Texts are as they were before `csv_text`.

    Raises:
        InputError: If the file cannot be read, or is no such table.
    """
    if not path.exists() and not path.is_symlink():
        return None
    cells = _cells(path)
    needed = (*wanted.texts, *wanted.numbers, *wanted.flags)
    if missing := [name for name in needed if name not in cells.columns]:
        raise InputError(f"{path}: has no column {missing[0]}", HINT)
    columns: dict[str, pd.Series] = {}
    readers: Sequence[tuple[Sequence[str], Callable[[str], object]]] = (
        (wanted.texts, _text),
        (wanted.numbers, _number),
        (wanted.flags, lambda cell: FLAGS[cell]),
        ([name for name in wanted.optional if name in cells.columns], _number),
    )
    for names, read in readers:
        for name in names:
            columns[name] = _converted(path, name, cells[name], read)
    table = pd.DataFrame(columns, index=cells.index)
    return table.assign(**{name: NAN for name in wanted.optional if name not in table.columns})


def _cells(path: Path) -> pd.DataFrame:
    """All cells as text."""
    try:
        with open_regular(path, MOST_BYTES) as file:
            return pd.read_csv(file, dtype=str, keep_default_na=False, na_filter=False)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})", HINT) from None
    except (ValueError, OverflowError, RecursionError) as error:  # pandas' own are ValueErrors
        reason = str(error).splitlines()[0] if str(error) else "not a table"
        raise InputError(f"{path}: is not a table of vgg-bench ({reason:.200})", HINT) from None


def _converted(path: Path, name: str, cells: pd.Series, read: Callable[[str], object]) -> pd.Series:
    """A column, each different cell read once."""
    known: dict[str, object] = {}
    for cell in cells.unique():
        try:
            known[cell] = read(cell)
        except (ValueError, KeyError, RecursionError):
            line = int((cells == cell).to_numpy().argmax()) + 2
            raise InputError(f"{path}: column {name} has {cell!r:.60} (row {line})", HINT) from None
    dtype = float if read is _number else bool if read is not _text else object
    return pd.Series([known[cell] for cell in cells], index=cells.index, dtype=dtype)


def _text(cell: str) -> str:
    """A name as it was: one that begins with a quotation mark is JSON."""
    if not cell.startswith('"'):
        return cell
    name = json.loads(cell)
    if not isinstance(name, str):
        raise ValueError(cell)
    return name


def _number(cell: str) -> float:
    """A finite number; an empty cell is none."""
    if cell == "":
        return NAN
    number = float(cell)
    if not math.isfinite(number):
        raise ValueError(cell)
    return number


def grouped(table: pd.DataFrame, names: Sequence[str]) -> Mapping[tuple[object, ...], pd.DataFrame]:
    """The rows of a table by the values of some columns, in their order.

    Args:
        table: Any table.
        names: Two columns or more.
    """
    return dict(iter(table.groupby(list(names), sort=False)))
