"""Prints tables that fit the terminal: columns that matter less are left out, and named.

Where the output goes to a file or a pipe, nothing is left out and no line is wrapped.
"""

import sys
from collections.abc import Sequence
from typing import Literal, NamedTuple

from rich.console import Console
from rich.table import Table

from vgg_deploy.printable import printable
from vgg_deploy.progress import results

BORDERS = 3  # of a column: a space on each side, and a line
LEAST_WORDS = 9  # to which a column of words may shrink


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        head: Stands above it, and wraps between words.
        cells: Row by row.
        words: Aligned to the left, and wrapped where the terminal is narrow.
        spare: 0: always shown. Where there is no room, the highest is left out first.
    """

    head: str
    cells: Sequence[str]
    words: bool = False
    spare: int = 0

    @property
    def width(self) -> int:
        """Characters that it needs if no cell is wrapped."""
        parts = [*self.head.split(), *self.cells]
        return max(map(len, parts), default=0)


def print_table(
    title: str, columns: Sequence[Column], best: int | None = None, console: Console | None = None
) -> None:
    """Print a table on standard output.

    Args:
        title: Stands above the table.
        columns: All of the same length.
        best: Index of the row that stands out.
        console: Where to print it; by default standard output.
    """
    if console is None:
        console = results()
        if not sys.stdout.isatty():
            console.width = max(console.width, _width(columns) + 1)
    shown = fitted(columns, console.width)
    table = Table(title=printable(title), title_justify="left", title_style="bold")
    for column, width in zip(shown, _widths(shown, console.width), strict=True):
        justify: Literal["left", "right"] = "left" if column.words else "right"
        table.add_column(column.head, justify=justify, width=width, overflow="fold")
    rows = zip(*(column.cells for column in shown), strict=True)
    for i, row in enumerate(rows):
        table.add_row(*map(printable, row), style="bold green" if i == best else "")
    console.print(table)
    if left_out := [column.head for column in columns if column not in shown]:
        console.print(
            f"Left out in {console.width} columns: {', '.join(left_out)}.",
            style="dim",
            soft_wrap=False,
        )


def fitted(columns: Sequence[Column], width: int) -> list[Column]:
    """Leave out columns until a table fits, words wrapped only where nothing can be spared.

    Args:
        columns: Of the table.
        width: Of the terminal, characters.
    """
    kept = list(columns)
    while _width(kept) > width and any(column.spare for column in kept):
        kept.remove(max(reversed(kept), key=lambda column: column.spare))
    return kept


def _widths(columns: Sequence[Column], width: int) -> list[int]:
    """Characters of each column: first heads wrap, then words, until the table fits."""
    widths = [max(column.width, len(column.head)) for column in columns]
    for _ in range(sum(widths) + BORDERS * len(columns) + 1 - width):
        heads = [i for i, c in enumerate(columns) if widths[i] > c.width]
        words = [i for i, c in enumerate(columns) if c.words and widths[i] > LEAST_WORDS]
        if not (heads or words):
            break
        widths[max(heads or words, key=lambda i: widths[i])] -= 1
    return widths


def _width(columns: Sequence[Column]) -> int:
    return sum(column.width + BORDERS for column in columns) + 1
