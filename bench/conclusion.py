"""Turns what was measured into tables, reports, and the verdict of the gate."""

from typing import Any, NamedTuple

from bench.accuracy.cell_pruning import cells_line
from bench.accuracy.fill_cells import Measured
from bench.accuracy.measure import Accuracy, accuracy_of
from bench.cells_kept import cells_kept
from bench.costs import asked_of_costs, measure_costs
from bench.earlier.run import EarlierRun
from bench.gate.judge import Others, asked_of_images, judge, judge_others
from bench.gate.open_check import OpenCheck
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
    paper_section,
    write_report_md,
)
from bench.request import BenchRequest
from bench.results.results_folder import Results
from bench.speed.first_calls import ShapeRow
from vgg_deploy.command_line import say
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import CheckFailed, Undecided
from vgg_deploy.files import write_text
from vgg_deploy.printable import json_text
from vgg_deploy.statistics.evidence import Verdict


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
    earlier: EarlierRun | None,
    environment: dict[str, Any],
    results: Results,
) -> None:
    """Compute the rows, measure latency, write tables and reports, and judge.

    All files are written into the staging folder and published together.

    Args:
        inputs: The request, and what was opened for it.
        scored: The scores; None if accuracy is not measured.
        boxes: The localisation errors; None if they are not measured.
        earlier: An earlier run to compare with.
        environment: Of `describe_environment`, with the run's id.
        results: Where the files go.

    Raises:
        CheckFailed: For a failed gate, or without a gate for a model with invalid posteriors.
        Undecided: For a gate without a verdict.
    """
    findings = Findings(
        inputs.models, {**environment, **_assumed(inputs.models, scored), **_data(scored)}
    )
    box_questions = _box_questions(inputs, boxes)
    if scored:
        _conclude_accuracy(inputs, scored, Others(questions=box_questions), findings, results)
    if boxes:
        _conclude_boxes(boxes, findings, results)
    costs = asked_of_costs(inputs, measure_costs(inputs, findings, results, earlier))
    if inputs.request.gate.limits and (findings.gate is None or any(costs)):
        others = costs._replace(questions=[*box_questions, *costs.questions])
        findings.gate = _judged(inputs, scored, findings, others)
    if inputs.request.tables.per_layer or inputs.request.tables.explain:
        from bench.per_layer import conclude_layers  # here, for what it imports

        conclude_layers(inputs, scored.dataset if scored else None, findings, results)
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


def _data(scored: ScoredCells | None) -> dict[str, object]:
    """Which images were scored, as an entry of the environment."""
    if scored is None or scored.measured.content is None:
        return {}
    dataset = scored.dataset
    content = {"images": len(dataset), "sha256": scored.measured.content.sha256}
    return {"data": {"root": str(dataset.root), **content}}


def _conclude_accuracy(
    inputs: Inputs,
    scored: ScoredCells,
    others: Others,
    findings: Findings,
    results: Results,
) -> None:
    """Add everything that follows from the scores to the findings."""
    request, out = inputs.request, results.staging
    accuracy = _accuracy(inputs, scored)
    findings.dataset, findings.accuracy = scored.dataset, accuracy
    if request.gate.limits:  # judged again when all is measured; the tables show what is faulty
        findings.gate = _judged(inputs, scored, findings, others)
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


def _judged(inputs: Inputs, scored: ScoredCells | None, findings: Findings, others: Others) -> Gate:
    """The verdict on what was measured so far."""
    if scored and findings.accuracy:
        return judge(inputs.judge, findings.accuracy, scored.left_out, others)
    return judge_others(inputs.judge, inputs.models[0].name, others)


def _box_questions(inputs: Inputs, boxes: LocalisationFindings | None) -> list[OpenCheck]:
    """What the gate asks about boxes."""
    if boxes is None:
        return []
    asked = inputs.judge
    questions = ask_box_drops(boxes, asked.limits.box_drop, asked.method)
    files = [str(boxes.dataset.files[i]) for i in boxes.localised.kept]
    return asked_of_images(questions, files)


def _conclude_boxes(boxes: LocalisationFindings, findings: Findings, results: Results) -> None:
    """Write the tables of boxes, and report each image that was left out."""
    for message in boxes.localised.skipped:
        say(f"Left out: {message}", err=True)
    findings.boxes = localisation_section(boxes, str(boxes.dataset.root), results.staging)
    findings.sections += findings.boxes


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
        more = "use more images, or " if gate.images_to_decide else ""
        raise Undecided(
            f"the gate is undecided; {more}say with --undecided pass or fail what that means. "
            f"{where}"
        )
    raise CheckFailed(f"the gate is undecided, which counts as failed here; {where}")


def _refuse_faulty(accuracy: Accuracy) -> None:
    """Without a gate, a model with invalid posteriors is an error."""
    for fault in accuracy.faults:
        if fault.model in accuracy.broken:
            raise CheckFailed(fault.what)
