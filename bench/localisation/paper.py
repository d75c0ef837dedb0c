"""Puts the paper's Tables 8 to 10 beside the rows that were measured here.

The tables hold errors on ILSVRC's images, of net D at full width. A measured row stands below the
printed ones of its table: the centre crop with the box of the true class in Table 8, whole images
with labels in Tables 9 (one box net or two) and 10 (the row with the lowest top-5 error).
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from bench.localisation.measure import CONSTANT, LocalisationRecord, Localised
from bench.localisation.rows import CENTRE
from vgg_deploy.name_frames import named_frame

NUMBERS = Path(__file__).parent / "paper_localisation.csv"
TITLES = {
    8: "Table 8: centre crop, box of the true class",
    9: "Table 9: whole images, merged boxes, top-5",
    10: "Table 10: comparison with the state of the art, top-5",
}
NAN = float("nan")
FIGURES = ("error_val", "error_test")


def paper_numbers() -> pd.DataFrame:
    """The printed tables, one row per printed row; a figure that the paper does not give is NaN."""
    return pd.read_csv(
        NUMBERS,
        keep_default_na=False,
        na_values=dict.fromkeys(FIGURES, ""),
        dtype={"S": str, "Q": str},
    )


def fill_tables(localised: Localised) -> dict[int, pd.DataFrame]:
    """Printed rows, and below them the measured ones.

    Args:
        localised: What was measured.

    Returns:
        By table. Columns of a printed row that only measured ones have are NaN or empty, and the
        other way round.
    """
    records = [record for record in localised.records if record.boxes_by != CONSTANT]
    dense = [record for record in records if record.protocol != CENTRE]
    best = min(dense, key=lambda record: record.top5_error_pct) if dense else None
    measured: dict[int, Sequence[LocalisationRecord]] = {
        8: [record for record in records if record.protocol == CENTRE],
        9: dense,
        10: [best] if best else [],
    }
    printed = paper_numbers().to_dict("records")
    tables = {}
    for table in TITLES:
        lines = [_printed(line) for line in printed if line["table"] == table]
        lines += [_measured(record, table) for record in measured[table]]
        tables[table] = named_frame(lines)
    return tables


def _printed(line: dict[str, object]) -> dict[str, object]:
    return {
        "net": line["label"],
        "S": line["S"],
        "Q": line["Q"],
        "boxes": line["boxes"],
        "tuned": line["tuned"],
        "error_paper": line["error_val"],
        "error_test_paper": line["error_test"],
        **dict.fromkeys(("error_measured", "error_low", "error_high"), NAN),
    }


def _measured(record: LocalisationRecord, table: int) -> dict[str, object]:
    figures = (
        (record.true_class_error_pct, record.true_class_low_pct, record.true_class_high_pct)
        if table == 8
        else (record.top5_error_pct, record.top5_low_pct, record.top5_high_pct)
    )
    return {
        "net": f"{record.boxes_by}, labels of {record.model}",
        "S": "",
        "Q": record.scales,
        "boxes": record.boxes,
        "tuned": "",
        "error_paper": NAN,
        "error_test_paper": NAN,
        **dict(zip(("error_measured", "error_low", "error_high"), figures, strict=True)),
    }
