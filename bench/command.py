"""What a command line asks for, done: accuracy by all processes of a job, everything else by the main one."""

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import click

from bench.accuracy.fill_cells import Measured
from bench.accuracy.measure import (
    Accuracy,
    accuracy_of,
    score_cells,
    score_until_sure,
)
from bench.accuracy.paper_tables import paper_rows
from bench.accuracy.protocols import Row
from bench.accuracy.selection import select_rows
from bench.accuracy.settings import Scoring, Storage
from bench.gate.row_choice import check_selectors, chosen_rows
from bench.gate.verdict import FIXED, SEQUENTIAL, Gate, Judge, judge
from bench.gate.verdict_files import JSON, XML, verdict_on_disk, write_gate
from bench.models.foreign_models import class_lines, class_lists, input_lines
from bench.models.model import Model, ModelOptions, check_sides, open_models, runnable
from bench.report import sections as outputs
from bench.report.contents import write_report
from bench.report.gate_text import lines
from bench.request import BenchRequest
from bench.results.environment import describe_environment
from bench.results.printable import printable
from bench.results.results_folder import Results, new_run_id, results_folder
from bench.speed.first_calls import ShapeRow
from bench.speed.latency_grid import measure_latencies
from bench.speed.side_by_side import measure_side_by_side
from bench.statistics.evidence import Verdict
from vgg_deploy.data.built_in import built_in
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.layouts import open_dataset
from vgg_deploy.data.unlabelled import lacks_labels, open_unlabelled
from vgg_deploy.errors import CheckFailed, InputError, Interrupted, Undecided, interruptible
from vgg_deploy.files import write_text
from vgg_deploy.job import Job
from vgg_deploy.machine import available_cores
from vgg_deploy.newest import newest_exports
from vgg_deploy.progress import LOG_EVERY, console

BUILT_IN_IMAGES = 200


class ScoredCells(NamedTuple):
    """What scoring a data set comes to; whole in the main process only."""

    dataset: Dataset
    measured: Measured
    shapes: list[ShapeRow]


def bench(request: BenchRequest, job: Job) -> None:
    """Measure, and leave tables and reports.

    Raises: CheckFailed for a failed gate or a model whose posteriors no table may show; Undecided for a gate without a
        verdict; InputError and click's errors for what cannot be used.
    """
    run_id = job.on_main(new_run_id)
    with ExitStack() as until_the_end:
        results = job.on_main(open_results, request, run_id, until_the_end)
        request = request._replace(
            threads=request.threads or max(1, available_cores() // job.local_world)
        )
        paths = job.on_main(named_models, request)
        models, rows = job.on_all(opened, request, paths)
        environment = job.on_main(
            lambda: {"run_id": run_id, **describe_environment(request.threads, job.world)}
        )
        scores = score(request, models, rows, job) if "accuracy" in request.measure else None
        job.on_main(
            conclude, request, models, rows, scores, environment, results
        )  # the others wait asleep


def open_results(request: BenchRequest, run_id: str, until_the_end: ExitStack) -> Results:
    """A folder for the results of this run, and its verdict if it has limits, kept until the stack is closed."""
    if request.limits:
        until_the_end.enter_context(verdict_on_disk(request.out, request.limits, run_id))
    return until_the_end.enter_context(results_folder(request.out, run_id))


def named_models(request: BenchRequest) -> list[Path]:
    """The files that the command names, else those of the newest export that run on this device."""
    paths = list(request.models)
    if not paths:
        paths, others = runnable(newest_exports(), request.device)
        click.echo(f"No model named: measuring the newest export, {', '.join(map(str, paths))}")
        here, way_out = {
            "cpu": ("the CPU", "--device cuda where there is a GPU"),
            "cuda": ("the GPU", "--device cpu"),
        }[request.device]
        if not paths:
            raise InputError(
                f"none of the newest exports runs on {here} ({', '.join(map(str, others))}); add {way_out}, or name a model"
            )
        if others:
            click.echo(f"Not on {here}, add {way_out}: {', '.join(map(str, others))}")
    return paths


def opened(request: BenchRequest, paths: list[Path]) -> tuple[list[Model], list[Row]]:
    """The models, and the rows of the accuracy table."""
    ways = ModelOptions(
        request.device,
        request.threads,
        request.runtime_names,
        request.precisions or ("fp32",),
        request.cuda_graphs,
        request.stated,
    )
    models = open_models(paths, ways, class_lists(request.classes, paths))
    for line in input_lines(models):
        click.echo(line)
    if request.side_by_side and len(models) < 2:
        raise InputError(
            "--side-by-side compares with the first model; name at least two, or several --runtimes or --torch-precision"
        )
    if request.paper_tables:
        rows = list(dict.fromkeys(row for _, row in paper_rows(models)))
    else:
        rows = select_rows(models, request.protocols, request.sides, request.flips, request.fuse)
    if request.sides:
        check_sides(models, request.sides)
    if request.limits.compares and len(models) < 2:
        raise InputError(
            "a limit compares models with the first; name the reference and at least one more"
        )
    check_selectors(models, rows, request.gate_rows)
    return models, rows


def score(request: BenchRequest, models: list[Model], rows: list[Row], job: Job) -> ScoredCells:
    """Every cell that the rows need, each process its share of the images."""
    dataset = open_images(request, job)
    processes = f"{job.world} processes, each with " if job.world > 1 else ""
    click.echo(
        f"{len(models)} model{'s' if len(models) > 1 else ''} on {request.device}, {processes}{request.threads} threads; "
        f"{len(dataset)} images of {printable(str(dataset.root))}"
    )
    for line in job.on_main(class_lines, models, dataset):
        click.echo(line)
    storage = Storage(request.cells, request.cell_type)
    scoring = Scoring(storage, request.accuracy_batch, request.threads, request.on_error, job)
    asked = (models, rows, dataset, scoring)
    with cells_kept(request.cells):
        if request.images == "auto":
            click.echo("Images in a fixed random order, until every check of the gate is decided")
            sure = decided(request, models, rows, dataset)
            return ScoredCells(dataset, *score_until_sure(*asked, sure))
        return ScoredCells(dataset, *score_cells(*asked))


def decided(
    request: BenchRequest, models: list[Model], rows: list[Row], dataset: Dataset
) -> Callable[[Measured], bool]:
    """A function that says whether the images scored so far decide every check; it shows how far the gate is."""
    last = time.monotonic()

    def sure(measured: Measured) -> bool:
        nonlocal last
        accuracy = accuracy_of(models, rows, dataset, measured, [])
        gate = judge(judge_of(request, rows), accuracy, left_out(dataset, measured))
        undecided = gate.count(Verdict.UNDECIDED)
        if undecided and time.monotonic() - last >= LOG_EVERY:
            last = time.monotonic()
            wanted = (
                f", about {gate.images_to_decide:,} images may decide them"
                if gate.images_to_decide
                else ""
            )
            console.print(
                f"{gate.images:,} images: {undecided} of {len(gate.checks)} checks undecided{wanted}",
                markup=False,
            )
        return not undecided

    return sure


def judge_of(request: BenchRequest, rows: list[Row]) -> Judge:
    """What the options ask of the gate."""
    method = SEQUENTIAL if request.images == "auto" else FIXED
    return Judge(request.limits, chosen_rows(rows, request.gate_rows), request.cell_type, method)


def left_out(dataset: Dataset, measured: Measured) -> list[str]:
    """Messages about files of the data that were not scored."""
    return [*dataset.skipped, *measured.skipped]


def open_images(request: BenchRequest, job: Job) -> Dataset:
    """The images of --data, of which all processes have the main one's list; else the built-in ones."""
    count = None if request.images == "auto" else request.images
    if request.data is None:
        click.echo("No --data: measuring on the built-in validation pictures")
        rendered = count or BUILT_IN_IMAGES
        job.on_main(
            lambda: len(built_in("val", rendered))
        )  # rendered once, and again only in the cache of another machine
        return job.on_all(built_in, "val", rendered)

    def listed() -> Dataset:
        dataset = open_data(request)
        return dataset.subset(count) if count and count < len(dataset) else dataset

    return job.on_main(listed)


def open_data(request: BenchRequest) -> Dataset:
    """The images of --data, with their labels where it has any.

    Raises: InputError for data that cannot be used; click's error for limits that need labels where there are none.
    """
    if not (request.no_labels or lacks_labels(request.data)):
        return open_dataset(request.data, "val", on_error=request.on_error)
    if request.limits.needs_labels:
        raise InputError(
            f"{request.data}: these photos have no labels, and a limit on accuracy needs them; use --min-agreement or "
            "--max-posterior-difference, or sort the photos into class folders, or put a ground truth and a synset list beside them"
        )
    dataset = open_unlabelled(request.data, request.on_error)
    click.echo("No labels: answers of the models are compared, accuracy stays empty")
    return dataset


@contextmanager
def cells_kept(folder: Path) -> Iterator[None]:
    """Let Ctrl-C or SIGTERM end the block with a sentence, when the cells have been saved on the way out."""
    kept = f"what was scored is kept in {folder}, the same command goes on from there"

    def stop(signum, frame):
        raise Interrupted(
            f"stopped by SIGTERM, which schedulers send, and torchrun when another process of the job has ended; {kept}",
            signum,
        )

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with interruptible(kept):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


def conclude(
    request: BenchRequest,
    models: list[Model],
    rows: list[Row],
    scores: ScoredCells | None,
    environment: dict,
    results: Results,
) -> None:
    """The rows' arithmetic, latency, tables, reports, and the gate's verdict.

    All files are written into the staging folder and published together.

    Raises: CheckFailed for a failed gate, or without a gate for a faulty model; Undecided for a gate without a verdict.
    """
    out = results.staging
    sections, of_paper, in_turn, accuracy, timed, gate = [], [], [], None, None, None
    assumed = [*input_lines(models), *(class_lines(models, scores.dataset) if scores else [])]
    if assumed:
        environment = {**environment, "assumed": assumed}
    if scores:
        accuracy = accuracy_told(request, models, rows, scores)
        if request.limits:
            gate = judge(
                judge_of(request, rows), accuracy, left_out(scores.dataset, scores.measured)
            )
        sections += outputs.fault_section(accuracy)
        if accuracy.scored:
            if request.paper_tables and accuracy.labelled:
                of_paper = outputs.paper_section(models, accuracy, str(scores.dataset.root), out)
            faulty = gate.failing if gate else set()
            sections += of_paper + outputs.accuracy_section(
                accuracy, len(left_out(scores.dataset, scores.measured)), faulty, out
            )
    sides_of = lambda model: request.sides or model.runtime.spec.test_sides  # noqa: E731
    if "latency" in request.measure:
        warn = lambda text: click.echo(f"Unsteady: {text}", err=True)  # noqa: E731
        timed = measure_latencies(models, sides_of, request.batches, warn, request.latency_seconds)
        sections += outputs.latency_section(*timed, out)
    if request.side_by_side:
        in_turn = outputs.side_by_side_section(
            *measure_side_by_side(models, sides_of, request.batches), out
        )
        sections += in_turn
    run_id = environment["run_id"]
    write_text(out / "environment.json", json.dumps(environment, indent=2) + "\n")
    outputs.write_report_md(sections, gate, run_id, environment, out)
    write_report(
        out / "report.html",
        models,
        scores.dataset if scores else None,
        accuracy,
        gate,
        timed,
        in_turn,
        of_paper,
        environment,
    )
    accepted = None if request.undecided is None else request.undecided == "pass"
    if gate:
        write_gate(gate, accepted, run_id, out)
    results.publish(environment)
    files = ", ".join(
        [
            "report.md",
            *dict.fromkeys(section.file for section in sections if section.file),
            "environment.json",
        ]
    )
    report = results.folder / "report.html"
    click.echo(f"Report: {report}; tables, raw times and environment beside it: {files}")
    if gate:
        for line in lines(gate):
            click.echo(line)
        conclude_gate(gate, accepted, results.folder)
    elif accuracy and accuracy.broken:
        raise CheckFailed(
            next(fault.what for fault in accuracy.faults if fault.model in accuracy.broken)
        )


def conclude_gate(gate: Gate, accepted: bool | None, out: Path) -> None:
    """Turn the verdict into the exit code.

    Args: accepted, whether an undecided gate counts as passed; None for an exit code of its own.
    Raises: CheckFailed or Undecided.
    """
    where = f"{out / JSON} and {out / XML} have the details"
    if gate.verdict == Verdict.FAIL:
        raise CheckFailed(f"the gate failed; {where}")
    if gate.verdict == Verdict.UNDECIDED and accepted is None:
        raise Undecided(
            f"the gate is undecided; use more images, or say with --undecided pass or fail what that means. {where}"
        )
    if gate.verdict == Verdict.UNDECIDED and not accepted:
        raise CheckFailed(f"the gate is undecided, which counts as failed here; {where}")


def accuracy_told(
    request: BenchRequest, models: list[Model], rows: list[Row], scores: ScoredCells
) -> Accuracy:
    """The rows' arithmetic, and a line for each image that was left out."""
    with cells_kept(request.cells):
        accuracy = accuracy_of(models, rows, *scores)
    for message in left_out(scores.dataset, scores.measured):
        click.echo(f"Left out: {printable(message)}", err=True)
    return accuracy
