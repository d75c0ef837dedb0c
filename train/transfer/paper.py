"""Tables 11 and 12 of the paper, and the row that a run adds to them."""

from pathlib import Path

import pandas as pd

from train.transfer.outcome import Outcome, spread

NUMBERS = Path(__file__).parent / "paper_tables.csv"
COLUMNS = {  # by data set: the value and its standard deviation
    "VOC2007": ("voc2007_map_pct", ""),
    "VOC2012": ("voc2012_map_pct", ""),
    "Caltech-101": ("caltech101_recall_pct", "caltech101_sd"),
    "Caltech-256": ("caltech256_recall_pct", "caltech256_sd"),
    "": ("other_pct", "other_sd"),
}
TEXTS = ("table", "method", "note")
THIS_RUN = "this run"


def paper_numbers() -> pd.DataFrame:
    """The printed rows; a figure that the paper does not give is NaN."""
    table = pd.read_csv(NUMBERS, dtype=dict.fromkeys(TEXTS, str), keep_default_na=False,
                        na_values=dict.fromkeys(_figures(), ""))  # fmt: skip
    return table


def with_this_run(outcome: Outcome, method: str) -> pd.DataFrame:
    """The printed rows, and below them the measured one.

    Args:
        outcome: Of the run.
        method: The nets.
    """
    printed = paper_numbers()
    value, deviation = COLUMNS[outcome.data]
    means = outcome.means(outcome.measure)
    row: dict[str, object] = {
        "table": THIS_RUN,
        "method": method,
        value: sum(means) / len(means),
        "note": note(outcome),
    }
    if deviation:
        row[deviation] = spread(means)
    columns = [*TEXTS[:2], *_figures(), "other_pct", "other_sd", TEXTS[2]]
    lines = [*printed.to_dict("records"), row]
    return pd.DataFrame([{name: line.get(name) for name in columns} for line in lines])


def note(outcome: Outcome) -> str:
    """What the row of this run may be compared with."""
    if outcome.data:
        return (
            f"recognised as {outcome.data} by its classes only; the same figure needs the same "
            "images, net and scales"
        )
    return "measured on other images than the paper's, so the figures are not comparable"


def _figures() -> list[str]:
    columns = [name for pair in COLUMNS.values() for name in pair if name]
    printed = [name for name in columns if not name.startswith("other")]
    return [*printed, "voc2012_action_map_pct"]
