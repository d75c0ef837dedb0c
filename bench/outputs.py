"""What a run leaves: each part shown on the terminal, saved as CSV, and handed on for the reports."""

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bench import paper
from bench.compare import differing_images
from bench.gate import Check, Limits, checks_of_faults, checks_of_pairs, tell, write_gate
from bench.latency import LatencyRow
from bench.models import Model
from bench.run import Accuracy
from bench.tables import (
    Texts,
    accuracy_texts,
    comparison_texts,
    frame,
    headline,
    latency_texts,
    markdown,
    paper_texts,
    shapes_line,
    show,
    turn_texts,
    widest,
    write_frame,
)
from bench.turns import TurnRow
from vgg_deploy.files import write_text


@dataclass(frozen=True)
class Section:
    """One table of a report."""

    texts: Texts
    file: str  # its CSV


def accuracy_section(accuracy: Accuracy, left_out: int, out: Path) -> list[Section]:
    """accuracy.csv, and against the first model comparisons.csv and differences.csv."""
    records = [s.record for s in accuracy.scored]
    if accuracy.shapes:
        write_frame(frame(accuracy.shapes), out / "shapes.csv")
        print(shapes_line(accuracy.shapes))
    write_frame(frame(records), out / "accuracy.csv")
    shown = headline(accuracy.scored)
    title = f"Accuracy, {len(accuracy.files)} images" + (f", {left_out} left out" if left_out else "")
    sections = [Section(accuracy_texts(shown, title), "accuracy.csv")]
    if accuracy.pairs:
        write_frame(frame([c for _, _, c in accuracy.pairs]), out / "comparisons.csv")
        all_scales = [pair for pair in accuracy.pairs if pair[1] in widest(shown)]
        sections.append(Section(comparison_texts([c for _, _, c in all_scales]), "comparisons.csv"))
        differing = [differing_images(first, other, accuracy.files, accuracy.classes) for first, other, _ in all_scales]
        write_frame(pd.concat(differing, ignore_index=True), out / "differences.csv")
    for section in sections:
        show(section.texts)
    return sections


def paper_section(models: list[Model], accuracy: Accuracy, data: str, out: Path) -> list[Section]:
    """Tables 3 to 7: paper_tables.csv and paper_tables.md."""
    tables = paper.fill_tables(models, {s.row: s.record for s in accuracy.scored})
    write_frame(pd.concat([table.assign(table=number) for number, table in tables.items()], ignore_index=True), out / "paper_tables.csv")
    note = f"Measured on {len(accuracy.files)} images of {data}; the paper's errors are on the 50,000 validation images of ILSVRC-2012."
    sections = [Section(paper_texts(paper.TITLES[number], table), "paper_tables.csv") for number, table in tables.items()]
    for section in sections:
        show(section.texts)
    print(note)
    write_text(out / "paper_tables.md", "\n".join([f"{note}\n", *(markdown(section.texts) for section in sections)]))
    return sections


def latency_section(rows: list[LatencyRow], samples: pd.DataFrame, out: Path) -> list[Section]:
    """latency.csv and latency_samples.csv."""
    write_frame(pd.DataFrame([row.record() for row in rows]), out / "latency.csv")
    write_frame(samples, out / "latency_samples.csv")
    texts = latency_texts(rows, f"Latency, uint8 pictures to scores, {rows[0].device}, {rows[0].threads} threads")
    show(texts)
    return [Section(texts, "latency.csv")]


def side_by_side_section(rows: list[TurnRow], samples: pd.DataFrame, out: Path) -> list[Section]:
    """side_by_side.csv and side_by_side_samples.csv"""
    write_frame(frame(rows), out / "side_by_side.csv")
    write_frame(samples, out / "side_by_side_samples.csv")
    texts = turn_texts(rows)
    show(texts)
    return [Section(texts, "side_by_side.csv")]


def judge(models: list[Model], accuracy: Accuracy, limits: Limits, out: Path) -> list[Check]:
    """gate.json and gate.xml; the verdict on the terminal."""
    checks = checks_of_faults(models, accuracy.faults) + checks_of_pairs(accuracy.pairs, limits, accuracy.files)
    write_gate(checks, limits, models[0].name, out)
    tell(checks, print)
    return checks


def write_report_md(sections: list[Section], environment: dict, out: Path) -> None:
    """Every table and the environment in one document."""
    described = json.dumps(environment, indent=2)
    parts = ["# vgg-bench\n", *(markdown(section.texts) for section in sections), f"## Environment\n\n```json\n{described}\n```\n"]
    write_text(out / "report.md", "\n".join(parts))
