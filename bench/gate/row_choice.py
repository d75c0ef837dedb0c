"""Chooses the rows of the accuracy table that a gate judges (--gate-rows)."""

from collections.abc import Sequence

from bench.accuracy.protocols import Row
from bench.models.model import Model
from vgg_deploy.errors import InputError


def chosen_rows(rows: Sequence[Row], selectors: tuple[str, ...]) -> set[Row]:
    """The rows that any selector names; all rows if there is no selector.

    A selector is a list of words, and a row must have all of them: a protocol, Q as in the tables
    ("256", "256+384", "single", "multi"), "flips" or "no-flips". The label of a row selects it too.

    Args:
        rows: All rows of the accuracy table.
        selectors: Values of --gate-rows.
    """
    if not selectors:
        return set(rows)
    return {row for row in rows if any(_selects(selector, row) for selector in selectors)}


def check_selectors(models: list[Model], rows: Sequence[Row], selectors: tuple[str, ...]) -> None:
    """Refuse selectors that would silently leave something unjudged.

    Args:
        models: All models of the run.
        rows: All rows of the accuracy table.
        selectors: Values of --gate-rows.

    Raises:
        InputError: For a selector that fits no row, or a model without a chosen row.
    """
    for selector in selectors:
        if not any(_selects(selector, row) for row in rows):
            labels = "; ".join(dict.fromkeys(_spaced(row.label) for row in rows))
            message = f"no row is {selector!r}; choose words from one of these rows: {labels}"
            raise InputError(f"--gate-rows: {message}")
    chosen = chosen_rows(rows, selectors)
    judged = {member.model for row in chosen if len(row.members) == 1 for member in row.members}
    for index, model in enumerate(models):
        if index not in judged:
            raise InputError(f"--gate-rows: no row of {model.name} is chosen; choose one")


def _selects(selector: str, row: Row) -> bool:
    words = set(_spaced(selector).split()) - {"Q"}
    return bool(words) and words <= _words(row)


def _spaced(text: str) -> str:
    """Words of a label as words of a selector."""
    return " ".join(text.replace(",", " ").split()).replace("no flips", "no-flips")


def _words(row: Row) -> set[str]:
    return {row.protocol, *row.scales.split(), "flips" if row.flips else "no-flips"}
