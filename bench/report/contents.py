"""What the report says, in which order: from measured records to the chapters of the page."""

import json
from pathlib import Path

import pandas as pd

from bench.accuracy.accuracy_rows import Scored
from bench.accuracy.by_class import class_accuracy, confusions
from bench.accuracy.measure import Accuracy
from bench.gate.verdict import Gate
from bench.models.model import Model
from bench.report import figures
from bench.report.drawing import Drawing
from bench.report.gate_text import fault_texts, gate_texts, headline
from bench.report.maps import photos
from bench.report.page import Card, Chapter, Judgement, write_page
from bench.report.sections import Section, accuracy_title
from bench.report.tables import (
    accuracy_texts,
    comparison_texts,
    concerns,
    latency_texts,
    rows_for_people,
    unsteady_line,
    widest,
    write_frame,
)
from bench.results.printable import printable
from bench.speed.latency import LatencyRow
from vgg_deploy.data.dataset import Dataset


def write_report(
    path: Path, models: list[Model], dataset: Dataset | None, accuracy: Accuracy | None, gate: Gate | None,
    timed: tuple[list[LatencyRow], pd.DataFrame] | None, in_turn: list[Section], paper: list[Section], environment: dict,
) -> None:  # fmt: skip
    """report.html, and beside it per_class.csv and confusions.csv."""
    chapters, cards = [], []
    if accuracy and accuracy.broken:
        note = "Their posteriors cannot be used, so no table or figure has a row of them."
        chapters.append(
            Chapter(
                "faults", "Models with faults", note, tables=[Section(fault_texts(accuracy), "")]
            )
        )
    if accuracy and accuracy.scored:
        faulty = gate.failing if gate else set()
        sound = [s for s in accuracy.scored if not concerns(faulty, s.record.model)]
        cards += [_card(s) for s in _best_of_each_model(sound)] if accuracy.labelled else []
        chapters += _accuracy_chapters(models, dataset, accuracy, faulty, path.parent)
    if timed:
        rows, samples = timed
        plot = figures.latency(rows, samples)
        drawing = Drawing("latency", "Calls by image size and batch", plot)
        note = (
            "From uint8 images in host memory to scores in host memory. Points are calls; the box "
            f"holds the middle half. {unsteady_line(rows)}"
        )
        chapters.append(
            Chapter(
                "speed",
                "Latency",
                note,
                [drawing],
                tables=[Section(latency_texts(rows, "Latency"), "latency.csv")],
            )
        )
    if in_turn:
        note = "Models called one after the other, round after round, so that what disturbs one disturbs all. The ratio is the median of the rounds'."
        chapters.append(Chapter("in-turn", "Side by side", note, tables=in_turn))
    if paper:
        note = "The paper's errors on ILSVRC-2012 validation, and what was measured here. Differences mean something on the same images only."
        chapters.append(Chapter("paper", "The paper's tables", note, tables=paper))
    chapters.append(Chapter("environment", "Environment", facts=_facts(environment)))
    about = (
        f"{accuracy_title(accuracy, 0).removeprefix('Accuracy, ')} of {dataset.root}, "
        if accuracy
        else ""
    )
    subtitle = printable(f"{about}{environment['when']}, run {environment['run_id']}")
    write_page(path, _title(models), subtitle, cards, chapters, _judgement(gate))


def _title(models: list[Model]) -> str:
    """At most three names."""
    names = [model.name for model in models]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return printable("VGG benchmark: " + ", ".join(names[:3]) + more)


def _judgement(gate: Gate | None) -> Judgement | None:
    if gate is None:
        return None
    notes = [printable(text) for text in (*gate.warnings, *gate.equal)]
    return Judgement(gate.verdict.value, headline(gate), notes, gate_texts(gate))


def _accuracy_chapters(
    models: list[Model], dataset: Dataset, accuracy: Accuracy, faulty: set[str], out: Path
) -> list[Chapter]:
    shown, records = (
        rows_for_people(accuracy.scored),
        [s.record for s in rows_for_people(accuracy.scored)],
    )
    # one row speaks for each model: its first protocol at all scales
    first_protocol = accuracy.scored[0].row.protocol
    speaking = [s for s in widest(shown) if s.row.protocol == first_protocol]
    row = f"{first_protocol}, Q {speaking[0].record.scales}"
    tables = [
        Section(
            accuracy_texts(accuracy.scored, accuracy_title(accuracy, 0), faulty), "accuracy.csv"
        )
    ]
    if accuracy.pairs:
        tables.append(
            Section(
                comparison_texts([pair.comparison for pair in accuracy.pairs]), "comparisons.csv"
            )
        )
    if not accuracy.labelled:
        note = "These images have no labels: the models' answers are compared with each other, not with the truth."
        return [Chapter("accuracy", "Agreement", note, tables=tables)]
    seen = photos(models, speaking[0], dataset, accuracy.positions, accuracy.classes)
    maps = Chapter(
        "maps", "Score maps",
        f"Dense evaluation of {speaking[0].record.model}: the class posterior at every position of the score map, laid over the photo where the "
        "window that it sees has its centre. First the most confident mistakes, with the map of the true class below, then right answers.",
        photos=seen,
    )  # fmt: skip
    per_class, wrong = (
        [table(s, accuracy.classes) for s in speaking] for table in (class_accuracy, confusions)
    )
    for name, parts in (("per_class", per_class), ("confusions", wrong)):
        write_frame(pd.concat(parts, ignore_index=True), out / f"{name}.csv")
    overview = [
        Drawing(
            "errors",
            "Top-1 error by test scale and protocol, 95 % intervals",
            figures.errors(records),
        )
    ]
    cheap = figures.pareto(
        [s.record for s in accuracy.scored],
        {s.record.model for s in accuracy.scored if concerns(faulty, s.record.model)},
    )
    if cheap:
        overview.insert(0, Drawing("pareto", "Error against time: lower left is better", cheap))
    classes = [Drawing("per-class", f"Accuracy by class ({row})", figures.per_class(per_class))]
    if pairs := figures.confused(wrong[0]):
        classes.append(
            Drawing("confused", f"Most confused pairs of {speaking[0].record.model} ({row})", pairs)
        )
    return [
        Chapter("accuracy", "Accuracy", "Top-1 and top-5 error with Wilson's 95 % interval; time is that of all views of one image.", overview, tables=tables),
        Chapter("classes", "Classes", "", classes),
        Chapter(
            "calibration", "Calibration", f"Is a posterior of 0.8 right 8 times of 10? ({row})",
            [Drawing("reliability", "Reliability diagram", figures.calibration(speaking))],
        ),
        maps,
    ]  # fmt: skip


def _best_of_each_model(scored: list[Scored]) -> list[Scored]:
    names = dict.fromkeys(s.record.model for s in scored)
    return [
        min(
            (s for s in scored if s.record.model == name),
            key=lambda s: (s.record.top1_error_pct, s.record.views),
        )
        for name in names
    ]


def _card(scored: Scored) -> Card:
    r = scored.record
    views = f"{r.views} view{'s' if r.views > 1 else ''}"
    return Card(
        f"{r.top1_error_pct:.2f} %",
        "lowest top-1 error",
        f"{r.model}, {r.runtime} {r.precision}: {r.protocol}, Q {r.scales}, {views}",
    )


def _facts(environment: dict) -> list[tuple[str, str]]:
    """Nested values as JSON."""
    return [
        (name.replace("_", " "), value if isinstance(value, str) else json.dumps(value))
        for name, value in environment.items()
    ]
