"""Describes the columns of CSV tables, for people and for tests."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

Kind = Literal["text", "whole number", "number", "True or False"]


class Column(NamedTuple):
    """One column of a table.

    Attributes:
        name: In the header; its ending is the unit: _pct per cent, _ms milliseconds, _px pixels.
        kind: Of its values.
        meaning: In one sentence, with the cases in which a value is missing.
    """

    name: str
    kind: Kind
    meaning: str


class Table(NamedTuple):
    """One CSV file.

    Attributes:
        file: Its name.
        rows: What a row stands for.
        columns: In their order.
    """

    file: str
    rows: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> list[str]:
        """Of the columns."""
        return [column.name for column in self.columns]


def columns(kind: Kind, **meanings: str) -> tuple[Column, ...]:
    """Some columns of one kind.

    Args:
        kind: Of their values.
        meanings: By the name of the column.

    Example:
        >>> columns("text", model="name of the file")
        (Column(name='model', kind='text', meaning='name of the file'),)
    """
    return tuple(Column(name, kind, meaning) for name, meaning in meanings.items())


def markdown(heading: str, tables: Sequence[Table]) -> str:
    """Describe tables as a chapter of a Markdown page.

    Args:
        heading: Of the chapter.
        tables: In their order.
    """
    lines = [f"## {heading}", ""]
    for table in tables:
        lines += [f"### {table.file}", "", table.rows, "", "| column | values | meaning |"]
        lines.append("| --- | --- | --- |")
        for column in table.columns:
            meaning = column.meaning.replace("|", "\\|")
            lines.append(f"| `{column.name}` | {column.kind} | {meaning} |")
        lines.append("")
    return "\n".join(lines)
