"""Tables 11 and 12 of the paper, and the row that a run adds to them."""

from pathlib import Path

import pandas as pd

from train.transfer.outcome import Outcome, spread
from train.transfer.request import ALL
from train.transfer.single import SingleProtocol
from train.transfer.voc_lists import VocTruth

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
CALTECH = {"Caltech-101": (3, 30, 50), "Caltech-256": (3, 60, ALL)}  # splits, train, test
VOC = ("VOC2007", "VOC2012")
VOC_CLASSES = 20
VOC_SETS = ("trainval", "test")


def caltech_of_paper(data: str, protocol: SingleProtocol) -> str:
    """The data set if the protocol is the paper's, else an empty text.

    Args:
        data: Caltech-101 or Caltech-256, recognised by the classes; else empty.
        protocol: Of the run.
    """
    drawn = (protocol.splits, protocol.train_per_class, protocol.test_per_class)
    return data if CALTECH.get(data) == drawn else ""


def voc_of_paper(truth: VocTruth) -> str:
    """The year if the sets and the number of classes are those of the paper, else an empty text.

    Args:
        truth: Of the run.
    """
    sets = (truth.train.name, truth.test.name)
    same = len(truth.classes) == VOC_CLASSES and sets == VOC_SETS and truth.root.name in VOC
    return truth.root.name if same else ""


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
    empty = {name: "" if name in TEXTS else float("nan") for name in columns}
    return pd.DataFrame([{**empty, **line} for line in lines], columns=columns)


def note(outcome: Outcome) -> str:
    """What the row of this run may be compared with."""
    if outcome.data:
        return (
            f"recognised as {outcome.data} by its classes only; comparable if images, net and "
            "scales are the paper's"
        )
    return "measured on other images or splits than the paper's, so the figures are not comparable"


def _figures() -> list[str]:
    columns = [name for pair in COLUMNS.values() for name in pair if name]
    printed = [name for name in columns if not name.startswith("other")]
    return [*printed, "voc2012_action_map_pct"]
