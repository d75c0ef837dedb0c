"""Shows each part of the results on the terminal, saves it as CSV, and keeps it for the reports."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import pandas as pd

from bench.accuracy import paper_tables
from bench.accuracy.compare import Pair, differing_images
from bench.accuracy.measure import Accuracy
from bench.accuracy.predicted import predictions
from bench.earlier.answers import hashes_of
from bench.gate.verdict import Gate
from bench.models.model import Model
from bench.report.gate_text import fault_texts, gate_texts, headline
from bench.report.table_texts import (
    accuracy_texts,
    comparison_texts,
    latency_texts,
    paper_texts,
    rows_for_people,
    shapes_line,
    side_by_side_texts,
    widest,
)
from bench.report.tables import (
    Texts,
    frame,
    markdown,
    markdown_text,
    show,
    write_frame,
    write_frames,
)
from bench.speed.latency import LatencyRow
from bench.speed.side_by_side import SideBySideRow
from vgg_deploy.errors import InputError
from vgg_deploy.files import append, write_text
from vgg_deploy.name_frames import named_frame
from vgg_deploy.printable import json_text, printable

MOST_BYTES = 1_000_000  # of a summary; GitHub shows none beyond 1 MiB


@dataclass(frozen=True)
class Section:
    """One table of a report.

    Attributes:
        texts: The table.
        file: Name of its CSV file; empty if it has none.
    """

    texts: Texts
    file: str


def accuracy_section(
    accuracy: Accuracy, left_out: int, faulty: set[str], out: Path
) -> list[Section]:
    """Write accuracy.csv, predictions.csv, images.csv and shapes.csv, and comparisons.

    Args:
        accuracy: What was measured.
        left_out: How many images were not scored.
        faulty: Names of models that failed a check.
        out: Where the files go.
    """
    if accuracy.shapes:
        write_frame(frame(accuracy.shapes), out / "shapes.csv")
        print(printable(shapes_line(accuracy.shapes)))
    write_frame(frame([s.record for s in accuracy.scored]), out / "accuracy.csv")
    _write_hashes(accuracy, out)
    lists = (predictions(s, accuracy.files, accuracy.classes) for s in accuracy.scored)
    write_frames(chain.from_iterable(lists), out / "predictions.csv")
    shown = rows_for_people(accuracy.scored)
    texts = accuracy_texts(shown, accuracy_title(accuracy, left_out), faulty)
    sections = [Section(texts, "accuracy.csv")]
    if accuracy.pairs:
        write_frame(frame([pair.comparison for pair in accuracy.pairs]), out / "comparisons.csv")
        all_scales = [pair for pair in accuracy.pairs if pair.other in widest(shown)]
        comparisons = comparison_texts([pair.comparison for pair in all_scales])
        sections.append(Section(comparisons, "comparisons.csv"))
        write_frame(_differences(accuracy, all_scales), out / "differences.csv")
    for section in sections:
        show(section.texts)
    return sections


def _write_hashes(accuracy: Accuracy, out: Path) -> None:
    """Write images.csv, by which a later run knows the same images again."""
    hashes = hashes_of(accuracy)
    if hashes:
        table = named_frame({"image": list(hashes), "sha256": list(hashes.values())})
        write_frame(table, out / "images.csv")


def _differences(accuracy: Accuracy, pairs: list[Pair]) -> pd.DataFrame:
    """The images with another best class than the reference's, of all pairs."""
    tables = [
        differing_images(pair.reference, pair.other, accuracy.files, accuracy.classes)
        for pair in pairs
    ]
    return pd.concat(tables, ignore_index=True)


def accuracy_title(accuracy: Accuracy, left_out: int) -> str:
    """Title with the number of images.

    Args:
        accuracy: What was measured.
        left_out: How many images were not scored.
    """
    scored, there = len(accuracy.files), len(accuracy.measured.kept)
    title = f"Accuracy, {scored}"
    if scored < there - len(accuracy.measured.skipped):
        title += f" of {there}"
    title += " images" if accuracy.labelled else " images without labels"
    if accuracy.benchmark and accuracy.labelled:
        title += f" of {accuracy.benchmark.name}"
        title += f" ({accuracy.benchmark.rule})" if accuracy.benchmark.rule else ""
    return f"{title}, {left_out} left out" if left_out else title


def fault_section(accuracy: Accuracy) -> list[Section]:
    """List the models that have no rows, and why.

    Args:
        accuracy: What was measured.
    """
    if not accuracy.broken:
        return []
    texts = fault_texts(accuracy)
    for model, what in texts.rows:
        print(printable(f"No rows for {model}: {what}"))
    return [Section(texts, "")]


def paper_section(models: list[Model], accuracy: Accuracy, data: str, out: Path) -> list[Section]:
    """Write Tables 3 to 7 of the paper: paper_tables.csv and paper_tables.md.

    Args:
        models: All models of the run.
        accuracy: What was measured.
        data: Name of the data set.
        out: Where the files go.
    """
    records = {s.row: s.record for s in accuracy.scored}
    tables = paper_tables.fill_tables(models, records)
    numbered = [table.assign(table=number) for number, table in tables.items()]
    write_frame(pd.concat(numbered, ignore_index=True), out / "paper_tables.csv")
    note = (
        f"Measured on {len(accuracy.files)} images of {data}; the paper's errors are on the 50,000 "
        "validation images of ILSVRC-2012."
    )
    if any(table.not_as_printed.any() for table in tables.values()):
        note += (
            " Nets of another crop or width stand in the row of their configuration, with S in "
            "proportion to the crop."
        )
    texts = [paper_texts(paper_tables.TITLES[number], table) for number, table in tables.items()]
    for one in texts:
        show(one)
    print(printable(note))
    document = [f"{markdown_text(note)}\n", *(markdown(one) for one in texts)]
    write_text(out / "paper_tables.md", "\n".join(document))
    return [Section(one, "paper_tables.csv") for one in texts]


def latency_section(rows: list[LatencyRow], samples: pd.DataFrame, out: Path) -> list[Section]:
    """Write latency.csv and latency_samples.csv.

    Args:
        rows: The latency table.
        samples: Every counted time.
        out: Where the files go.
    """
    write_frame(named_frame([row.record() for row in rows]), out / "latency.csv")
    write_frame(samples, out / "latency_samples.csv")
    first = rows[0]
    title = f"Latency, uint8 images to scores, {first.device}, {first.threads} threads"
    texts = latency_texts(rows, title)
    show(texts)
    return [Section(texts, "latency.csv")]


def side_by_side_section(
    rows: list[SideBySideRow], samples: pd.DataFrame, out: Path
) -> list[Section]:
    """Write side_by_side.csv and side_by_side_samples.csv.

    Args:
        rows: Models against the first one.
        samples: Every counted time.
        out: Where the files go.
    """
    write_frame(frame(rows), out / "side_by_side.csv")
    write_frame(samples, out / "side_by_side_samples.csv")
    texts = side_by_side_texts(rows)
    show(texts)
    return [Section(texts, "side_by_side.csv")]


def write_report_md(
    sections: list[Section], gate: Gate | None, environment: Mapping[str, object], out: Path
) -> None:
    """Write report.md: the verdict, every table and the environment.

    Args:
        sections: The tables.
        gate: The verdict, if there are limits.
        environment: What the run depends on, with its id.
        out: Where the file goes.
    """
    parts = _report_parts(sections, gate, environment)
    described = json_text(environment, 2)
    parts.append(f"## Environment\n\n```json\n{described}\n```\n")
    write_text(out / "report.md", "\n".join(parts))


def append_summary(
    sections: list[Section], gate: Gate | None, environment: Mapping[str, object], path: Path
) -> None:
    """Append the verdict and the tables to a Markdown file, as far as a CI server shows them.

    Args:
        sections: The tables.
        gate: The verdict, if there are limits.
        environment: What the run depends on, with its id.
        path: The file; it need not exist.

    Raises:
        InputError: If the file cannot be written.
    """
    text = "\n".join(_report_parts(sections, gate, environment)) + "\n"
    lines, size = [], 0
    for line in text.encode(errors="backslashreplace").splitlines(keepends=True):
        size += len(line)
        if size > MOST_BYTES:
            lines.append(b"\nThe rest is in report.md.\n")
            break
        lines.append(line)
    try:
        append(path, b"".join(lines))
    except OSError as error:
        raise InputError(
            f"{path}: the summary cannot be written ({error.strerror}); name another file"
        ) from None


def _report_parts(
    sections: list[Section], gate: Gate | None, environment: Mapping[str, object]
) -> list[str]:
    """The run, the verdict and every table in Markdown."""
    parts = [f"# vgg-bench\n\nRun {environment['run_id']}\n"]
    if gate:
        parts += _gate_parts(gate)
    return parts + [markdown(section.texts) for section in sections]


def _gate_parts(gate: Gate) -> list[str]:
    """The verdict, notes and checks of a gate in Markdown."""
    parts = [f"**{markdown_text(headline(gate))}**\n"]
    notes = [f"- {markdown_text(text)}" for text in (*gate.warnings, *gate.equal)]
    if notes:
        parts.append("\n".join(notes) + "\n")
    return [*parts, markdown(gate_texts(gate))]
