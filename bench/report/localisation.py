"""Tables of boxes: localisation.csv, and the paper's Tables 8 to 10 beside what was measured."""

import math
from pathlib import Path

import pandas as pd

from bench.localisation.findings import LocalisationFindings
from bench.localisation.measure import CONSTANT, LocalisationRecord
from bench.localisation.paper import TITLES, fill_tables
from bench.report.sections import Section
from bench.report.table_texts import bounds, number
from bench.report.tables import HeadAndCells, Texts, frame, show, write_frame
from vgg_deploy.printable import printable

PAPER_NOTE = (
    "The paper's errors are of net D on ILSVRC-2012's and 2014's images; those below them were "
    "measured here, on other images and other nets."
)


def localisation_section(found: LocalisationFindings, data: str, out: Path) -> list[Section]:
    """Write localisation.csv and localisation_paper.csv.

    Args:
        found: What was measured.
        data: Names the images.
        out: Where the files go.
    """
    records = found.localised.records
    write_frame(frame(records), out / "localisation.csv")
    left_out = len(found.localised.skipped)
    title = f"Localisation, {records[0].images} images of {data}"
    title += f", {left_out} left out" if left_out else ""
    tables = fill_tables(found.localised)
    numbered = [table.assign(table=count) for count, table in tables.items()]
    write_frame(pd.concat(numbered, ignore_index=True), out / "localisation_paper.csv")
    sections = [Section(localisation_texts(records, title), "localisation.csv")]
    sections += [
        Section(_paper_texts(TITLES[count], table), "localisation_paper.csv")
        for count, table in tables.items()
    ]
    show(sections[0].texts)
    print(printable(constant_line(found)))
    for section in sections[1:]:
        show(section.texts)
    print(PAPER_NOTE)
    return sections


def constant_line(found: LocalisationFindings) -> str:
    """The box that a net must beat, in words."""
    left, top, right, bottom = found.localised.constant.box
    record = found.localised.records[-1]
    return (
        f"The best constant box, chosen on these images, spans {left:g} to {right:g} of the width "
        f"and {top:g} to {bottom:g} of the height; {record.true_class_error_pct:.1f} % of the "
        "images are wrong with it"
    )


def localisation_texts(records: list[LocalisationRecord], title: str) -> Texts:
    """The localisation table. The lowest top-5 error stands out.

    Args:
        records: The rows.
        title: Stands above the table.
    """
    columns: list[HeadAndCells] = [
        ("model", [record.model or "-" for record in records]),
        ("boxes by", [record.boxes_by for record in records]),
        ("boxes", [record.boxes or "-" for record in records]),
        ("protocol", [record.protocol or "-" for record in records]),
        ("Q", [record.scales or "-" for record in records]),
        ("true class: error %", [number(r.true_class_error_pct, 2) for r in records]),
        ("95 %", [bounds(r.true_class_low_pct, r.true_class_high_pct) for r in records]),
        ("mean IoU %", [number(r.mean_iou_pct, 1) for r in records]),
        ("top-1 error %", [number(r.top1_error_pct, 2) for r in records]),
        ("95 %", [bounds(r.top1_low_pct, r.top1_high_pct) for r in records]),
        ("top-5 error %", [number(r.top5_error_pct, 2) for r in records]),
        ("95 %", [bounds(r.top5_low_pct, r.top5_high_pct) for r in records]),
        ("labels: top-5 error %", [number(r.label_top5_error_pct, 2) for r in records]),
    ]
    rated = [
        (r.top5_error_pct, r.top1_error_pct, index)
        for index, r in enumerate(records)
        if r.boxes_by != CONSTANT and not math.isnan(r.top5_error_pct)
    ]
    return Texts.of_columns(title, columns, min(rated)[-1] if rated else None)


def _paper_texts(title: str, table: pd.DataFrame) -> Texts:
    lines = table.to_dict("records")
    words = ("net", "S", "Q", "boxes", "tuned")
    columns: list[HeadAndCells] = [
        *((name, [str(line[name]) or "-" for line in lines]) for name in words),
        ("paper, val %", [number(line["error_paper"], 1) for line in lines]),
        ("paper, test %", [number(line["error_test_paper"], 1) for line in lines]),
        ("here %", [number(line["error_measured"], 2) for line in lines]),
        ("95 %", [bounds(line["error_low"], line["error_high"]) for line in lines]),
    ]
    return Texts.of_columns(title, columns).without_empty_columns()
