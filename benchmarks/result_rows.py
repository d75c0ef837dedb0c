"""Result rows of a benchmark: saved after each one, so that a time limit loses only what is missing."""

from pathlib import Path

import pandas as pd


class ResultRows:
    """Rows as NAME.csv, and as a table in NAME.md; both are rewritten whenever something is added."""

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
        _replace(self.path, pd.DataFrame(self.rows).to_csv(index=False))
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
        _replace(self.path.with_suffix(".md"), self.markdown())


def markdown_table(rows: list[dict], columns: dict[str, str]) -> str:
    """A Markdown table.

    Args:
        rows: Records; a missing or not-a-number value becomes an empty cell.
        columns: For each column of the table, its key in the records and its format, as in
            {"ms": "median_ms:.2f"}.
    """
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    for row in rows:
        cells = [_cell(row, wanted) for wanted in columns.values()]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(row: dict, wanted: str) -> str:
    key, _, form = wanted.partition(":")
    value = row.get(key)
    if value is None or value != value:  # not a number
        return ""
    return format(value, form).replace("|", "/").replace("\n", " ")


def _replace(path: Path, text: str) -> None:
    """Write a file as a whole."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)
