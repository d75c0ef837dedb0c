"""Runs a whole benchmark.

All processes of a job measure accuracy. The main process does everything else.
"""

from contextlib import ExitStack
from typing import Any

from bench.accuracy.measure import score_cells, score_until_sure
from bench.accuracy.settings import Scoring, Storage
from bench.cells_kept import cells_kept
from bench.conclusion import ScoredCells, conclude
from bench.distance_bench import bench_distances, measures_distances
from bench.earlier.run import EarlierRun, open_earlier
from bench.gate.until_decided import UntilDecided
from bench.gate.verdict_files import verdict_on_disk
from bench.inputs import Inputs, find_models, models_to_measure, open_images, open_inputs
from bench.load_bench import bench_load
from bench.localise import box_nets_of, localise
from bench.models.foreign_models import class_lines
from bench.request import BenchRequest
from bench.results.environment import describe_environment
from bench.results.results_folder import Results, new_run_id, results_folder
from vgg_deploy.command_line import say
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.job import Job
from vgg_deploy.machine import available_cores


def bench(request: BenchRequest, job: Job) -> None:
    """Measure, and write tables and reports.

    Args:
        request: What is measured.
        job: The processes that share the images.

    Raises:
        CheckFailed: For a failed gate, or a model with invalid posteriors.
        Undecided: For a gate without a verdict.
        InputError: For what cannot be used.
    """
    run_id = job.on_main(new_run_id)
    with ExitStack() as until_the_end:
        results = job.on_main(_open_results, request, run_id, until_the_end)
        threads = request.models.threads or max(1, available_cores() // job.local_world)
        models = job.on_main(models_to_measure, request.models)
        found = job.main_first(find_models, models, job.is_main)
        if request.load.load:
            environment = job.on_main(_environment, run_id, threads, job)
            job.on_main(bench_load, request, found, environment, results, job)
            return
        if job.on_main(measures_distances, found, request):
            environment = job.on_main(_environment, run_id, threads, job)
            job.on_main(bench_distances, request, found, threads, environment, results)
            return
        earlier = job.on_main(_earlier, request)
        inputs = job.on_all(open_inputs, request, threads, found)
        environment = job.on_main(_environment, run_id, threads, job)
        box_nets = job.on_all(box_nets_of, inputs)
        scored = _score(inputs, job) if request.tables.accuracy else None
        boxes = localise(inputs, box_nets, job) if box_nets else None
        # the other processes wait without using a core
        job.on_main(conclude, inputs, scored, boxes, earlier, environment, results)


def _open_results(request: BenchRequest, run_id: str, until_the_end: ExitStack) -> Results:
    """A folder for the results, and with limits the verdict; both last until the stack closes."""
    folder = request.output.out
    if request.gate.limits:
        until_the_end.enter_context(verdict_on_disk(folder, request.gate.limits, run_id))
    return until_the_end.enter_context(results_folder(folder, run_id))


def _earlier(request: BenchRequest) -> EarlierRun | None:
    """The run to compare with; opened first, as it may be no such folder."""
    folder = request.tables.against
    return None if folder is None else open_earlier(folder)


def _environment(run_id: str, threads: int, job: Job) -> dict[str, Any]:
    return {"run_id": run_id, **describe_environment(threads, job.world)}


def _score(inputs: Inputs, job: Job) -> ScoredCells:
    """Score every cell that the rows need; each process scores its share of the images."""
    request, models, rows = inputs.request, inputs.models, inputs.rows
    dataset = open_images(request, job)
    say(_scoring_line(inputs, dataset, job))
    for line in job.on_main(class_lines, models, dataset):
        say(line)
    storage = Storage(request.output.cells, request.output.cell_type)
    scoring = Scoring(
        storage, request.data.accuracy_batch, inputs.threads, request.data.on_error, job
    )
    with cells_kept(request.output.cells):
        if request.data.images == "auto":
            say("Images in a fixed random order, until every check of the gate is decided")
            sure = UntilDecided(models, rows, dataset, inputs.judge)
            measured, shapes = score_until_sure(models, rows, dataset, scoring, sure)
        else:
            measured, shapes = score_cells(models, rows, dataset, scoring)
    return ScoredCells(dataset, measured, shapes)


def _scoring_line(inputs: Inputs, dataset: Dataset, job: Job) -> str:
    """What is about to be scored, where, and by how many processes."""
    count = len(inputs.models)
    processes = f"{job.world} processes, each with " if job.world > 1 else ""
    return (
        f"{count} model{'s' if count > 1 else ''} on {inputs.request.models.device}, {processes}"
        f"{inputs.threads} threads; {len(dataset)} images of {dataset.root}"
    )
