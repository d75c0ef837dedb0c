"""Writes the result files of the benchmarks: Markdown tables, CSV and JSON blocks."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from bench.report.tables import Texts, markdown
from bench.results.environment import describe_environment
from vgg_deploy.files import whole_file


def markdown_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table without title; ends with a line break."""
    _, _, table = markdown(Texts("", list(heads), [list(row) for row in rows])).partition("\n\n")
    return table


def json_block(value: object) -> str:
    """A value as an indented block of JSON in Markdown."""
    return f"```json\n{json.dumps(value, indent=2)}\n```\n"


def environment_block(threads: int) -> str:
    """The machine and the versions of this run as a block of JSON in Markdown."""
    return json_block(describe_environment(threads))


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table without its index, as a whole or not at all."""
    with whole_file(path) as partial:
        table.to_csv(partial, index=False)
