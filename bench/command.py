"""What a command line asks for, done: accuracy by all processes of a job, everything else by the main one."""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import click

from bench import outputs
from bench.cells import Measured
from bench.environment import describe_environment
from bench.gate import Limits
from bench.models import Model, Ways, check_sides, open_models, runnable
from bench.paper import paper_rows
from bench.protocols import Row
from bench.report.contents import write_report
from bench.request import Request
from bench.run import Accuracy, Storage, accuracy_of, measure_latencies, score_cells
from bench.selection import select_rows
from bench.shape_log import ShapeRow
from bench.stated import class_lines, class_lists, input_lines
from bench.turns import measure_turns
from vgg_deploy.data import Dataset, open_dataset
from vgg_deploy.errors import CheckFailed, Interrupted, interruptible
from vgg_deploy.files import write_text
from vgg_deploy.machine import available_cores
from vgg_deploy.places import newest_exports
from vgg_deploy.ranks import Ranks
from vgg_deploy.scenes import built_in

BUILT_IN_IMAGES = 200


class Scores(NamedTuple):
    """What scoring a data set comes to; whole in the main process only."""

    dataset: Dataset
    measured: Measured
    shapes: list[ShapeRow]


def bench(request: Request, ranks: Ranks) -> None:
    """Measure, and leave tables and reports.

    Raises: CheckFailed for a closed gate or a model whose posteriors no table may show; InputError and click's errors for what cannot be used.
    """
    request = request._replace(threads=request.threads or max(1, available_cores() // ranks.local_world))
    paths = ranks.from_main(lambda: named_models(request))
    models, rows = ranks.together(lambda: opened(request, paths))
    environment = ranks.from_main(lambda: describe_environment(request.threads, ranks.world))
    scores = score(request, models, rows, ranks) if "accuracy" in request.measure else None
    ranks.from_main(lambda: conclude(request, models, rows, scores, environment))  # the others wait asleep


def named_models(request: Request) -> list[Path]:
    """The files that the command names, else those of the newest export that run on this device."""
    paths = list(request.models)
    if not paths:
        paths, others = runnable(newest_exports(), request.device)
        click.echo(f"No model named: measuring the newest export, {', '.join(map(str, paths))}")
        here, way_out = {"cpu": ("the CPU", "--device cuda where there is a GPU"), "cuda": ("the GPU", "--device cpu")}[request.device]
        if not paths:
            raise click.UsageError(f"none of the newest exports runs on {here} ({', '.join(map(str, others))}); add {way_out}, or name a model")
        if others:
            click.echo(f"Not on {here}, add {way_out}: {', '.join(map(str, others))}")
    if Limits(*request.limits) and len(paths) < 2:
        raise click.UsageError("a limit compares models with the first; name the reference and at least one more")
    return paths


def opened(request: Request, paths: list[Path]) -> tuple[list[Model], list[Row]]:
    """The models, and the rows of the accuracy table."""
    ways = Ways(request.device, request.threads, request.runtime_names, request.precisions or ("fp32",), request.cuda_graphs, request.stated)
    models = open_models(paths, ways, class_lists(request.classes, paths))
    for line in input_lines(models):
        click.echo(line)
    if request.side_by_side and len(models) < 2:
        raise click.UsageError("--side-by-side compares with the first model; name at least two, or several --runtimes or --torch-precision")
    if request.paper_tables:
        rows = list(dict.fromkeys(row for _, row in paper_rows(models)))
    else:
        rows = select_rows(models, request.protocols, request.sides, request.flips, request.fuse)
    if request.sides:
        check_sides(models, request.sides)
    return models, rows


def score(request: Request, models: list[Model], rows: list[Row], ranks: Ranks) -> Scores:
    """Every cell that the rows need, each process its share of the images."""
    dataset = open_images(request, ranks)
    processes = f"{ranks.world} processes, each with " if ranks.world > 1 else ""
    click.echo(
        f"{len(models)} model{'s' if len(models) > 1 else ''} on {request.device}, {processes}{request.threads} threads; "
        f"{len(dataset)} images of {dataset.root}"
    )
    for line in ranks.from_main(lambda: class_lines(models, dataset)):
        click.echo(line)
    storage = Storage(request.cells, request.cell_type)
    with cells_kept(request.cells):
        return Scores(dataset, *score_cells(models, rows, dataset, storage, request.accuracy_batch, request.threads, request.on_error, ranks))


def open_images(request: Request, ranks: Ranks) -> Dataset:
    """The images of --data, of which all processes have the main one's list; else the built-in ones."""
    if request.data is None:
        click.echo("No --data: measuring on the built-in validation pictures")
        count = request.images or BUILT_IN_IMAGES
        ranks.from_main(lambda: len(built_in("val", count)))  # rendered once, and again only in the cache of another machine
        return ranks.together(lambda: built_in("val", count))

    def listed() -> Dataset:
        dataset = open_dataset(request.data, "val", on_error=request.on_error)
        return dataset.subset(request.images) if request.images and request.images < len(dataset) else dataset

    return ranks.from_main(listed)


@contextmanager
def cells_kept(folder: Path) -> Iterator[None]:
    """Let Ctrl-C or SIGTERM end the block with a sentence, when the cells have been saved on the way out."""
    kept = f"what was scored is kept in {folder}, the same command goes on from there"

    def stop(signum, frame):
        raise Interrupted(f"stopped by SIGTERM, which schedulers send, and torchrun when another process of the job has ended; {kept}", signum)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with interruptible(kept):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


def conclude(request: Request, models: list[Model], rows: list[Row], scores: Scores | None, environment: dict) -> None:
    """The rows' arithmetic, latency, tables, reports, and the gate's verdict.

    Raises: CheckFailed if the gate is closed.
    """
    out, sections, of_paper, in_turn, accuracy, timed = request.out, [], [], [], None, None
    assumed = [*input_lines(models), *(class_lines(models, scores.dataset) if scores else [])]
    if assumed:
        environment = {**environment, "assumed": assumed}
    if scores:
        accuracy = accuracy_told(request, models, rows, scores)
        if accuracy.scored:
            if request.paper_tables:
                of_paper = outputs.paper_section(models, accuracy, str(scores.dataset.root), out)
            sections += of_paper + outputs.accuracy_section(accuracy, len(scores.measured.skipped) + len(scores.dataset.skipped), out)
    sides_of = lambda model: request.sides or model.runtime.spec.test_sides  # noqa: E731
    if "latency" in request.measure:
        warn = lambda text: click.echo(f"Unsteady: {text}", err=True)  # noqa: E731
        timed = measure_latencies(models, sides_of, request.batches, warn, request.latency_seconds)
        sections += outputs.latency_section(*timed, out)
    if request.side_by_side:
        in_turn = outputs.side_by_side_section(*measure_turns(models, sides_of, request.batches), out)
        sections += in_turn
    write_text(out / "environment.json", json.dumps(environment, indent=2) + "\n")
    outputs.write_report_md(sections, environment, out)
    write_report(out / "report.html", models, scores.dataset if scores else None, accuracy, timed, in_turn, of_paper, environment)
    files = ", ".join(dict.fromkeys(section.file for section in sections))
    click.echo(f"Report: {out / 'report.html'}; tables, raw times and environment beside it: report.md, {files}, environment.json")
    if limits := Limits(*request.limits):
        checks = outputs.judge(models, accuracy, limits, out)
        if not all(check.passed for check in checks):
            raise CheckFailed(f"the gate is closed; {out / 'gate.json'} and {out / 'gate.xml'} tell more")


def accuracy_told(request: Request, models: list[Model], rows: list[Row], scores: Scores) -> Accuracy:
    """The rows' arithmetic, and a line for each image that was left out."""
    with cells_kept(request.cells):
        accuracy = accuracy_of(models, rows, *scores, gated=bool(Limits(*request.limits)))
    for message in (*scores.dataset.skipped, *scores.measured.skipped):
        click.echo(f"Left out: {message}", err=True)
    return accuracy
