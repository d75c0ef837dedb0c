"""Saves the result rows of a benchmark after each one.

A time limit then loses only what has not been measured.
"""

from pathlib import Path

import pandas as pd
import result_tables

from vgg_deploy.files import write_text


class ResultRows:
    """Rows as NAME.csv, and as a table in NAME.md.

    Both files are rewritten whenever something is added.
    """

    def __init__(self, path: Path, title: str, columns: dict[str, str]) -> None:
        """Start without rows.

        Args:
            path: The CSV file; the Markdown file lies beside it.
            title: Heading of the Markdown file.
            columns: Of its table; see `markdown_table`.
        """
        self.path, self.title, self.columns = path, title, columns
        self.rows: list[dict] = []
        self.notes: list[str] = []
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, row: dict) -> None:
        """Append a row."""
        self.rows.append(row)
        result_tables.write_csv(pd.DataFrame(self.rows), self.path)
        self._write_markdown()

    def note(self, text: str) -> None:
        """Append a paragraph below the table."""
        self.notes.append(text)
        self._write_markdown()

    def markdown(self) -> str:
        """Title, table and notes."""
        parts = [f"# {self.title}\n", markdown_table(self.rows, self.columns), *self.notes]
        return "\n".join(parts) + "\n"

    def _write_markdown(self) -> None:
        write_text(self.path.with_suffix(".md"), self.markdown())


def markdown_table(rows: list[dict], columns: dict[str, str]) -> str:
    """A Markdown table.

    Args:
        rows: Records; a missing or not-a-number value becomes an empty cell.
        columns: For each column of the table, its key in the records and its format, as in
            {"ms": "median_ms:.2f"}.
    """
    cells = [[_cell(row, column) for column in columns.values()] for row in rows]
    return result_tables.markdown_table(list(columns), cells)


def _cell(row: dict, column: str) -> str:
    key, _, form = column.partition(":")
    value = row.get(key)
    if value is None or value != value:  # NaN
        return ""
    return format(value, form).replace("\n", " ")
