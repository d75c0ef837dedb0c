"""Fills the cells of a data set: each image is decoded once for every scale, protocol and net."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from bench.accuracy.cell_manifest import report_old_cells
from bench.accuracy.cell_store import CellSize, StoredCell, Tally, open_cell
from bench.accuracy.protocols import Cell, views_per_image
from bench.accuracy.score_views import ViewScorer
from bench.accuracy.settings import Scoring
from bench.models.model import Model
from bench.speed.first_calls import ShapeLog
from vgg_deploy.data.dataset import DataContent, Dataset
from vgg_deploy.data.decode_pool import Scale
from vgg_deploy.data.size_batches import Batch, plain_memory, size_batches
from vgg_deploy.errors import InputError
from vgg_deploy.images.protocols import WHOLE_IMAGE
from vgg_deploy.job import Job
from vgg_deploy.net.archs import ARCHS, macs
from vgg_deploy.predict.whole_images import filter_for
from vgg_deploy.progress import Bar, progress
from vgg_deploy.runtimes import Runtime, WrongOutputs
from vgg_deploy.runtimes.contract import page_locked
from vgg_deploy.runtimes.deferred import opened


class Measured(NamedTuple):
    """Posteriors of one data set."""

    cells: dict[Cell, StoredCell]
    kept: np.ndarray  # (images,) bool: those that could be read
    skipped: list[str]  # what is wrong with the others
    reused: int  # images of cells that earlier runs scored
    scored: int  # views (whole images and crops) that went through a net
    failed: Mapping[int, str] = MappingProxyType({})  # why outputs cannot be used, by model
    content: DataContent | None = None  # hashes and sizes of the stored images


class Share(NamedTuple):
    """What one process of a job reports when its images are scored, or all of them together."""

    tallies: list[Tally]  # one per cell
    skipped: dict[int, str]  # what is wrong with unreadable images, by index
    scored: int  # views that went through a net
    failed: dict[int, str]  # why outputs cannot be used, by model


class NetInput(NamedTuple):
    """Which net sees the images of a batch, and whether it sees their mirror images."""

    model: int
    mirrored: bool


def open_cells(
    models: Sequence[Model],
    cells: Iterable[Cell],
    dataset: Dataset,
    data_sha256: str,
    scoring: Scoring,
) -> dict[Cell, StoredCell]:
    """Open every cell as far as earlier runs scored it.

    All processes map the same files; the main process creates them.

    Args:
        models: The models of the run.
        cells: The cells to open.
        dataset: The images.
        data_sha256: Hash of their content.
        scoring: Where cells are stored, and the job.
    """
    job, storage = scoring.job, scoring.storage

    def open_all() -> dict[Cell, StoredCell]:
        opened = {}
        for cell in cells:
            model = models[cell.model]
            described = {
                **model.identity,
                "side": cell.side,
                "views": cell.views,
                "mirrored": cell.mirrored,
                "data_sha256": data_sha256,
            }
            size = CellSize(len(dataset), len(model.runtime.spec.classes), storage.dtype)
            opened[cell] = open_cell(storage.folder, described, size, scoring.threads, job)
        return opened

    job.on_main(report_old_cells, storage.folder)
    return job.main_first(open_all)


def fill_cells(
    models: Sequence[Model],
    logs: Sequence[ShapeLog],
    stored: dict[Cell, StoredCell],
    dataset: Dataset,
    scoring: Scoring,
    among: np.ndarray | None = None,
) -> Measured:
    """Score what is not stored yet, each process its share of the images.

    However it ends, what was scored is saved. A model whose outputs have wrong shapes or types is
    not called again; the others continue.

    Args:
        models: The models of the run.
        logs: Their runtimes, which note the time of each call.
        stored: The cells to fill.
        dataset: The images.
        scoring: How they are scored.
        among: (images,) bool, the same in every process: score only these, and keep no others. By
            default all.

    Returns:
        Everything in the main process; in another process what it knows of its share.

    Raises:
        InputError: For the first unreadable image, unless they are skipped.
    """
    job = scoring.job
    if among is None:
        among = np.ones(len(dataset), bool)
    reused = sum(int(cell.finished.sum()) for cell in stored.values())
    scoring_pass = _Pass(models, logs, stored, dataset, scoring)
    try:
        scoring_pass.run(among)
        total = _combine(stored, scoring_pass.share, job)
    finally:
        if job.is_main:
            for cell in stored.values():
                cell.save()
    if not job.is_main:
        for cell in stored.values():
            cell.reset_times()  # the main process has them; a next pass starts at zero
    kept = among.copy()
    kept[list(total.skipped)] = False
    if job.is_main:
        sound = [stored[cell] for cell in stored if cell.model not in total.failed]
        _check_complete(sound, kept, dataset)
    messages = list(total.skipped.values())
    return Measured(stored, kept, messages, reused, total.scored, total.failed)


class _Pass:
    """One pass of a process over its share of the images."""

    def __init__(
        self,
        models: Sequence[Model],
        logs: Sequence[ShapeLog],
        stored: dict[Cell, StoredCell],
        dataset: Dataset,
        scoring: Scoring,
    ):
        self.models, self.logs, self.stored = models, logs, stored
        self.dataset, self.scoring = dataset, scoring
        self.cells_at: dict[Scale, dict[NetInput, list[Cell]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for cell in stored:
            scale = Scale(cell.side, filter_for(models[cell.model].runtime))
            self.cells_at[scale][NetInput(cell.model, cell.mirrored)].append(cell)
        self.macs = {cell: _macs_per_image(models[cell.model].runtime, cell) for cell in stored}
        self.skipped: dict[int, str] = {}
        self.failed: dict[int, str] = {}
        self.scored = 0

    @property
    def share(self) -> Share:
        """What this process reports."""
        tallies = [cell.tally for cell in self.stored.values()]
        return Share(tallies, self.skipped, self.scored, self.failed)

    def run(self, among: np.ndarray) -> None:
        """Score the images that any cell lacks.

        Args:
            among: (images,) bool, of all processes.
        """
        scoring = self.scoring
        mine = scoring.job.share(len(self.dataset)) & among
        missing = {scale: mine & ~self._finished(scale) for scale in self.cells_at}
        work = sum(
            self.macs[cell] * int((mine & ~stored.finished).sum())
            for cell, stored in self.stored.items()
        )
        self._open_models(mine)
        on_bad = self._skip if scoring.on_error == "skip" else None
        on_gpu = any(model.runtime.device == "cuda" for model in self.models)
        buffers = page_locked if on_gpu else plain_memory
        scored_models = {cell.model for cell in self.stored}
        with progress(f"scores of {int(among.sum())} images", work or 1) as bar:
            for batch in size_batches(
                self.dataset, missing, scoring.batch, scoring.threads, on_bad, buffers
            ):
                self._score(batch, bar)
                if len(self.failed) == len(scored_models):
                    break  # no model is left to score images for

    def _open_models(self, mine: np.ndarray) -> None:
        """Open the models that are called, so that no first call has their loading in its time."""
        for cell, stored in self.stored.items():
            if (mine & ~stored.finished).any():
                opened(self.models[cell.model].runtime)

    def _finished(self, scale: Scale) -> np.ndarray:
        """(images,) bool: those that all cells of a scale have."""
        cells = [cell for group in self.cells_at[scale].values() for cell in group]
        finished: np.ndarray = np.all([self.stored[cell].finished for cell in cells], axis=0)
        return finished

    def _skip(self, index: int, error: InputError) -> None:
        self.skipped.setdefault(index, error.what)

    def _score(self, batch: Batch, bar: Bar) -> None:
        """Score a batch with every net that has not failed."""
        for net_input, cells in self.cells_at[batch.scale].items():
            model, mirrored = net_input
            if model in self.failed:
                continue
            unfinished = {
                cell: self.stored[cell]
                for cell in cells
                if not self.stored[cell].finished[batch.indices].all()
            }
            note = f"{self.models[model].name} Q {batch.scale.side}"
            scorer = ViewScorer(self.logs[model], mirrored, self.scoring.batch)
            try:
                for part in scorer.score(batch, unfinished):
                    self.scored += part.views
                    bar.advance(part.images * sum(self.macs[cell] for cell in part.cells), note)
            except WrongOutputs as error:
                self.failed[model] = error.message


def _combine(stored: dict[Cell, StoredCell], share: Share, job: Job) -> Share:
    """Wait until every process has scored its share, and add the shares up.

    Returns:
        Of all processes together, without tallies: these are added to the cells of the main
        process.
    """
    if not job.is_main:
        for cell in stored.values():
            cell.rows.flush()
    shares = job.gather(share)
    if job.is_main and job.world > 1:
        for index, cell in enumerate(stored.values()):
            cell.merge([other.tallies[index] for other in shares[1:]])
    skipped: dict[int, str] = {}
    failed: dict[int, str] = {}
    for one in shares:
        skipped.update(one.skipped)
        for model, why in one.failed.items():
            failed.setdefault(model, why)
    scored = sum(one.scored for one in shares)
    return Share([], dict(sorted(skipped.items())), scored, dict(sorted(failed.items())))


def _check_complete(stored: Iterable[StoredCell], kept: np.ndarray, dataset: Dataset) -> None:
    """Check that images could be read and that the rows of other processes have arrived.

    Raises:
        InputError: If no image could be read, or if rows were lost.
    """
    if not kept.any():
        raise InputError(f"{dataset.root}: none of its {len(dataset)} images can be read")
    for cell in stored:
        lost = int((kept & ~cell.finished).sum())
        if lost:
            raise InputError(
                f"{cell.path.parent}: lost {lost} rows of {cell.path.name} that several machines "
                "wrote at once, as network folders may; run the command again on one machine, it "
                "computes what is missing"
            )


def _macs_per_image(runtime: Runtime, cell: Cell) -> float:
    """Multiply-accumulates of one image in a cell, for the estimate; images count as square."""
    spec = runtime.spec
    side = cell.side if cell.views in WHOLE_IMAGE else spec.crop
    per_view = macs(ARCHS[spec.arch], side, side, len(spec.classes), spec.width, spec.crop)
    return views_per_image(cell, spec.crop) * per_view
