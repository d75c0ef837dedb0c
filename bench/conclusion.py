"""Turns what was measured into tables, reports, and the verdict of the gate."""

from typing import Any, NamedTuple

from bench.accuracy.cell_pruning import cells_line
from bench.accuracy.fill_cells import Measured
from bench.accuracy.measure import Accuracy, accuracy_of
from bench.cells_kept import cells_kept
from bench.gate.judge import OtherQuestions, judge
from bench.gate.until_decided import images_left_out
from bench.gate.verdict import Gate
from bench.gate.verdict_files import JSON, XML, write_gate
from bench.inputs import Inputs
from bench.localisation.checks import ask_box_drops
from bench.localisation.findings import LocalisationFindings
from bench.models.foreign_models import class_lines, input_lines
from bench.models.model import Model
from bench.report.contents import Findings, write_report
from bench.report.gate_text import lines
from bench.report.localisation import localisation_section
from bench.report.sections import (
    Section,
    accuracy_section,
    append_summary,
    fault_section,
    latency_section,
    paper_section,
    side_by_side_section,
    write_report_md,
)
from bench.request import BenchRequest
from bench.results.results_folder import Results
from bench.speed.first_calls import ShapeRow
from bench.speed.latency_grid import measure_latencies
from bench.speed.side_by_side import measure_side_by_side
from bench.statistics.evidence import Verdict
from vgg_deploy.command_line import say
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import CheckFailed, Undecided
from vgg_deploy.files import write_text
from vgg_deploy.printable import json_text
from vgg_deploy.runtimes.graph_interface import interface_of


class ScoredCells(NamedTuple):
    """The scores of a data set; complete in the main process only."""

    dataset: Dataset
    measured: Measured
    shapes: list[ShapeRow]

    @property
    def left_out(self) -> list[str]:
        """One message per image that was not scored."""
        return images_left_out(self.dataset, self.measured)


def conclude(
    inputs: Inputs,
    scored: ScoredCells | None,
    boxes: LocalisationFindings | None,
    environment: dict[str, Any],
    results: Results,
) -> None:
    """Compute the rows, measure latency, write tables and reports, and judge.

    All files are written into the staging folder and published together.

    Args:
        inputs: The request, and what was opened for it.
        scored: The scores; None if accuracy is not measured.
        boxes: The localisation errors; None if they are not measured.
        environment: Of `describe_environment`, with the run's id.
        results: Where the files go.

    Raises:
        CheckFailed: For a failed gate, or without a gate for a model with invalid posteriors.
        Undecided: For a gate without a verdict.
    """
    findings = Findings(inputs.models, {**environment, **_assumed(inputs.models, scored)})
    if scored:
        _conclude_accuracy(inputs, scored, boxes, findings, results)
    if boxes:
        _conclude_boxes(boxes, findings, results)
    _conclude_speed(inputs, findings, results)
    publish(inputs.request, findings, results)
    if scored:
        say(cells_line(inputs.request.output.cells))
    if findings.gate:
        for line in lines(findings.gate):
            say(line)
        end_with_verdict(findings.gate, inputs.request.gate.accept_undecided, results)
    elif findings.accuracy:
        _refuse_faulty(findings.accuracy)


def _assumed(models: list[Model], scored: ScoredCells | None) -> dict[str, list[str]]:
    """What was assumed about models that do not say it, as an entry of the environment."""
    assumed = input_lines(models)
    if scored:
        assumed += class_lines(models, scored.dataset)
    return {"assumed": assumed} if assumed else {}


def _conclude_accuracy(
    inputs: Inputs,
    scored: ScoredCells,
    boxes: LocalisationFindings | None,
    findings: Findings,
    results: Results,
) -> None:
    """Add everything that follows from the scores to the findings."""
    request, out = inputs.request, results.staging
    accuracy = _accuracy(inputs, scored)
    findings.dataset, findings.accuracy = scored.dataset, accuracy
    if request.gate.limits:
        others = _box_questions(inputs, boxes)
        findings.gate = judge(inputs.judge, accuracy, scored.left_out, others)
    findings.sections += fault_section(accuracy)
    if not accuracy.scored:
        return
    if request.tables.paper_tables and accuracy.labelled:
        findings.paper = paper_section(inputs.models, accuracy, str(scored.dataset.root), out)
    findings.sections += findings.paper
    findings.sections += accuracy_section(accuracy, len(scored.left_out), findings.faulty, out)


def _accuracy(inputs: Inputs, scored: ScoredCells) -> Accuracy:
    """Compute the rows, and report each image that was left out."""
    with cells_kept(inputs.request.output.cells):
        accuracy = accuracy_of(
            inputs.models, inputs.rows, scored.dataset, scored.measured, scored.shapes
        )
    for message in scored.left_out:
        say(f"Left out: {message}", err=True)
    return accuracy


def _box_questions(inputs: Inputs, boxes: LocalisationFindings | None) -> OtherQuestions | None:
    """What the gate asks about boxes."""
    if boxes is None:
        return None
    asked = inputs.judge
    questions = ask_box_drops(boxes, asked.limits.box_drop, asked.method)
    return OtherQuestions(questions, [str(boxes.dataset.files[i]) for i in boxes.localised.kept])


def _conclude_boxes(boxes: LocalisationFindings, findings: Findings, results: Results) -> None:
    """Write the tables of boxes, and report each image that was left out."""
    for message in boxes.localised.skipped:
        say(f"Left out: {message}", err=True)
    findings.boxes = localisation_section(boxes, str(boxes.dataset.root), results.staging)
    findings.sections += findings.boxes


def _conclude_speed(inputs: Inputs, findings: Findings, results: Results) -> None:
    """Measure latency, and the models side by side, as far as they are asked for."""
    tables, out = inputs.request.tables, results.staging

    def sides_of(model: Model) -> tuple[int, ...]:
        interface = interface_of(model.runtime)
        if interface.shape is not None:  # only squares are timed
            height, width = interface.shape[1:]
            return (height,) if height == width else ()
        own = () if interface.side is None else (interface.side,)
        return tables.sides or own or model.runtime.spec.test_sides

    if tables.latency:
        rows, samples = measure_latencies(
            inputs.models, sides_of, tables.batches, _warn_unsteady, tables.latency_seconds
        )
        findings.latency, findings.latency_samples = rows, samples
        findings.sections += latency_section(rows, samples, out)
    if tables.side_by_side:
        compared, samples = measure_side_by_side(inputs.models, sides_of, tables.batches)
        findings.side_by_side = side_by_side_section(compared, samples, out)
        findings.sections += findings.side_by_side


def _warn_unsteady(text: str) -> None:
    say(f"Unsteady: {text}", err=True)


def publish(request: BenchRequest, findings: Findings, results: Results) -> None:
    """Write the reports and the verdict, and publish all files of the run.

    Args:
        request: The options.
        findings: What the run found; its tables are staged already.
        results: Where the files go.
    """
    out, environment = results.staging, findings.environment
    write_text(out / "environment.json", json_text(environment, 2) + "\n")
    write_report_md(findings.sections, findings.gate, environment, out)
    write_report(findings, out)
    if findings.gate:
        write_gate(findings.gate, request.gate.accept_undecided, results.run_id, out)
    results.publish(environment)
    if request.output.summary:
        append_summary(findings.sections, findings.gate, environment, request.output.summary)
    report = results.folder / "report.html"
    files = ", ".join(["report.md", *_files(findings.sections), "environment.json"])
    say(f"Report: {report}; tables, raw times and environment beside it: {files}")


def _files(sections: list[Section]) -> list[str]:
    """Names of the tables' CSV files, each once."""
    return list(dict.fromkeys(section.file for section in sections if section.file))


def end_with_verdict(gate: Gate, accept_undecided: bool | None, results: Results) -> None:
    """Turn the verdict into the exit code.

    Args:
        gate: The verdict.
        accept_undecided: Whether an undecided gate counts as passed; None for an exit code of its
            own.
        results: For the message.

    Raises:
        CheckFailed: For a failed gate, or an undecided one that counts as failed.
        Undecided: For an undecided gate if nothing says how it counts.
    """
    where = f"{results.folder / JSON} and {results.folder / XML} have the details"
    if gate.verdict == Verdict.FAIL:
        raise CheckFailed(f"the gate failed; {where}")
    if gate.verdict == Verdict.PASS or accept_undecided:
        return
    if accept_undecided is None:
        raise Undecided(
            "the gate is undecided; use more images, or say with --undecided pass or fail what "
            f"that means. {where}"
        )
    raise CheckFailed(f"the gate is undecided, which counts as failed here; {where}")


def _refuse_faulty(accuracy: Accuracy) -> None:
    """Without a gate, a model with invalid posteriors is an error."""
    for fault in accuracy.faults:
        if fault.model in accuracy.broken:
            raise CheckFailed(fault.what)
