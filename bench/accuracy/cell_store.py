"""Stores the posteriors of cells on disk, so that each is computed once and runs can resume.

A cell is never used for another model or for other images: its file name and the checksum of every
row depend on its identity (`cell_identity`). The array file holds one row per image (`cell_rows`),
the manifest beside it the times (`cell_manifest`).
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from click import echo

from bench.accuracy.cell_files import (
    Damaged,
    existing_path,
    map_rows,
    open_or_create,
    partial_path,
    set_aside,
)
from bench.accuracy.cell_identity import file_name, full_identity, machine_identity
from bench.accuracy.cell_manifest import Times, read_manifest, write_manifest
from bench.accuracy.cell_rows import row_checksums, row_dtype, row_states
from bench.accuracy.dense_maps import CellMaps
from vgg_deploy.errors import InputError
from vgg_deploy.job import ALONE, Job
from vgg_deploy.locks import exclusive_lock


@dataclass(frozen=True)
class CellSize:
    """The size of a cell."""

    images: int  # number of rows
    classes: int  # length of a posterior
    dtype: str  # of the stored posteriors: "float32", "float16"


class Tally(NamedTuple):
    """What one process of a job measured for a cell."""

    seconds: float
    timed: int  # number of images within these seconds


@dataclass
class StoredCell:
    """The rows of one cell, and the time they took."""

    path: Path  # final path, which the file gets when every image is scored
    identity: dict[str, Any]
    rows: np.memmap  # (images,) of `row_dtype`
    finished: np.ndarray  # (images,) bool
    machine: dict[str, Any]  # where the times were measured
    seconds: float = 0.0  # in the runtime, for this cell alone; the sum over all processes
    timed: int = 0  # number of images within these seconds
    kernels: bool = False  # this CPU's integer kernels were found right for this model and data
    maps: CellMaps = field(init=False)  # of whole images

    def __post_init__(self) -> None:
        (classes,) = self.rows.dtype["posterior"].shape
        self.maps = CellMaps(self.path, self.identity, classes)

    @property
    def posteriors(self) -> np.ndarray:
        """(images, classes) float32 or float16; zeros where an image is not scored."""
        return self.rows["posterior"]

    @property
    def consistency(self) -> np.ndarray:
        """(images,) float32: largest difference from the softmax of the mean score, over views."""
        return self.rows["consistency"]

    @property
    def ms_per_image(self) -> float:
        """Milliseconds per image in the runtime of one process, while the others run beside it.

        It is a property of the model on this machine, not of the job: P processes score P images in
        this time. NaN if nothing was timed on this machine.
        """
        return 1000 * self.seconds / self.timed if self.timed else float("nan")

    @property
    def tally(self) -> Tally:
        """What this process adds to the times of the job."""
        return Tally(self.seconds, self.timed)

    def write(
        self, images: np.ndarray, posteriors: np.ndarray, consistency: np.ndarray, seconds: float
    ) -> None:
        """Fill in rows.

        Args:
            images: (n,) int, indices of the rows.
            posteriors: (n, classes), any float type.
            consistency: (n,), see the property.
            seconds: Time of these rows in the runtime.
        """
        written = np.zeros(len(images), self.rows.dtype)
        # infinite and NaN values are results, and are stored
        with np.errstate(over="ignore", invalid="ignore"):
            written["posterior"] = posteriors
            written["consistency"] = consistency
        written["crc32"] = row_checksums(written, images, self.identity)
        # the checksum last: a process that is killed in between leaves a row that does not count
        for name in ("posterior", "consistency", "crc32"):
            self.rows[name][images] = written[name]
        self.finished[images] = True
        self.seconds += seconds
        self.timed += len(images)

    def merge(self, others: Sequence[Tally]) -> None:
        """Add what the other processes, which have finished, wrote into the same file."""
        # mapped again: only then does a file of another machine show its new content
        path = existing_path(self.path)
        self.rows = np.memmap(path, self.rows.dtype, "r+", self.rows.offset, self.rows.shape)
        self.finished = row_states(self.rows, self.identity).finished
        for other in others:
            self.seconds += other.seconds
            self.timed += other.timed

    def reset_times(self) -> None:
        """Forget the times, which the main process has added to its own."""
        self.seconds, self.timed = 0.0, 0

    def save(self) -> None:
        """Write the manifest, and give a complete cell its final name."""
        self.rows.flush()
        partial = partial_path(self.path)
        if self.finished.all() and partial.exists():
            os.replace(partial, self.path)
        times = Times(self.seconds, self.timed, self.machine)
        write_manifest(self.path, self.identity, int(self.finished.sum()), times, self.kernels)


def open_cell(
    folder: Path, described: dict[str, Any], size: CellSize, threads: int, job: Job = ALONE
) -> StoredCell:
    """Open a cell with the rows that earlier runs scored, or create a new one.

    A damaged file is set aside with a line on stderr; damaged rows count as not scored. In a job,
    the main process creates and checks the file and knows the earlier times; the others open what
    they find.

    Args:
        folder: Where cells are stored.
        described: Everything that the posteriors depend on besides the size, ready for JSON.
        size: Of the cell.
        threads: Of each process. Times of another number of threads or processes, or of another
            machine, are not continued.
        job: Of this run.

    Raises:
        InputError: If the disk is full, the file cannot be opened, or not all processes see the
            folder.
    """
    identity = full_identity(described, size.images, size.classes, size.dtype)
    path = folder / file_name(identity)
    machine = machine_identity(threads, job.world)
    if not job.is_main:
        rows = _rows_of_main(path, size, job)
        return StoredCell(path, identity, rows, row_states(rows, identity).finished, machine)
    known = read_manifest(path, identity)
    file, rows = open_or_create(path, row_dtype(size.classes, size.dtype), size.images)
    states = row_states(rows, identity)
    # a file gets its final name when all rows are scored, so an empty row in it is a lost one
    lost = ~states.finished if file == path else states.damaged
    if lost.any():
        _report_lost_rows(file, int(lost.sum()))
    cell = StoredCell(path, identity, rows, states.finished, machine)
    if known:
        cell.kernels = known.kernels
        if known.times.machine == machine:
            cell.seconds, cell.timed = known.times.seconds, known.times.timed
    return cell


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Lock a folder of cells for this run during the block.

    Raises:
        InputError: If another run is writing there, or if the folder cannot be written.
    """
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(path) and not path.is_file():
            set_aside(path, "is not a regular file")
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}); choose another folder with --cells"
        ) from None
    busy = (
        f"{folder}: another vgg-bench is computing cells here; wait for it, or give this one its "
        "own --cells"
    )
    with exclusive_lock(path, busy) as locked:
        if not locked:
            echo(
                f"{folder}: this file system has no locks; start no other vgg-bench with these "
                "cells",
                err=True,
            )
        yield


def _rows_of_main(path: Path, size: CellSize, job: Job) -> np.memmap:
    """Map the rows of a cell that the main process has opened."""
    file = existing_path(path)
    try:
        return map_rows(file, row_dtype(size.classes, size.dtype), size.images)
    except Damaged:
        raise InputError(
            f"{file}: the main process made it, and process {job.rank} does not see it; give "
            "--cells a folder that all of them share"
        ) from None


def _report_lost_rows(path: Path, number: int) -> None:
    rows = "1 row was" if number == 1 else f"{number} rows were"
    echo(f"{path}: {rows} damaged; computed again", err=True)
