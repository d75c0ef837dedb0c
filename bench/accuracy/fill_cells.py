"""Fills cells: one decode of an image for every scale, protocol and net that still wants it."""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from bench.accuracy.cell_store import StoredCell, Tally, open_cell, report_old_cells
from bench.accuracy.protocols import DENSE, WHOLE_IMAGE, Cell, views_per_image
from bench.models.model import Model
from bench.speed.first_calls import ShapeLog
from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.decode_pool import Scale
from vgg_deploy.data.size_batches import Batch, default_budget, size_batches
from vgg_deploy.errors import InputError
from vgg_deploy.images.crops import VIEW_SETS, cut
from vgg_deploy.job import ALONE, Job
from vgg_deploy.net.archs import ARCHS, macs
from vgg_deploy.progress import progress
from vgg_deploy.runtimes import Runtime, Scores, WrongOutputs
from vgg_deploy.runtimes.contract import page_locked


class Measured(NamedTuple):
    """Posteriors of one data set."""

    cells: dict[Cell, StoredCell]
    kept: np.ndarray  # (images,) bool: those that could be read
    skipped: list[str]  # what was wrong with the others
    reused: int  # images of cells that were there before
    scored: int  # pictures that went through a net
    failed: Mapping[int, str] = MappingProxyType({})  # models whose outputs cannot be used, and why


class Share(NamedTuple):
    """What one process of a job tells when its images are scored."""

    tallies: list[Tally]  # a cell each
    skipped: dict[int, str]
    scored: int
    failed: dict[int, str]


def open_cells(
    models: list[Model],
    cells: list[Cell],
    dataset: Dataset,
    data_sha256: str,
    folder: Path,
    dtype: str,
    threads: int,
    job: Job = ALONE,
) -> dict[Cell, StoredCell]:
    """Every cell as far as earlier runs got. All processes have the same files mapped; the main process makes them."""

    def opened() -> dict[Cell, StoredCell]:
        return {
            cell: open_cell(
                folder,
                {
                    **models[cell.model].identity,
                    "side": cell.side,
                    "views": cell.views,
                    "mirrored": cell.mirrored,
                    "data_sha256": data_sha256,
                },
                len(dataset),
                len(models[cell.model].runtime.spec.classes),
                dtype,
                threads,
                job,
            )
            for cell in cells
        }

    stored: dict[Cell, StoredCell] = {}
    job.on_main(report_old_cells, folder)
    job.on_main(lambda: stored.update(opened()))
    return job.on_all(lambda: stored if job.is_main else opened())


def fill_cells(
    models: list[Model], logs: list[ShapeLog], stored: dict[Cell, StoredCell], dataset: Dataset, batch: int, threads: int, on_error: str,
    job: Job = ALONE, among: np.ndarray | None = None,
) -> Measured:  # fmt: skip
    """Score what is not there yet, each process its share of the images. However it ends, what was scored is kept.

    Args: logs, of each model's runtime; batch, most pictures a call; threads, processes that decode; on_error, "stop" or "skip" for unreadable images;
        among, (images,) bool, the same in every process: score these only, the others are not kept. By default all.
    Returns: in the main process everything, in another one what it knows of its share. A model whose outputs have wrong shapes or types is
        not called again; the others go on.
    Raises: InputError for the first unreadable image, unless they are skipped.
    """
    groups: dict[Scale, dict[tuple[int, bool], list[Cell]]] = defaultdict(lambda: defaultdict(list))
    for cell in stored:
        scale = Scale(cell.side, models[cell.model].runtime.spec.preprocessing.filter)
        groups[scale][cell.model, cell.mirrored].append(cell)
    among = np.ones(len(dataset), bool) if among is None else among
    mine = job.share(len(dataset)) & among
    wanted = {
        scale: mine
        & ~np.all([stored[c].finished for cells in by_net.values() for c in cells], axis=0)
        for scale, by_net in groups.items()
    }
    reused = sum(int(cell.finished.sum()) for cell in stored.values())
    skipped: dict[int, str] = {}
    on_bad = (
        (lambda index, error: skipped.setdefault(index, error.what)) if on_error == "skip" else None
    )
    costs = {cell: _picture_macs(models[cell.model].runtime, cell) for cell in stored}
    work = sum(costs[cell] * int((mine & ~kept.finished).sum()) for cell, kept in stored.items())
    room = (
        page_locked if any(model.runtime.device == "cuda" for model in models) else default_budget
    )
    scored = 0
    failed: dict[int, str] = {}
    try:
        with progress(f"scores of {int(among.sum())} images", work or 1) as bar:
            for found in size_batches(dataset, wanted, batch, threads, on_bad, room):
                for (m, mirrored), cells in groups[found.scale].items():
                    if m in failed:
                        continue
                    parts = {
                        c: stored[c] for c in cells if not stored[c].finished[found.indices].all()
                    }
                    try:
                        for filled, images, pictures in _fill(
                            logs[m], found, mirrored, parts, batch
                        ):
                            scored += pictures
                            bar.advance(
                                images * sum(costs[c] for c in filled),
                                f"{models[m].name} Q {found.scale.side}",
                            )
                    except WrongOutputs as error:
                        failed[m] = error.message
                if len(failed) == len({cell.model for cell in stored}):
                    break  # nobody is left to score images for
        tallies = [cell.tally for cell in stored.values()]
        skipped, scored, failed = _put_together(
            stored, Share(tallies, skipped, scored, failed), job
        )
    finally:
        if job.is_main:
            for cell in stored.values():
                cell.save()
    if not job.is_main:
        for cell in (
            stored.values()
        ):  # the main process has these times now; a next call adds its own to them
            cell.seconds, cell.timed = 0.0, 0
    kept = among.copy()
    kept[list(skipped)] = False
    if job.is_main:
        _check_whole(
            {cell: held for cell, held in stored.items() if cell.model not in failed}, kept, dataset
        )
    return Measured(stored, kept, list(skipped.values()), reused, scored, failed)


def _put_together(
    stored: dict[Cell, StoredCell], share: Share, job: Job
) -> tuple[dict[int, str], int, dict[int, str]]:
    """Wait until every process has scored its share.

    Returns: of all processes together: unreadable images by position, pictures scored, models that failed.
    """
    for cell in stored.values() if not job.is_main else ():
        cell.rows.flush()
    shares = job.gather(share)
    if job.is_main and job.world > 1:
        for cell, (_, *others) in zip(
            stored.values(), zip(*(one.tallies for one in shares), strict=True), strict=True
        ):
            cell.take_over(others)
    skipped = dict(sorted(bad for one in shares for bad in one.skipped.items()))
    failed = {m: why for one in reversed(shares) for m, why in one.failed.items()}
    return skipped, sum(one.scored for one in shares), dict(sorted(failed.items()))


def _check_whole(stored: dict[Cell, StoredCell], kept: np.ndarray, dataset: Dataset) -> None:
    """Raises: InputError if no image could be read, or if rows that another process wrote did not arrive."""
    if not kept.any():
        raise InputError(f"{dataset.root}: none of its {len(dataset)} images can be read")
    for cell in stored.values():
        if lost := int((kept & ~cell.finished).sum()):
            raise InputError(
                f"{cell.path.parent}: lost {lost} rows of {cell.path.name} that several machines wrote at once, as network folders may; "
                "run the command again on one machine, it computes what is missing"
            )


def _fill(
    runtime: ShapeLog, found: Batch, mirrored: bool, cells: dict[Cell, StoredCell], batch: int
) -> Iterator[tuple[dict[Cell, StoredCell], int, int]]:
    """Score whole images and crops of one batch. Yields: cells, images and pictures of each call."""
    for fill, kind in ((_fill_whole, WHOLE_IMAGE), (_fill_crops, VIEW_SETS)):
        parts = {c: stored for c, stored in cells.items() if c.views in kind}
        if not parts:
            continue
        todo = np.flatnonzero(
            ~np.all([stored.finished[found.indices] for stored in parts.values()], axis=0)
        )
        # so few images a time that an interruption loses one call's worth of pictures
        step = max(1, batch // max(views_per_image(c, runtime.inner.spec.crop) for c in parts))
        for some in (todo[i : i + step] for i in range(0, len(todo), step)):
            # a whole batch as it lies: taking all of its rows would copy it, out of the room it was put into
            images = found.images if len(some) == len(found.images) else found.images[some]
            yield (
                parts,
                len(some),
                fill(runtime, images, found.indices[some], mirrored, parts, batch),
            )


def _fill_whole(
    runtime: ShapeLog,
    images: np.ndarray,
    indices: np.ndarray,
    mirrored: bool,
    cells: dict[Cell, StoredCell],
    batch: int,
) -> int:
    """Dense evaluation of (N, 3, h, w) uint8; both readings of the softmax come from one pass. Returns: pictures scored."""
    started = time.perf_counter()
    scores = runtime(np.ascontiguousarray(images[..., ::-1]) if mirrored else images)
    seconds = time.perf_counter() - started
    consistency = inconsistency(scores)
    for cell, stored in cells.items():
        posteriors = (
            scores.posterior if cell.views == DENSE else softmax(scores.score_map).mean(axis=(2, 3))
        )
        stored.write(indices, posteriors, consistency, seconds)
    return len(images)


def _fill_crops(
    runtime: ShapeLog,
    images: np.ndarray,
    indices: np.ndarray,
    mirrored: bool,
    cells: dict[Cell, StoredCell],
    batch: int,
) -> int:
    """Mean posteriors of the crops of (N, 3, h, w) uint8; a crop that several sets share is scored once."""
    spec = runtime.inner.spec
    crop, filter = spec.crop, spec.preprocessing.filter
    sets = {cell: VIEW_SETS[cell.views](*images.shape[2:], crop) for cell in cells}
    distinct = list(dict.fromkeys(view for views in sets.values() for view in views))
    place = {view: i for i, view in enumerate(distinct)}
    pictures = cut(images, distinct, crop, filter)
    pictures = np.ascontiguousarray(pictures[..., ::-1]) if mirrored else pictures
    posteriors, consistency, seconds = _score_pictures(runtime, pictures, batch)
    posteriors = posteriors.reshape(len(images), len(distinct), -1)
    consistency = consistency.reshape(len(images), len(distinct))
    for cell, stored in cells.items():
        alone = seconds * len(set(sets[cell])) / len(distinct)
        chosen = [place[view] for view in sets[cell]]
        mean = posteriors[:, chosen].mean(axis=1, dtype=np.float64)
        stored.write(indices, mean, consistency[:, chosen].max(axis=1), alone)
    return len(pictures)


def _score_pictures(
    runtime: ShapeLog, pictures: np.ndarray, batch: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """(n, 3, crop, crop) uint8 -> (n, classes) posteriors, (n,) consistency, seconds in the runtime."""
    posteriors, consistency, seconds = [], [], 0.0
    for i in range(0, len(pictures), batch):
        started = time.perf_counter()
        scores = runtime(pictures[i : i + batch])
        seconds += time.perf_counter() - started
        posteriors.append(scores.posterior)
        consistency.append(inconsistency(scores))
    return np.concatenate(posteriors), np.concatenate(consistency), seconds


def softmax(scores: np.ndarray) -> np.ndarray:
    """Over axis 1."""
    with np.errstate(
        invalid="ignore"
    ):  # NaN and infinite scores stay NaN, and are reported as such
        e = np.exp(scores - scores.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)


def inconsistency(scores: Scores) -> np.ndarray:
    """(N,) largest difference between a posterior and the softmax of its mean score; NaN where either is NaN."""
    with np.errstate(invalid="ignore"):
        mean = scores.score_map.mean(axis=(2, 3), dtype=np.float64)
        return np.abs(scores.posterior - softmax(mean)).max(axis=1)


def _picture_macs(runtime: Runtime, cell: Cell) -> float:
    """Work of one image in a cell, for the estimate; images are taken as square."""
    spec = runtime.spec
    side = cell.side if cell.views in WHOLE_IMAGE else spec.crop
    return views_per_image(cell, spec.crop) * macs(
        ARCHS[spec.arch], side, side, len(spec.classes), spec.width, spec.crop
    )
