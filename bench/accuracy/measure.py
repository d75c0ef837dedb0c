"""A whole benchmark: models and data in, records and raw times out."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from bench.accuracy.accuracy_rows import ClassIndex, Scored, score_row
from bench.accuracy.cell_store import StoredCell, exclusive
from bench.accuracy.compare import Pair, compare, compare_all
from bench.accuracy.distance import distance
from bench.accuracy.faults import Fault, flip_faults, origin_faults, posterior_faults
from bench.accuracy.fill_cells import Measured, fill_cells, open_cells
from bench.accuracy.protocols import Cell, Row
from bench.accuracy.sampling import fixed_order, looks
from bench.models.class_match import classes_of_models
from bench.models.cpu_kernels import wrong_arithmetic
from bench.models.model import Model
from bench.speed.first_calls import ShapeLog, ShapeRow
from bench.speed.latency import LatencyRow, measure_latency
from bench.speed.steady import LEAST_S
from vgg_deploy.data.class_labels import labels_for
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.errors import CheckFailed
from vgg_deploy.job import ALONE, Job
from vgg_deploy.progress import progress


@dataclass(frozen=True)
class Storage:
    """Where cells are kept, and how."""

    folder: Path
    dtype: str  # "float32", "float16"


@dataclass(frozen=True, eq=False)
class Accuracy:
    """Everything that a data set says of the models."""

    models: list[Model]
    scored: list[Scored]  # a row each, in the order asked for; rows of faulty models are missing
    pairs: list[Pair]  # rows beside the first model's
    classes: ClassIndex
    files: list[str]  # of the images that the rows hold
    positions: np.ndarray  # of these images in the data set
    faults: list[Fault]
    broken: frozenset[int]  # models whose posteriors no table may show; their rows are missing
    measured: Measured
    shapes: list[
        ShapeRow
    ]  # what each new input shape cost at first, of what was scored in this run

    @property
    def labelled(self) -> bool:
        """Whether the images have labels."""
        return all(one.labelled for one in self.scored)


def measure_accuracy(
    models: list[Model],
    rows: list[Row],
    dataset: Dataset,
    storage: Storage,
    batch: int,
    threads: int,
    on_error: str,
) -> Accuracy:
    """Score what the rows need and is not stored yet, and do the rows' arithmetic, in a process alone.

    Args and errors: those of `score_cells` and `accuracy_of`; CheckFailed for a model whose posteriors cannot be used.
    """
    accuracy = accuracy_of(
        models,
        rows,
        dataset,
        *score_cells(models, rows, dataset, storage, batch, threads, on_error),
    )
    if accuracy.broken:
        raise CheckFailed(accuracy.faults[0].what)
    return accuracy


def score_cells(
    models: list[Model],
    rows: list[Row],
    dataset: Dataset,
    storage: Storage,
    batch: int,
    threads: int,
    on_error: str,
    job: Job = ALONE,
) -> tuple[Measured, list[ShapeRow]]:
    """Score what the rows need and is not stored yet, each process of a job its share of the images.

    Args: batch, most pictures a call; threads, of each process; on_error, "stop" or "skip" for unreadable images.
    Returns: posteriors, and what each new input shape cost at first; whole in the main process only.
    Raises: InputError for unusable images, or classes that a net does not have.
    """
    with _opened(models, rows, dataset, storage, threads, job) as (stored, logs):
        measured = fill_cells(models, logs, stored, dataset, batch, threads, on_error, job)
    wrong = job.on_main(wrong_arithmetic, models, dataset)
    return _with_failed(measured, wrong), _shape_rows(models, logs, job)


def score_until_sure(
    models: list[Model], rows: list[Row], dataset: Dataset, storage: Storage, batch: int, threads: int, on_error: str,
    sure: Callable[[Measured], bool], job: Job = ALONE,
) -> tuple[Measured, list[ShapeRow]]:  # fmt: skip
    """As `score_cells`, but in a fixed random order, some more images at a time, until the verdicts are sure.

    The order depends on the images' names alone and is walked from its beginning in every run, so rows that are stored
    already save time and change nothing.

    Args: sure, asked in the main process after each step, of all images up to there.
    """
    order = fixed_order(dataset.files)
    reused, scored = None, 0
    wrong = job.on_main(wrong_arithmetic, models, dataset)
    with _opened(models, rows, dataset, storage, threads, job) as (stored, logs):
        for count in looks(len(dataset)):
            among = np.zeros(len(dataset), bool)
            among[order[:count]] = True
            measured = fill_cells(
                models, logs, stored, dataset, batch, threads, on_error, job, among
            )
            measured = _with_failed(measured, wrong)
            reused = measured.reused if reused is None else reused
            scored += measured.scored
            if job.on_main(sure, measured):
                break
    return measured._replace(reused=reused, scored=scored), _shape_rows(models, logs, job)


@contextmanager
def _opened(
    models: list[Model],
    rows: list[Row],
    dataset: Dataset,
    storage: Storage,
    threads: int,
    job: Job,
) -> Iterator[tuple[dict[Cell, StoredCell], list[ShapeLog]]]:
    """The rows' cells as far as they are stored, locked for this run, and a log for every model."""
    job.on_main(classes_of_models, dataset, models)  # before hours of work
    wanted = list(dict.fromkeys(cell for row in rows for cell, _ in row.cells()))
    with ExitStack() as until_all_are_done:
        job.on_main(lambda: until_all_are_done.enter_context(exclusive(storage.folder)))
        data_sha256 = job.on_main(lambda: dataset.content_sha256(threads * job.local_world))
        stored = open_cells(
            models, wanted, dataset, data_sha256, storage.folder, storage.dtype, threads, job
        )
        yield stored, [ShapeLog(model.runtime) for model in models]


def _with_failed(measured: Measured, wrong: dict[int, str]) -> Measured:
    """With further models that failed, by index."""
    return measured._replace(failed={**measured.failed, **wrong})


def _shape_rows(models: list[Model], logs: list[ShapeLog], job: Job) -> list[ShapeRow]:
    """Of all processes together."""
    for log, of_all in zip(
        logs, zip(*job.gather([log.ms for log in logs]), strict=True), strict=True
    ):
        log.merge(of_all)
    return [
        row for log, model in zip(logs, models, strict=True) for row in log.rows(model.described)
    ]


def accuracy_of(
    models: list[Model],
    rows: list[Row],
    dataset: Dataset,
    measured: Measured,
    shapes: list[ShapeRow],
) -> Accuracy:
    """The rows' arithmetic, of all posteriors. Models whose posteriors cannot be used have no rows, but faults.

    Args: measured, shapes, of `score_cells`.
    Raises: InputError for fusions of nets with different classes.
    """
    matched = classes_of_models(dataset, models)
    # an id's name as the data set knows it, else as a net does
    known = dict(zip(dataset.classes, dataset.names, strict=True))
    classes = ClassIndex.of(
        matched,
        [
            tuple(
                known.get(id, name) for id, name in zip(ids, model.runtime.spec.names, strict=True)
            )
            for ids, model in zip(matched, models, strict=True)
        ],
    )
    faults = posterior_faults(models, measured, dataset.files)
    broken = frozenset(fault.model for fault in faults)
    positions = np.flatnonzero(measured.kept)
    labels = dataset.labels
    if dataset.labelled:
        labels = classes.of_model[0][labels_for(dataset, matched[0])[positions]]
    sound = [row for row in rows if not broken & {m.model for m in row.members}]
    scored = [score_row(row, models, measured, labels, classes) for row in sound]
    pairs = []
    for reference, other in compare_all(scored):
        apart = distance(reference.row, other.row, models, measured, classes)
        pairs.append(Pair(reference, other, compare(reference, other, apart), apart))
    faults += [
        fault for fault in flip_faults(models, measured) if fault.model not in broken
    ] + origin_faults(models)
    return Accuracy(
        models,
        scored,
        pairs,
        classes,
        [dataset.files[i] for i in positions],
        positions,
        faults,
        broken,
        measured,
        shapes,
    )


def measure_latencies(
    models: list[Model],
    sides_of: Callable[[Model], tuple[int, ...]],
    batches: tuple[int, ...],
    warn: Callable[[str], None],
    least_s: float = LEAST_S,
) -> tuple[list[LatencyRow], pd.DataFrame]:
    """Every model at every Q x Q and batch size.

    Args:
        models: opened files.
        sides_of: Q of a model, pixels.
        batches: images per call.
        warn: takes a line for each row whose times are not steady.
        least_s: seconds that a row takes at least.

    Returns:
        The rows, and every counted time (columns: those of LatencyRow.key, run, clock, ms); clock
        is "end to end" or "device".
    """
    rows, samples = [], []
    with progress("latency", sum(len(sides_of(model)) for model in models) * len(batches)) as bar:
        for model in models:
            for side in sides_of(model):
                for batch in batches:
                    row, end_to_end, on_device = measure_latency(
                        model.runtime, model.described, side, batch, least_s
                    )
                    for clock, ms in (("end to end", end_to_end), ("device", on_device)):
                        runs = {"run": np.arange(len(ms)), "clock": clock, "ms": ms}
                        samples.append(pd.DataFrame({**row.key, **runs}))
                    rows.append(row)
                    bar.advance(1, f"{model.name} {side} x {side} batch {batch}")
                    where = f"{model.name} at {side} x {side}, batch {batch}"
                    if row.device_times.throttled:
                        warn(f"{where}: the GPU was throttled ({row.device_times.throttled})")
                    if not row.steady:
                        warn(f"{where}: {row.unsteady}")
    return rows, pd.concat(samples, ignore_index=True)
