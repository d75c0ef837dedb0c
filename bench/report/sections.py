"""What a run leaves: each part shown on the terminal, saved as CSV, and handed on for the reports."""

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bench.accuracy import paper_tables as paper
from bench.accuracy.compare import differing_images
from bench.accuracy.measure import Accuracy
from bench.gate.verdict import Gate
from bench.models.model import Model
from bench.report.gate_text import fault_texts, gate_texts, headline
from bench.report.tables import (
    Texts,
    accuracy_texts,
    comparison_texts,
    frame,
    latency_texts,
    markdown,
    paper_texts,
    rows_for_people,
    shapes_line,
    show,
    side_by_side_texts,
    widest,
    write_frame,
)
from bench.results.printable import printable
from bench.speed.latency import LatencyRow
from bench.speed.side_by_side import SideBySideRow
from vgg_deploy.files import write_text


@dataclass(frozen=True)
class Section:
    """One table of a report."""

    texts: Texts
    file: str  # its CSV


def accuracy_section(
    accuracy: Accuracy, left_out: int, faulty: set[str], out: Path
) -> list[Section]:
    """accuracy.csv, and against the first model comparisons.csv and differences.csv.

    Args: left_out, images that were not scored; faulty, names of models that failed a check.
    """
    records = [s.record for s in accuracy.scored]
    if accuracy.shapes:
        write_frame(frame(accuracy.shapes), out / "shapes.csv")
        print(shapes_line(accuracy.shapes))
    write_frame(frame(records), out / "accuracy.csv")
    shown = rows_for_people(accuracy.scored)
    sections = [
        Section(accuracy_texts(shown, accuracy_title(accuracy, left_out), faulty), "accuracy.csv")
    ]
    if accuracy.pairs:
        write_frame(frame([pair.comparison for pair in accuracy.pairs]), out / "comparisons.csv")
        all_scales = [pair for pair in accuracy.pairs if pair.other in widest(shown)]
        sections.append(
            Section(comparison_texts([pair.comparison for pair in all_scales]), "comparisons.csv")
        )
        differing = [
            differing_images(pair.reference, pair.other, accuracy.files, accuracy.classes)
            for pair in all_scales
        ]
        write_frame(pd.concat(differing, ignore_index=True), out / "differences.csv")
    for section in sections:
        show(section.texts)
    return sections


def accuracy_title(accuracy: Accuracy, left_out: int) -> str:
    """What the numbers rest on."""
    scored, there = len(accuracy.files), len(accuracy.measured.kept)
    kind = "" if accuracy.labelled else " without labels"
    part = f" of {there}" if scored < there - len(accuracy.measured.skipped) else ""
    return f"Accuracy, {scored}{part} images{kind}" + (f", {left_out} left out" if left_out else "")


def fault_section(accuracy: Accuracy) -> list[Section]:
    """Models that have no rows, and why."""
    if not accuracy.broken:
        return []
    texts = fault_texts(accuracy)
    for model, what in texts.rows:
        print(f"No rows for {model}: {what}")
    return [Section(texts, "")]


def paper_section(models: list[Model], accuracy: Accuracy, data: str, out: Path) -> list[Section]:
    """Tables 3 to 7: paper_tables.csv and paper_tables.md."""
    tables = paper.fill_tables(models, {s.row: s.record for s in accuracy.scored})
    write_frame(
        pd.concat(
            [table.assign(table=number) for number, table in tables.items()], ignore_index=True
        ),
        out / "paper_tables.csv",
    )
    note = f"Measured on {len(accuracy.files)} images of {data}; the paper's errors are on the 50,000 validation images of ILSVRC-2012."
    sections = [
        Section(paper_texts(paper.TITLES[number], table), "paper_tables.csv")
        for number, table in tables.items()
    ]
    for section in sections:
        show(section.texts)
    print(note)
    write_text(
        out / "paper_tables.md",
        "\n".join([f"{note}\n", *(markdown(section.texts) for section in sections)]),
    )
    return sections


def latency_section(rows: list[LatencyRow], samples: pd.DataFrame, out: Path) -> list[Section]:
    """latency.csv and latency_samples.csv."""
    write_frame(pd.DataFrame([row.record() for row in rows]), out / "latency.csv")
    write_frame(samples, out / "latency_samples.csv")
    texts = latency_texts(
        rows, f"Latency, uint8 pictures to scores, {rows[0].device}, {rows[0].threads} threads"
    )
    show(texts)
    return [Section(texts, "latency.csv")]


def side_by_side_section(
    rows: list[SideBySideRow], samples: pd.DataFrame, out: Path
) -> list[Section]:
    """side_by_side.csv and side_by_side_samples.csv"""
    write_frame(frame(rows), out / "side_by_side.csv")
    write_frame(samples, out / "side_by_side_samples.csv")
    texts = side_by_side_texts(rows)
    show(texts)
    return [Section(texts, "side_by_side.csv")]


def write_report_md(
    sections: list[Section], gate: Gate | None, run_id: str, environment: dict, out: Path
) -> None:
    """The verdict, every table and the environment in one document."""
    described = json.dumps(environment, indent=2)
    parts = [f"# vgg-bench\n\nRun {run_id}\n"]
    if gate:
        notes = [f"- {printable(text)}" for text in (*gate.warnings, *gate.equal)]
        parts += [
            f"**{headline(gate)}**\n",
            *([chr(10).join(notes) + "\n"] if notes else []),
            markdown(gate_texts(gate)),
        ]
    parts += [
        *(markdown(section.texts) for section in sections),
        f"## Environment\n\n```json\n{described}\n```\n",
    ]
    write_text(out / "report.md", "\n".join(parts))
