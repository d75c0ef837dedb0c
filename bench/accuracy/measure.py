"""Measures accuracy: scores what the rows need and is not stored, then evaluates the rows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np

from bench.accuracy.accuracy_rows import ClassIndex, Scored, Truth, score_row
from bench.accuracy.cell_store import StoredCell, exclusive
from bench.accuracy.compare import Pair, compare, compare_all
from bench.accuracy.distance import distance
from bench.accuracy.faults import Fault, flip_faults, origin_faults, posterior_faults
from bench.accuracy.fill_cells import Measured, fill_cells, open_cells
from bench.accuracy.protocols import Cell, Row
from bench.accuracy.sampling import fixed_order, looks
from bench.accuracy.settings import Scoring
from bench.models.class_match import classes_of_models
from bench.models.cpu_kernels import check_kernels
from bench.models.model import Model
from bench.speed.first_calls import ShapeLog, ShapeRow
from vgg_deploy.data.class_labels import labels_for, right_for
from vgg_deploy.data.dataset import DataContent, Dataset
from vgg_deploy.data.imagenet import Benchmark
from vgg_deploy.errors import CheckFailed
from vgg_deploy.job import Job


@dataclass(frozen=True, eq=False)
class Accuracy:
    """Everything that a data set shows about the models."""

    models: list[Model]
    scored: list[Scored]  # one per row, in the order of the rows; rows of broken models are missing
    pairs: list[Pair]  # rows beside the first model's
    classes: ClassIndex
    files: list[str]  # of the images that the rows hold
    positions: np.ndarray  # indices of these images in the data set
    faults: list[Fault]
    broken: frozenset[int]  # models with invalid posteriors, which no table may show
    measured: Measured
    shapes: list[ShapeRow]  # what the first call of each new input shape cost in this run
    benchmark: Benchmark | None = None  # how the data set defines its errors

    @property
    def labelled(self) -> bool:
        """Whether the images have labels."""
        return all(one.labelled for one in self.scored)


def measure_accuracy(
    models: list[Model], rows: list[Row], dataset: Dataset, scoring: Scoring
) -> Accuracy:
    """Score what the rows need and is not stored yet, and evaluate the rows, in one process.

    Args:
        models: The models; rows refer to them by index.
        rows: The rows of the accuracy table.
        dataset: The images.
        scoring: How they are scored.

    Raises:
        CheckFailed: For a model with invalid posteriors.
        InputError: For unusable images, for classes that a net does not have, or for fusions of
            nets with different classes.
    """
    measured, shapes = score_cells(models, rows, dataset, scoring)
    accuracy = accuracy_of(models, rows, dataset, measured, shapes)
    if accuracy.broken:
        raise CheckFailed(accuracy.faults[0].what)
    return accuracy


def score_cells(
    models: list[Model], rows: list[Row], dataset: Dataset, scoring: Scoring
) -> tuple[Measured, list[ShapeRow]]:
    """Score what the rows need and is not stored yet, each process its share of the images.

    Args:
        models: The models; rows refer to them by index.
        rows: The rows of the accuracy table.
        dataset: The images.
        scoring: How they are scored.

    Returns:
        Posteriors, and what the first call of each new input shape cost; complete in the main
        process only.

    Raises:
        InputError: For unusable images, or for classes that a net does not have.
    """
    with _opened(models, rows, dataset, scoring) as (stored, logs, content):
        measured = fill_cells(models, logs, stored, dataset, scoring)._replace(content=content)
        wrong = scoring.job.on_main(_wrong_kernels, models, dataset, stored)
    return _with_failed(measured, wrong), _shape_rows(models, logs, scoring.job)


def score_until_sure(
    models: list[Model],
    rows: list[Row],
    dataset: Dataset,
    scoring: Scoring,
    sure: Callable[[Measured], bool],
) -> tuple[Measured, list[ShapeRow]]:
    """Score images in a fixed random order, more at each step, until the verdicts are sure.

    The order depends on the names of the images alone and every run follows it from its start, so
    stored rows save time and change nothing.

    Args:
        models: The models; rows refer to them by index.
        rows: The rows of the accuracy table.
        dataset: The images.
        scoring: How they are scored.
        sure: Decides in the main process, after each step, from all images scored so far.

    Returns:
        As `score_cells`.

    Raises:
        InputError: As `score_cells`.
    """
    job = scoring.job
    order = fixed_order(dataset.files)
    steps: list[Measured] = []
    with _opened(models, rows, dataset, scoring) as (stored, logs, content):
        wrong = job.on_main(_wrong_kernels, models, dataset, stored)
        for count in looks(len(dataset)):
            among = np.zeros(len(dataset), bool)
            among[order[:count]] = True
            measured = fill_cells(models, logs, stored, dataset, scoring, among)
            steps.append(_with_failed(measured, wrong)._replace(content=content))
            if job.on_main(sure, steps[-1]):
                break
    scored = sum(step.scored for step in steps)
    total = steps[-1]._replace(reused=steps[0].reused, scored=scored)
    return total, _shape_rows(models, logs, job)


def accuracy_of(
    models: list[Model],
    rows: list[Row],
    dataset: Dataset,
    measured: Measured,
    shapes: list[ShapeRow],
) -> Accuracy:
    """Evaluate the rows from all posteriors.

    Models with invalid posteriors have faults and no rows.

    Args:
        models: The models; rows refer to them by index.
        rows: The rows of the accuracy table.
        dataset: The images.
        measured: Of `score_cells`.
        shapes: Of `score_cells`.

    Raises:
        InputError: For fusions of nets with different classes.
    """
    matched = classes_of_models(dataset, models)
    classes = ClassIndex.of(matched, _class_names(dataset, models, matched))
    faults = posterior_faults(models, measured, dataset.files)
    broken = frozenset(fault.model for fault in faults)
    positions = np.flatnonzero(measured.kept)
    truth = _truth(dataset, matched[0], positions, classes)
    sound = [row for row in rows if not broken & {member.model for member in row.members}]
    scored = [score_row(row, models, measured, truth, classes) for row in sound]
    pairs = []
    for reference, other in compare_all(scored):
        apart = distance(reference.row, other.row, models, measured, classes)
        pairs.append(Pair(reference, other, compare(reference, other, apart), apart))
    faults += [fault for fault in flip_faults(models, measured) if fault.model not in broken]
    faults += origin_faults(models)
    return Accuracy(
        models=models,
        scored=scored,
        pairs=pairs,
        classes=classes,
        files=[dataset.files[i] for i in positions.tolist()],
        positions=positions,
        faults=faults,
        broken=broken,
        measured=measured,
        shapes=shapes,
        benchmark=dataset.benchmark,
    )


def _truth(
    dataset: Dataset, ids: tuple[str, ...], positions: np.ndarray, classes: ClassIndex
) -> Truth:
    """What is right for the images at some positions, in the run's numbering of classes.

    Args:
        dataset: All images.
        ids: Of the first net's classes, in the order of its scores.
        positions: Of the images that the rows hold.
        classes: The numbering.
    """
    if not dataset.labelled:
        return Truth(dataset.labels)
    number = classes.of_model[0]
    labels = number[labels_for(dataset, ids)[positions]]
    right, among = right_for(dataset, ids), None
    if right is not None:
        right = np.where(right < 0, -1, number[right])[positions]
    if dataset.benchmark and dataset.benchmark.among:
        wanted = set(dataset.benchmark.among)
        among = np.array([i for i, id in enumerate(classes.ids) if id in wanted], np.int64)
    return Truth(labels, right, among)


def _class_names(
    dataset: Dataset, models: list[Model], ids_of_models: list[tuple[str, ...]]
) -> list[tuple[str, ...]]:
    """Names of each net's classes: as the data set knows them, else as the net does.

    A data set without a list of names has the ids as names, and knows none.
    """
    pairs = zip(dataset.classes, dataset.names, strict=True)
    known = {id: name for id, name in pairs if name != id}
    names_of_models = []
    for model, ids in zip(models, ids_of_models, strict=True):
        own_names = zip(ids, model.runtime.spec.names, strict=True)
        names_of_models.append(tuple(known.get(id, own_name) for id, own_name in own_names))
    return names_of_models


@contextmanager
def _opened(
    models: list[Model], rows: list[Row], dataset: Dataset, scoring: Scoring
) -> Iterator[tuple[dict[Cell, StoredCell], list[ShapeLog], DataContent]]:
    """The rows' cells as far as they are stored, locked for this run.

    Yields:
        The cells, a log per model, and the hash and size of every image.
    """
    job, folder = scoring.job, scoring.storage.folder
    job.on_main(classes_of_models, dataset, models)  # fails before hours of work
    cells = dict.fromkeys(cell for row in rows for cell, _ in row.cells())
    with ExitStack() as locked:
        job.on_main(locked.enter_context, exclusive(folder))
        content = job.on_main(dataset.content, scoring.threads * job.local_world)
        stored = open_cells(models, cells, dataset, content.sha256, scoring)
        yield stored, [ShapeLog(model.runtime) for model in models], content


def _wrong_kernels(
    models: Sequence[Model], dataset: Dataset, stored: Mapping[Cell, StoredCell]
) -> dict[int, str]:
    """Models whose integer kernels are wrong on this CPU.

    A cell's identity has the model, the runtime, the CPU's instructions and the images. So what
    was found right is noted with the cell, together with the kind of CPU.
    """
    unknown = {cell.model for cell, one in stored.items() if not one.kernels}
    known = {cell.model for cell in stored} - unknown
    found = check_kernels(models, dataset, known)
    for cell, one in stored.items():
        if cell.model in found.right:
            one.kernels = True
            one.save()
    return found.wrong


def _with_failed(measured: Measured, wrong: dict[int, str]) -> Measured:
    """Add further models that failed, by index."""
    return measured._replace(failed={**measured.failed, **wrong})


def _shape_rows(models: Sequence[Model], logs: Sequence[ShapeLog], job: Job) -> list[ShapeRow]:
    """First calls of all processes together."""
    times_of_processes = job.gather([log.ms for log in logs])
    rows = []
    for index, (log, model) in enumerate(zip(logs, models, strict=True)):
        log.merge([times[index] for times in times_of_processes])
        rows += log.rows(model.described)
    return rows
