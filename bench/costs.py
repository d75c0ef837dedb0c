"""Measures what models cost: time, memory and size, alone and beside an earlier run's."""

from dataclasses import dataclass, field
from functools import partial

from bench.earlier.answers import Answers, compare_answers
from bench.earlier.comparison import Against
from bench.earlier.costs import Times, compare_memory, compare_sizes, compare_times
from bench.earlier.run import EarlierRun
from bench.gate.cost_checks import (
    COMPARED,
    NotInTurn,
    ask_memory,
    ask_slowdowns,
    check_not_in_turn,
    check_sizes,
)
from bench.gate.counted_checks import ask_agreement, ask_drops
from bench.gate.judge import Others, asked_of_images
from bench.gate.open_check import OpenCheck
from bench.gate.verdict import Check
from bench.inputs import Inputs
from bench.memory.measure import Memory, measure_memory
from bench.models.files import ModelFile, model_files
from bench.models.model import Model
from bench.report.contents import Findings
from bench.report.cost_sections import against_section, files_section, memory_section
from bench.report.sections import latency_section, side_by_side_section
from bench.results.machine import Machine
from bench.results.results_folder import Results
from bench.speed.energy import counters
from bench.speed.latency_grid import measure_latencies
from bench.speed.side_by_side import measure_side_by_side
from bench.speed.turns import Turns, turns_of_samples
from vgg_deploy.command_line import say
from vgg_deploy.runtimes.graph_interface import interface_of
from vgg_deploy.statistics.evidence import Verdict


@dataclass
class Costs:
    """What was measured, for the gate.

    Attributes:
        files: Of all models.
        turns: Calls in turn with what a model is compared with.
        not_in_turn: Models that could not be called so.
        memory: Of all models; empty if it is not measured.
        answers: Beside an earlier run's.
        warnings: Sentences about what makes a comparison doubtful.
    """

    files: list[ModelFile]
    turns: list[Turns] = field(default_factory=list)
    not_in_turn: list[NotInTurn] = field(default_factory=list)
    memory: list[Memory] = field(default_factory=list)
    answers: Answers | None = None
    warnings: list[str] = field(default_factory=list)


def measure_costs(
    inputs: Inputs, findings: Findings, results: Results, earlier: EarlierRun | None
) -> Costs:
    """Measure what the options ask for, and write its tables.

    Args:
        inputs: The request, and what was opened for it.
        findings: Takes the sections; has the accuracy if it was measured.
        results: Where the files go.
        earlier: An earlier run to compare with.

    Raises:
        InputError: If the earlier run's folder is damaged.
    """
    costs = Costs(model_files(inputs.models))
    findings.files = files_section(costs.files, results.staging)
    findings.sections += findings.files
    _measure_latency(inputs, findings, results)
    _measure_in_turn(inputs, findings, results, costs, earlier)
    if inputs.request.tables.memory or inputs.request.gate.limits.memory is not None:
        costs.memory = measure_memory(
            inputs.models,
            partial(_sides_of, inputs),
            inputs.request.tables.batches,
            inputs.request.models.stated,
            inputs.request.models.cuda_graphs,
        )
        found = memory_section(costs.memory, results.staging)
        findings.files += found
        findings.sections += found
    if earlier:
        against = _compare(inputs, findings, costs, earlier)
        findings.against = against_section(against, results.staging)
        findings.against_notes = against.lines
        findings.sections += findings.against
        for line in against.lines:
            say(line)
    return costs


def _sides_of(inputs: Inputs, model: Model) -> tuple[int, ...]:
    interface = interface_of(model.runtime)
    if interface.shape is not None:  # only squares are timed
        height, width = interface.shape[1:]
        return (height,) if height == width else ()
    own = () if interface.side is None else (interface.side,)
    return inputs.request.tables.sides or own or model.runtime.spec.test_sides


def _measure_latency(inputs: Inputs, findings: Findings, results: Results) -> None:
    tables = inputs.request.tables
    if not tables.latency:
        return
    rows, samples = measure_latencies(
        inputs.models,
        partial(_sides_of, inputs),
        tables.batches,
        _warn_unsteady,
        tables.latency_seconds,
    )
    findings.latency, findings.latency_samples = rows, samples
    findings.sections += latency_section(rows, samples, results.staging)
    why_not = counters(inputs.request.models.device).why_not
    if why_not:
        findings.energy = f"No joules per image: {why_not}."
        say(findings.energy)


def _warn_unsteady(text: str) -> None:
    say(f"Unsteady: {text}", err=True)


def _measure_in_turn(
    inputs: Inputs,
    findings: Findings,
    results: Results,
    costs: Costs,
    earlier: EarlierRun | None,
) -> None:
    """Call all models in turn if that is asked for, or if a limit needs it."""
    tables = inputs.request.tables
    beside_first = inputs.request.gate.limits.slowdown is not None and earlier is None
    if not tables.side_by_side and not beside_first:
        return
    compared, samples = measure_side_by_side(
        inputs.models, partial(_sides_of, inputs), tables.batches
    )
    findings.side_by_side = side_by_side_section(compared, samples, results.staging)
    findings.sections += findings.side_by_side
    if beside_first:
        costs.turns = turns_of_samples(inputs.models, samples)


def _compare(inputs: Inputs, findings: Findings, costs: Costs, earlier: EarlierRun) -> Against:
    """Compare with an earlier run all that both measured."""
    against = Against(earlier)
    if findings.accuracy:
        costs.answers = compare_answers(earlier, findings.accuracy)
        against.add_answers(costs.answers)
    if findings.latency:
        machine = Machine.of_environment(findings.environment)
        options = inputs.options
        times: Times = compare_times(
            earlier, inputs.models, costs.files, findings.latency, machine, options
        )
        costs.turns, costs.not_in_turn = times.turns, times.not_in_turn
        costs.warnings += times.warnings
        against.add_times(times)
    against.rows += compare_sizes(earlier, costs.files)
    against.rows += compare_memory(earlier, costs.memory)
    return against


def asked_of_costs(inputs: Inputs, costs: Costs) -> Others:
    """What the gate asks about costs, and about losses against an earlier run.

    Args:
        inputs: The request, and what was opened for it.
        costs: What was measured.
    """
    asked = inputs.judge
    limits, facts, questions = asked.limits, list[Check](), list[OpenCheck]()
    if limits.size is not None:
        facts += check_sizes(costs.files, limits.size)
    if limits.slowdown is not None:
        facts += check_not_in_turn(costs.not_in_turn, limits.slowdown)
        questions += ask_slowdowns(costs.turns, limits.slowdown)
    if limits.memory is not None:
        questions += ask_memory(costs.memory, limits.memory)
    if costs.answers is not None:
        for one in costs.answers.pairs:
            if one.pair.other.row not in asked.rows:
                continue
            counted = ask_agreement(one.pair, limits, asked.method)
            if one.pair.other.labelled:
                counted += ask_drops(one.pair, limits, asked.method)
            since = f"since {costs.answers.label}"
            named = [question._replace(rows=f"{question.rows}, {since}") for question in counted]
            questions += asked_of_images(named, one.files)
        facts += _not_compared(inputs, costs.answers)
    return Others(facts, questions, costs.warnings if limits.slowdown is not None else ())


def _not_compared(inputs: Inputs, answers: Answers) -> list[Check]:
    """Models without any row of the earlier run would pass its limits unseen."""
    limits = inputs.request.gate.limits
    if limits.top1_drop is None and limits.top5_drop is None and limits.agreement is None:
        return []
    compared = {member.model for one in answers.pairs for member in one.pair.other.row.members}
    message = (
        "the earlier run has no row of it with the same runtime, protocol and scales and a common "
        "image, so its losses since then are not known"
    )
    return [
        Check(model.name, COMPARED, "", Verdict.UNDECIDED, message)
        for index, model in enumerate(inputs.models)
        if index not in compared
    ]
