"""Cells on disk: computed once, picked up where a run was cut off, never used for another model or other images.

One .npy a cell, (images, classes), mapped into memory. A row of zeros is an image not yet scored: posteriors sum to 1,
so the file itself tells how far it got, at any moment, without a second record that could contradict it.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.lib.format import open_memmap

from vgg_deploy.errors import InputError
from vgg_deploy.files import write_text
from vgg_deploy.ranks import ALONE, Ranks

FORMAT = 1  # raise it when decoding, rescaling, views or the meaning of a cell change
ROWS = 4096  # images a time when a cell is read; bounds the memory whatever the number of images
DTYPES = ("float32", "float16")


class Tally(NamedTuple):
    """What one process of a job counted in a cell."""

    seconds: float
    timed: int
    inconsistency: float
    inconsistent_image: int


@dataclass
class StoredCell:
    """The posteriors of one cell and what is known of their making."""

    path: Path  # the name that it gets when every image is scored
    identity: dict
    posteriors: np.memmap  # (images, classes)
    finished: np.ndarray  # (images,) bool
    seconds: float = 0.0  # in the runtime, alone for this cell; of all processes together
    timed: int = 0  # images within these seconds
    threads: int = 0  # of each process
    processes: int = 1
    inconsistency: float = 0.0  # largest difference between the net's posterior and the softmax of its mean score
    inconsistent_image: int = 0

    def write(self, images: np.ndarray, posteriors: np.ndarray, seconds: float) -> None:
        """Fill in rows. Args: images, (n,) positions; posteriors, (n, classes); seconds they took."""
        self.posteriors[images] = posteriors
        self.finished[images] = True
        self.seconds += seconds
        self.timed += len(images)

    @property
    def ms_per_image(self) -> float:
        """What an image takes in the runtime of one process, while the others of the job work beside it.

        It is a property of the model on this machine, not of the job: P processes score P images in this time.
        """
        return 1000 * self.seconds / self.timed if self.timed else float("nan")

    @property
    def tally(self) -> Tally:
        return Tally(*(getattr(self, name) for name in Tally._fields))

    def take_over(self, others: list[Tally]) -> None:
        """Have what other processes wrote into the same file; they are done with it."""
        self.posteriors = np.load(_there(self.path), mmap_mode="r+")  # anew: a folder of another machine is looked at again only then
        # any row that is not zero was written to its end by now, even one whose sum is wrong
        self.finished = np.concatenate([self.posteriors[rows].any(axis=1) for rows in chunks(len(self.posteriors))])
        for other in others:
            self.seconds += other.seconds
            self.timed += other.timed
            if other.inconsistency > self.inconsistency:
                self.inconsistency, self.inconsistent_image = other.inconsistency, other.inconsistent_image

    def save(self) -> None:
        """Write the manifest; give a whole cell its name."""
        self.posteriors.flush()
        partial = _partial(self.path)
        if self.finished.all() and partial.exists():
            os.replace(partial, self.path)
        kept = {name: getattr(self, name) for name in KEPT}
        manifest = {**self.identity, "finished": int(self.finished.sum()), **kept}
        write_text(self.path.with_suffix(".json"), json.dumps(manifest, indent=2) + "\n")


KEPT = ("seconds", "timed", "threads", "processes", "inconsistency", "inconsistent_image")


def open_cell(folder: Path, identity: dict, images: int, classes: int, dtype: str, threads: int, ranks: Ranks = ALONE) -> StoredCell:
    """A cell as far as it got, or a new one.

    Args: identity, everything the posteriors depend on, ready for JSON; threads, of each process, and ranks, of this run:
        times of other numbers of them are not continued. In a job the main process makes the file and knows earlier times;
        the others find it there and count from zero.
    Raises: InputError for a damaged file, a disk without room, or a folder that not all processes see.
    """
    identity = {"format": FORMAT, **identity, "images": images, "classes": classes, "dtype": dtype}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:20]
    mirrored = "-mirrored" if identity["mirrored"] else ""
    path = folder / f"{identity['runtime']}-{identity['precision']}-Q{identity['side']}-{identity['views']}{mirrored}-{digest}.npy"
    there = _there(path)
    if not there.exists():
        if not ranks.main:
            raise InputError(f"{there}: the main process made it, and process {ranks.rank} does not see it; give --cells a folder that all of them share")
        _create(there, (images, classes), dtype)
    try:
        np.load(there, mmap_mode="r")  # opened for writing, a file that was cut short would be filled up with zeros
        posteriors = np.load(there, mmap_mode="r+")
    except (ValueError, OSError, EOFError, SyntaxError, TypeError) as error:
        raise InputError(f"{there}: not a stored cell ({error}); delete it, and it is computed again") from None
    if posteriors.shape != (images, classes) or posteriors.dtype != dtype:
        raise InputError(f"{there}: holds {posteriors.dtype} {posteriors.shape}, expected {dtype} {(images, classes)}; delete it")
    cell = StoredCell(path, identity, posteriors, _finished(posteriors), threads=threads, processes=ranks.world)
    if ranks.main and path.with_suffix(".json").exists():
        _recall(cell)
    return cell


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Keep other runs from writing the same cells meanwhile.

    Raises: InputError if one does already, or if the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "w")
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another place with --cells") from None
    with lock:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # this process's own: decoders that outlive it for a moment do not hold it
        except (BlockingIOError, PermissionError):
            raise InputError(f"{folder}: another vgg-bench is computing cells here; wait for it, or give this one its own --cells") from None
        yield


def chunks(images: int) -> Iterator[slice]:
    """Rows to read at a time."""
    return (slice(begin, min(begin + ROWS, images)) for begin in range(0, images, ROWS))


def _partial(path: Path) -> Path:
    return path.with_suffix(".partial.npy")


def _there(path: Path) -> Path:
    """The whole cell's name if it has got it."""
    return path if path.exists() else _partial(path)


def _create(path: Path, shape: tuple[int, int], dtype: str) -> None:
    """A file of zeros whose room on the disk is sure: a hole in it would kill the process when the disk fills up."""
    try:
        open_memmap(path, "w+", dtype, shape)
        with open(path, "rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        path.unlink(missing_ok=True)
        need = shape[0] * shape[1] * np.dtype(dtype).itemsize / 1e6
        raise InputError(f"{path}: cannot be made ({error.strerror}); a cell of {shape[0]} images and {shape[1]} classes takes {need:.0f} MB") from None


def _finished(posteriors: np.ndarray) -> np.ndarray:
    """Rows that sum to 1, or to NaN, which is a result too; (images,) bool."""
    finished = np.zeros(len(posteriors), bool)
    for rows in chunks(len(posteriors)):
        with np.errstate(invalid="ignore"):
            finished[rows] = ~(np.abs(posteriors[rows].sum(axis=1, dtype=np.float32) - 1) > 0.02)
    return finished


def _recall(cell: StoredCell) -> None:
    manifest, now = cell.path.with_suffix(".json"), (cell.threads, cell.processes)
    try:
        held = {"processes": 1, **json.loads(manifest.read_text(encoding="utf-8"))}  # older manifests are of one process
        for name in KEPT:
            setattr(cell, name, type(getattr(cell, name))(held[name]))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{manifest}: not the manifest of a cell ({error!r}); delete it and the .npy beside it") from None
    if (cell.threads, cell.processes) != now:
        cell.seconds, cell.timed = 0.0, 0
        cell.threads, cell.processes = now
