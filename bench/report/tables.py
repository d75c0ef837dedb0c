"""Tables for people: on the terminal, in Markdown, and as CSV for pandas.

A table is a `Texts`. `bench.report.table_texts` makes those of the benchmark.

Example:
    >>> table = Texts.of_columns("Sizes", [("net", ["A", "D"]), ("MiB", ["507", "528"])])
    >>> print(markdown(table))
    ## Sizes
    <BLANKLINE>
    | net | MiB |
    | --- | --- |
    | A | 507 |
    | D | 528 |
    <BLANKLINE>
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd
from rich.console import Console

from vgg_deploy.files import whole_file
from vgg_deploy.name_frames import named_frame
from vgg_deploy.printable import csv_text, printable
from vgg_deploy.terminal_tables import Column, print_table

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

LEFT_ALIGNED = (  # heads of columns of words
    *("what", "row", "compared", "version", "SHA-256"),
    *("model", "runtime", "protocol", "net", "method"),
    *("boxes by", "boxes", "tuned", "scenario", "within bound"),
    *("layer", "timed by", "errors against", "not measured"),
    *("image", "answers", "float32", "leaves its bound", "changes it most"),
    *("result", "options", "note"),
)
EMPTY_CELLS = ("", "-")
ADDITIONS = ("95 %", "here, 95 %", "differs")  # to the figure in the column before
SPARED = (  # by a narrow terminal, the last of them first; the CSV files have them all
    "compared",
    *("float32", "changes it most", "ms: 95 %"),
    *("p", "ms/image", "top-5 error %", "steady", "median ms: 95 %"),
    *("runtime", "right: only 1st, only it", "posteriors differ by", "top-5 difference"),
    *("top-1 paper: differs", "top-5 paper: differs", "top-5 paper: here, 95 %", "top-5 paper"),
    *("first model's", "rounds", "p90 ms", "first ms", "GFLOP/s"),
    *("top-5 difference: 95 %", "mean variation", "p99 ms", "views", "top-5 error %: 95 %"),
    *("runs", "ECE %", "slowest to fastest round", "method", "top-5 test, paper"),
    *("device ms", "device images/s", "TFLOP/s", "device p99", "of roofline %", "MHz", "W"),
    *("GPU MiB", "images/s: 95 %", "dropped", "all MiB", "p50 ms"),
)
HeadAndCells = tuple[str, list[str]]  # a head, which need not be unique, and the cells below it


class Texts(NamedTuple):
    """A table for people.

    Attributes:
        title: Stands above the table.
        heads: One per column; two columns may have the same.
        rows: The cells, row by row.
        best: Index of the row that stands out.
    """

    title: str
    heads: list[str]
    rows: list[list[str]]
    best: int | None = None

    @classmethod
    def of_columns(
        cls, title: str, columns: Sequence[HeadAndCells], best: int | None = None
    ) -> "Texts":
        """Make a table of its columns.

        Args:
            title: Stands above the table.
            columns: Head and cells of each column, all of the same length.
            best: Index of the row that stands out.
        """
        heads = [head for head, _ in columns]
        rows = zip(*(cells for _, cells in columns), strict=True)
        return cls(title, heads, [list(row) for row in rows], best)

    def without_empty_columns(self) -> "Texts":
        """Without columns that have no figure in any row.

        Such are errors where images have no labels.
        """
        kept = [
            i for i in range(len(self.heads)) if any(row[i] not in EMPTY_CELLS for row in self.rows)
        ]
        heads = [self.heads[i] for i in kept]
        return self._replace(heads=heads, rows=[[row[i] for i in kept] for row in self.rows])


def show(texts: Texts, console: Console | None = None) -> None:
    """Print a table on the terminal, as far as it has room for it.

    Args:
        texts: The table.
        console: Where to print it; by default standard output.
    """
    print_table(texts.title, columns_of(texts), texts.best, console)


def columns_of(texts: Texts) -> list[Column]:
    """The columns, with those that a narrow terminal can spare."""
    owner = ""  # of an interval: the figure before it
    columns = []
    for i, head in enumerate(texts.heads):
        owner = owner if head in ADDITIONS else head
        key = head if head == owner else f"{owner}: {head}"
        spare = SPARED.index(key) + 1 if key in SPARED else 0
        cells = [row[i] for row in texts.rows]
        columns.append(Column(head, cells, head in LEFT_ALIGNED, spare))
    return columns


def markdown(texts: Texts) -> str:
    """A table with its title as a section of a Markdown document; the best row in bold.

    Args:
        texts: The table.
    """
    rows = list(texts.rows)
    if texts.best is not None:
        rows[texts.best] = [f"**{cell}**" if cell else cell for cell in rows[texts.best]]
    return f"## {texts.title}\n\n{markdown_table(texts.heads, rows)}"


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table alone, as lines that end with a line break.

    Example:
        >>> print(markdown_table(["net", "ms"], [["A", "3.4"]]), end="")
        | net | ms |
        | --- | --- |
        | A | 3.4 |

    Args:
        heads: One per column.
        rows: The cells, row by row.
    """
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(map(_escaped, line))} |\n" for line in lines)


def markdown_text(text: str) -> str:
    """A text for Markdown in which a name makes no line, no HTML and no link."""
    return printable(text).replace("<", "&lt;").replace("](", "]\\(")


def _escaped(cell: str) -> str:
    return markdown_text(cell).replace("|", "\\|")


def frame(rows: Sequence["DataclassInstance"]) -> pd.DataFrame:
    """Records as a table with one row per record and one column per field.

    Args:
        rows: Records of one dataclass.
    """
    return named_frame([asdict(row) for row in rows])


def write_frame(data: pd.DataFrame, path: Path) -> None:
    """Write a CSV file.

    Names that could do harm are JSON strings, see `csv_text`. Numbers have ten digits, so that
    0.55 in per cent is 55 and not 55.00000000000001.

    Args:
        data: The table.
        path: The file.

    Raises:
        InputError: If the file cannot be written.
    """
    write_frames([data], path)


def write_frames(parts: Iterable[pd.DataFrame], path: Path) -> None:
    """Write a CSV file part by part, as `write_frame`.

    Args:
        parts: At least one; all have the same columns.
        path: The file.

    Raises:
        InputError: If the file cannot be written.
    """
    with (
        whole_file(path) as partial,
        open(partial, "w", encoding="utf-8", newline="") as file,
    ):
        for number, part in enumerate(parts):
            _safe(part).to_csv(file, index=False, header=number == 0, float_format="%.10g")


def _safe(part: pd.DataFrame) -> pd.DataFrame:
    """The same, with the texts of all columns as `csv_text` writes them."""
    texts = part.select_dtypes(exclude=["number", "bool"])
    if not len(texts.columns):
        return part
    return part.assign(
        **{
            name: [csv_text(cell) if isinstance(cell, str) else cell for cell in column]
            for name, column in texts.items()
        }
    )
