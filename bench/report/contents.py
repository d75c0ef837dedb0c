"""Decides what report.html shows, in which order: from measured records to chapters."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from bench.accuracy.accuracy_rows import Scored
from bench.accuracy.by_class import class_accuracy, confusions
from bench.accuracy.measure import Accuracy
from bench.gate.verdict import Gate
from bench.models.model import Model
from bench.report import figures
from bench.report.drawing import Drawing
from bench.report.gate_text import fault_texts, gate_texts, headline
from bench.report.maps import image_maps
from bench.report.page import Card, Chapter, Judgement, Page, write_page
from bench.report.sections import Section, accuracy_title
from bench.report.table_texts import (
    accuracy_texts,
    comparison_texts,
    concerns,
    latency_texts,
    rows_for_people,
    unsteady_line,
    widest,
)
from bench.report.tables import write_frame
from bench.speed.latency import LatencyRow
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.printable import printable

NAMED = 3  # models in the title
LONGEST_TITLE = 90  # characters
# Of fewer images a class's accuracy is one of so few values that its bar says next to nothing
FEWEST_OF_CLASS = 5
ONE_ANSWER = 0.9  # share of the images from which one class is called the answer to all


@dataclass
class Findings:
    """Everything that a run found; what was not measured is None or empty.

    Attributes:
        models: All models of the run.
        environment: What the run depends on, with its id.
        dataset: The images.
        accuracy: The rows, and what else the scores say.
        gate: The verdict, if there are limits.
        latency: Rows of the latency table.
        latency_samples: Every counted time.
        sections: All tables, for report.md.
        paper: Those of the tables that are the paper's.
        side_by_side: Those of the tables that compare models in turn.
        distances: Those of the tables that are of distance files.
        names: Of distance files, which are no models.
        boxes: Those of the tables that judge boxes.
        files: Those of the tables that are of files and their memory.
        against: Those of the tables that are beside an earlier run's.
        against_notes: Sentences about what was compared with it.
        energy: Why no energy was counted, as a sentence; empty if it was.
        layers: Those of the tables that are of single layers.
        layer_drawings: The figures beside them.
        explained: Those of the tables that explain images.
        explanations: The same in sentences.
        load: Those of the tables that are of load tests.
        load_drawings: The figures beside them.
    """

    models: list[Model]
    environment: Mapping[str, object]
    dataset: Dataset | None = None
    accuracy: Accuracy | None = None
    gate: Gate | None = None
    latency: list[LatencyRow] = field(default_factory=list)
    latency_samples: pd.DataFrame | None = None
    sections: list[Section] = field(default_factory=list)
    paper: list[Section] = field(default_factory=list)
    side_by_side: list[Section] = field(default_factory=list)
    distances: list[Section] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    boxes: list[Section] = field(default_factory=list)
    files: list[Section] = field(default_factory=list)
    against: list[Section] = field(default_factory=list)
    against_notes: list[str] = field(default_factory=list)
    energy: str = ""
    layers: list[Section] = field(default_factory=list)
    layer_drawings: list[Drawing] = field(default_factory=list)
    explained: list[Section] = field(default_factory=list)
    explanations: list[str] = field(default_factory=list)
    load: list[Section] = field(default_factory=list)
    load_drawings: list[Drawing] = field(default_factory=list)

    @property
    def faulty(self) -> set[str]:
        """Names of models that failed a check of the gate."""
        return self.gate.failing if self.gate else set()


def write_report(findings: Findings, out: Path) -> None:
    """Write report.html, and beside it per_class.csv and confusions.csv.

    Args:
        findings: What the run found.
        out: Where the files go.

    Raises:
        InputError: If a file cannot be written.
    """
    page = Page(
        title=_title([model.name for model in findings.models] or findings.names),
        subtitle=_subtitle(findings),
        judgement=_judgement(findings.gate),
        cards=_cards(findings),
        chapters=[
            *_fault_chapters(findings.accuracy),
            *_against_chapters(findings),
            *_accuracy_chapters(findings, out),
            *_box_chapters(findings.boxes),
            *_speed_chapters(findings),
            *_file_chapters(findings.files),
            *_layer_chapters(findings),
            *_load_chapters(findings),
            *_distance_chapters(findings.distances),
            *_paper_chapters(findings.paper),
            Chapter("environment", "Environment", facts=_facts(findings.environment)),
        ],
    )
    write_page(out / "report.html", page)


def _title(names: Sequence[str]) -> str:
    """The names of at most three models; the number of more, or of long names."""
    title = f"VGG benchmark: {', '.join(names)}"
    if len(names) > NAMED or len(title) > LONGEST_TITLE and len(names) > 1:
        title = f"VGG benchmark of {len(names)} models"
    return printable(title)


def _subtitle(findings: Findings) -> str:
    """The data, the time and the run's id."""
    subtitle = f"{findings.environment['when']}, run {findings.environment['run_id']}"
    if findings.accuracy and findings.dataset:
        images = accuracy_title(findings.accuracy, 0).removeprefix("Accuracy, ")
        subtitle = f"{images} of {findings.dataset.root}, {subtitle}"
    return printable(subtitle)


def _judgement(gate: Gate | None) -> Judgement | None:
    if gate is None:
        return None
    notes = [printable(text) for text in (*gate.warnings, *gate.equal)]
    return Judgement(gate.verdict.value, headline(gate), notes, gate_texts(gate))


def _cards(findings: Findings) -> list[Card]:
    """The best row of each model that failed no check."""
    accuracy = findings.accuracy
    if not accuracy or not accuracy.scored or not accuracy.labelled:
        return []
    best: dict[str, Scored] = {}
    for scored in accuracy.scored:
        name = scored.record.model
        if concerns(findings.faulty, name):
            continue
        if name not in best or _errs_less(scored, best[name]):
            best[name] = scored
    return [_card(scored) for scored in best.values()]


def _errs_less(one: Scored, other: Scored) -> bool:
    """Of rows with the same error, the one with fewer views is better."""
    return (one.record.top1_error_pct, one.record.views) < (
        other.record.top1_error_pct,
        other.record.views,
    )


def _card(scored: Scored) -> Card:
    r = scored.record
    views = f"{r.views} view{'s' if r.views > 1 else ''}"
    detail = f"{r.model}, {r.runtime} {r.precision}: {r.protocol}, Q {r.scales}, {views}"
    return Card(f"{r.top1_error_pct:.2f} %", "lowest top-1 error", detail)


def _fault_chapters(accuracy: Accuracy | None) -> list[Chapter]:
    if not accuracy or not accuracy.broken:
        return []
    note = "Their posteriors cannot be used, so no table or figure has a row of them."
    tables = [Section(fault_texts(accuracy), "")]
    return [Chapter("faults", "Models with faults", note, tables=tables)]


def _accuracy_chapters(findings: Findings, out: Path) -> list[Chapter]:
    """Errors, classes, calibration and score maps; without labels, agreement only."""
    accuracy, dataset = findings.accuracy, findings.dataset
    if not accuracy or not dataset or not accuracy.scored:
        return []
    tables = _accuracy_tables(accuracy, findings.faulty)
    if not accuracy.labelled:
        note = (
            "These images have no labels: the models' answers are compared with each other, not "
            "with the truth."
        )
        return [Chapter("accuracy", "Agreement", note, tables=tables)]
    shown = rows_for_people(accuracy.scored)
    # one row represents each model: its first protocol at all scales
    protocol = accuracy.scored[0].row.protocol
    representing = [s for s in widest(shown) if s.row.protocol == protocol]
    row = f"{protocol}, Q {representing[0].record.scales}"
    return [
        _errors_chapter(accuracy, shown, findings.faulty, tables),
        _classes_chapter(accuracy, representing, row, out),
        _calibration_chapter(representing, row),
        _maps_chapter(findings.models, representing[0], dataset, accuracy),
    ]


def _accuracy_tables(accuracy: Accuracy, faulty: set[str]) -> list[Section]:
    """All rows, and all comparisons with the first model."""
    texts = accuracy_texts(accuracy.scored, accuracy_title(accuracy, 0), faulty)
    tables = [Section(texts, "accuracy.csv")]
    if accuracy.pairs:
        comparisons = comparison_texts([pair.comparison for pair in accuracy.pairs])
        tables.append(Section(comparisons, "comparisons.csv"))
    return tables


def _errors_chapter(
    accuracy: Accuracy, shown: list[Scored], faulty: set[str], tables: list[Section]
) -> Chapter:
    note = (
        "Top-1 and top-5 error with Wilson's 95 % interval; time is that of all views of one image "
        "in the runtime."
    )
    errors = figures.errors([s.record for s in shown])
    caption = "Top-1 error by test scale and protocol, 95 % intervals"
    drawings = [Drawing("errors", caption, errors)]
    records = [s.record for s in accuracy.scored]
    pareto = figures.pareto(records, {r.model for r in records if concerns(faulty, r.model)})
    if pareto:
        drawings.insert(0, Drawing("pareto", "Error against time: lower left is better", pareto))
    return Chapter("accuracy", "Accuracy", note, drawings, tables=tables)


def _classes_chapter(
    accuracy: Accuracy, representing: list[Scored], row: str, out: Path
) -> Chapter:
    """Also writes per_class.csv and confusions.csv."""
    per_class = [class_accuracy(s, accuracy.classes) for s in representing]
    confused = [confusions(s, accuracy.classes) for s in representing]
    write_frame(pd.concat(per_class, ignore_index=True), out / "per_class.csv")
    write_frame(pd.concat(confused, ignore_index=True), out / "confusions.csv")
    drawings, notes = [], _single_answers(representing, accuracy)
    images = int(per_class[0].images.median())
    if images >= FEWEST_OF_CLASS:
        caption = f"Accuracy by class ({row})"
        drawings.append(Drawing("per-class", caption, figures.per_class(per_class)))
    else:
        few = f"{images} image{'s' if images > 1 else ''}"
        notes.append(
            f"The {len(per_class[0]):,} classes have {few} each (median), too few for a figure of "
            f"their accuracies; per_class.csv has them."
        )
    # if no pair occurs twice, their order is that of the alphabet
    if len(confused[0]) and confused[0].images.max() > 1:
        pairs = figures.confused(confused[0])
        caption = f"Most confused pairs of {representing[0].record.model} ({row})"
        drawings.append(Drawing("confused", caption, pairs))
    elif len(confused[0]):
        notes.append("No class is taken for another one more than once; confusions.csv has all.")
    return Chapter("classes", "Classes", " ".join(notes), drawings)


def _single_answers(representing: list[Scored], accuracy: Accuracy) -> list[str]:
    """A sentence per model that gives (nearly) all images the same class."""
    sentences = []
    for scored in representing:
        answers = np.bincount(scored.best)
        most, total = int(answers.max()), len(scored.best)
        if most >= ONE_ANSWER * total and most > (scored.labels == answers.argmax()).sum():
            answer = accuracy.classes.label(int(answers.argmax()))
            model = f"{scored.record.model} in {scored.record.runtime}"
            sentences.append(f"{model} answers {answer} for {most:,} of {total:,} images.")
    more = len(sentences) - NAMED
    return [*sentences[:NAMED], *([f"So do {more} more models."] if more > 0 else [])]


def _calibration_chapter(representing: list[Scored], row: str) -> Chapter:
    drawing = Drawing("reliability", "Reliability diagram", figures.calibration(representing))
    note = f"Is a posterior of 0.8 right 8 times of 10? ({row})"
    return Chapter("calibration", "Calibration", note, [drawing])


def _maps_chapter(
    models: list[Model], scored: Scored, dataset: Dataset, accuracy: Accuracy
) -> Chapter:
    note = (
        f"Dense evaluation of {scored.record.model}: the class posterior at every position of the "
        "score map, laid over the image where the window that it sees has its centre. Every class "
        "has a scale of its own, which begins at 0. First the most confident mistakes, with the "
        "map of the true class below, then right answers."
    )
    seen = image_maps(models, scored, dataset, accuracy)
    return Chapter("maps", "Score maps", note, images=seen)


def _box_chapters(tables: list[Section]) -> list[Chapter]:
    if not tables:
        return []
    note = (
        "A box is right if it overlaps one of the image's own boxes by more than half. Labels are "
        "the classifier's; with the true class the box alone is judged. The paper's errors are on "
        "other images."
    )
    return [Chapter("boxes", "Boxes", note, tables=tables)]


def _speed_chapters(findings: Findings) -> list[Chapter]:
    """Latency, and models called in turn, as far as they were measured."""
    chapters = []
    rows, samples = findings.latency, findings.latency_samples
    if rows and samples is not None:
        plot = figures.latency(rows, samples)
        note = (
            "From uint8 images in host memory to scores in host memory. Points are calls; the box "
            f"holds the middle half. {unsteady_line(rows)} {findings.energy}"
        ).strip()
        drawing = Drawing("latency", "Calls by image size and batch", plot)
        tables = [Section(latency_texts(rows, "Latency"), "latency.csv")]
        chapters.append(Chapter("speed", "Latency", note, [drawing], tables=tables))
    if findings.side_by_side:
        note = (
            "Models called one after the other, round after round, so that what disturbs one "
            "disturbs all. The ratio is the median of the rounds'."
        )
        chapters.append(Chapter("in-turn", "Side by side", note, tables=findings.side_by_side))
    return chapters


def _against_chapters(findings: Findings) -> list[Chapter]:
    if not findings.against and not findings.against_notes:
        return []
    note = " ".join(
        [
            "This run beside an earlier one. Errors are compared image by image; the interval is "
            "that of the difference.",
            *findings.against_notes,
        ]
    )
    return [Chapter("against", "Against an earlier run", note, tables=findings.against)]


def _file_chapters(tables: list[Section]) -> list[Chapter]:
    if not tables:
        return []
    note = (
        "Sizes are of all files of a model, MB of 10^6 bytes. Memory is that of a process of its "
        'own, with Python and its libraries, which take the part that is named "before".'
    )
    return [Chapter("files", "Files and memory", note, tables=tables)]


def _layer_chapters(findings: Findings) -> list[Chapter]:
    """Times and errors of layers, and explained images, as far as they were measured."""
    chapters = []
    if findings.layers:
        note = (
            "What each layer takes and loses. Layers that a runtime computes at once stand in one "
            "row. SQNR is the power of the float32 net's values over that of the error: of the "
            "layer alone, on float32 values (adds), and of all layers up to it (so far). 6 dB are "
            "a factor of two."
        )
        chapter = Chapter("layers", "Layers", note, findings.layer_drawings, tables=findings.layers)
        chapters.append(chapter)
    if findings.explained:
        note = (
            "The margin is how far the float32 net's best score lies above the rival's. Behind "
            "each layer of the file the float32 net continues: what is left of the margin there "
            "shows what each layer changed. Rounding does not explain an error above its bound."
        )
        facts = [(one.partition(" at Q ")[0], one) for one in findings.explanations]
        chapters.append(
            Chapter("explained", "Images explained", note, tables=findings.explained, facts=facts)
        )
    return chapters


def _load_chapters(findings: Findings) -> list[Chapter]:
    if not findings.load:
        return []
    note = (
        "The scenarios of MLPerf Inference. Offline: all images are there at the start. Single "
        "stream: one after the other. Server: images arrive as a Poisson process, and a latency "
        "counts from the arrival. Intervals of percentiles are by order statistics, wider where "
        "queries depend on each other."
    )
    return [Chapter("load", "Load", note, findings.load_drawings, tables=findings.load)]


def _distance_chapters(tables: list[Section]) -> list[Chapter]:
    if not tables:
        return []
    note = (
        "Each photo beside 15 distortions of it: blur, noise, JPEG, brightness and shift, each at "
        "three strengths. Spearman's correlation and errors are against the first file; its 95 % "
        "interval is by the jackknife over photos."
    )
    return [Chapter("distances", "Distances", note, tables=tables)]


def _paper_chapters(tables: list[Section]) -> list[Chapter]:
    if not tables:
        return []
    note = (
        "The paper's errors on ILSVRC-2012 validation, and what was measured here. Differences "
        "mean something on the same images only."
    )
    return [Chapter("paper", "The paper's tables", note, tables=tables)]


def _facts(environment: Mapping[str, object]) -> list[tuple[str, str]]:
    """Names and values; nested values as JSON."""
    return [
        (name.replace("_", " "), value if isinstance(value, str) else json.dumps(value))
        for name, value in environment.items()
    ]
