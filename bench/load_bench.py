"""Measures models under load: a table of its own, reports, and the best settings."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from bench.conclusion import publish
from bench.load.best import best_settings
from bench.load.measure import LoadPlan, Subject, measure_load
from bench.load.rows import LoadRow
from bench.load.settings import placements
from bench.load.subjects import subject_of
from bench.models.foreign_models import input_lines
from bench.models.model import Model, ModelOptions, check_sides, open_models
from bench.report.contents import Findings
from bench.report.load import load_drawings, load_section
from bench.request import BenchRequest
from bench.results.results_folder import Results
from vgg_deploy.command_line import say
from vgg_deploy.errors import InputError, VGGDeployError, interrupted
from vgg_deploy.exported.signatures import VerifyingKey
from vgg_deploy.job import Job
from vgg_deploy.machine import available_cores
from vgg_deploy.net.named_weights import Located
from vgg_deploy.progress import progress


def bench_load(
    request: BenchRequest,
    found: Sequence[Located],
    environment: dict[str, Any],
    results: Results,
    job: Job,
) -> None:
    """Measure, and write tables and reports.

    The rows that are ready are published even if the run is interrupted, or a model fails.

    Args:
        request: The options.
        found: The files.
        environment: Of `describe_environment`, with the run's id.
        results: Where the files go.
        job: The processes of the run, which may be one only.

    Raises:
        CheckFailed: If a model fails under load.
        InputError: For what cannot be used.
    """
    if job.world > 1:
        raise InputError(
            "--load starts its own processes; run it without torchrun, and set --instances"
        )
    if request.models.verify:
        key = VerifyingKey(request.models.verify)
        for file in found:
            key.verify(file.path)
    subjects = _subjects(request, found)
    findings = Findings([], environment, names=[one.name for one, _ in subjects])
    rows: list[LoadRow] = []
    samples: list[pd.DataFrame] = []
    try:
        with progress("load", len(subjects) * len(subjects[0][1].placements)) as bar:
            for subject, plan in subjects:
                say(_plan_line(subject, plan))
                for row, times in measure_load(subject, plan):
                    rows.append(row)
                    if times is not None:
                        samples.append(times)
                    bar.note = f"{row.model} {row.scenario} {row.setting}"
                bar.advance(len(plan.placements))
    except KeyboardInterrupt as stop:
        if not rows:
            raise
        _publish(request, rows, samples, findings, results)
        kept = f"{results.folder} has the {len(rows)} rows of load.csv that were ready"
        raise interrupted(stop, kept) from None
    except VGGDeployError:
        if rows:
            _publish(request, rows, samples, findings, results)
            say(f"{results.folder} has the {len(rows)} rows of load.csv before the failure")
        raise
    _publish(request, rows, samples, findings, results)


def _publish(
    request: BenchRequest,
    rows: list[LoadRow],
    samples: list[pd.DataFrame],
    findings: Findings,
    results: Results,
) -> None:
    """Write and publish everything about some rows."""
    times = pd.concat(samples, ignore_index=True)
    best = best_settings(rows, request.load.bound)
    findings.load = load_section(rows, best, times, results.staging)
    findings.load_drawings = load_drawings(rows)
    findings.sections += findings.load
    publish(request, findings, results)
    for one in best:
        say(one.line)


def _subjects(request: BenchRequest, found: Sequence[Located]) -> list[tuple[Subject, LoadPlan]]:
    """The models and what is measured of each; they are closed again, for their memory."""
    options = ModelOptions(
        device=request.models.device,
        runtimes=request.models.runtime_names,
        precisions=request.models.precisions or ("fp32",),
        stated=request.models.stated,
    )
    models = open_models(found, options)
    for line in input_lines(models):
        say(line)
    if request.tables.sides:
        check_sides(models, request.tables.sides)
    return [(subject_of(model, options.stated), _plan(model, request)) for model in models]


def _plan(model: Model, request: BenchRequest) -> LoadPlan:
    load, sides = request.load, request.tables.sides
    return LoadPlan(
        placements=tuple(placements(available_cores(), request.models.threads, load.instances)),
        batches=request.tables.batches,
        delay_ms=load.batch_delay,
        rates=load.arrival_rates or (),
        bound=load.bound,
        seconds=load.load_seconds,
        side=sides[0] if sides else model.runtime.spec.crop,
    )


def _plan_line(subject: Subject, plan: LoadPlan) -> str:
    """What is about to be measured."""
    placed = "; ".join(placement.words for placement in plan.placements)
    return (
        f"{subject.name} under load on {subject.device}: {placed}; batches of "
        f"{', '.join(map(str, plan.batches))}; {plan.side} x {plan.side} pixels; "
        f"{plan.seconds:g} s per measurement"
    )
