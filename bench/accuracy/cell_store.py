"""Cells on disk: computed once, resumed after an interruption, never used for another model or other images.

A cell is one .npy file with one row per image, mapped into memory. A row holds the posterior, its consistency
(the largest difference between the net's posterior and the softmax of its mean score, over the views of the
image) and a CRC-32 of both, of the row's index and of the cell's identity. So a row proves by itself that it was
written completely, at this index, for this cell; a row of zeros is an image that is not scored yet. The .json
manifest beside it describes the cell to people and holds the times with a CRC-32; the rows are valid without it.

The CRC finds damage and mix-ups: flipped bits, lost blocks, rows that were moved or that belong to another
cell, edited values. It is no signature: whoever recomputes the CRCs on purpose can store any row.
"""

import fcntl
import hashlib
import json
import math
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from click import echo
from numpy.lib import format as npy

from vgg_deploy.errors import InputError
from vgg_deploy.files import write_text
from vgg_deploy.job import ALONE, Job
from vgg_deploy.machine import cpu_instructions, cpu_model, host_name

# Raise it when decoding, rescaling, views, the row or the meaning of a cell change
FORMAT = 2
ROWS = 4096  # images read at a time; bounds the memory whatever the number of images
DAMAGED_SUFFIX = ".damaged"


class Tally(NamedTuple):
    """What one process of a job measured for a cell."""

    seconds: float
    timed: int


class RowState(NamedTuple):
    """What the checksums say of a cell's rows; each (images,) bool."""

    finished: np.ndarray
    damaged: np.ndarray  # not empty, and the checksum is wrong


@dataclass
class StoredCell:
    """The rows of one cell, and the time they took."""

    path: Path  # the name that it gets when every image is scored
    identity: dict[str, Any]
    rows: np.memmap  # (images,) of `row_dtype`
    finished: np.ndarray  # (images,) bool
    machine: dict[str, Any]  # where the times were measured
    seconds: float = 0.0  # in the runtime, for this cell alone; the sum over all processes
    timed: int = 0  # images within these seconds

    @property
    def posteriors(self) -> np.ndarray:
        """(images, classes) float32 or float16; zeros where an image is not scored."""
        return self.rows["posterior"]

    @property
    def consistency(self) -> np.ndarray:
        """(images,) float32: largest difference from the softmax of the mean score, over an image's views."""
        return self.rows["consistency"]

    def write(
        self, images: np.ndarray, posteriors: np.ndarray, consistency: np.ndarray, seconds: float
    ) -> None:
        """Fill in rows.

        Args:
            images: (n,) int, indices of the rows.
            posteriors: (n, classes), any float type.
            consistency: (n,), see the property.
            seconds: what they took in the runtime.
        """
        written = np.zeros(len(images), self.rows.dtype)
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # infinite and NaN values are results, and are kept
            written["posterior"] = posteriors
            written["consistency"] = consistency
        written["crc32"] = _checksums(written, images, _seed(self.identity))
        # the checksum last: a process that is killed in between leaves a row that does not count
        for name in ("posterior", "consistency", "crc32"):
            self.rows[name][images] = written[name]
        self.finished[images] = True
        self.seconds += seconds
        self.timed += len(images)

    @property
    def ms_per_image(self) -> float:
        """Time of one image in the runtime of one process, while the other processes of the job run beside it.

        It is a property of the model on this machine, not of the job: P processes score P images in this time.
        NaN if nothing was timed on this machine.
        """
        return 1000 * self.seconds / self.timed if self.timed else float("nan")

    @property
    def tally(self) -> Tally:
        """What this process adds to the times of the job."""
        return Tally(self.seconds, self.timed)

    def take_over(self, others: list[Tally]) -> None:
        """Read what the other processes, which have finished, wrote into the same file."""
        # mapped again: only then does a file of another machine show its new content
        self.rows = np.memmap(
            _existing(self.path), self.rows.dtype, "r+", self.rows.offset, self.rows.shape
        )
        self.finished = row_states(self.rows, self.identity).finished
        for other in others:
            self.seconds += other.seconds
            self.timed += other.timed

    def save(self) -> None:
        """Write the manifest; give a complete cell its final name."""
        self.rows.flush()
        partial = _partial(self.path)
        if self.finished.all() and partial.exists():
            os.replace(partial, self.path)
        times = {"seconds": self.seconds, "timed": self.timed, "machine": self.machine}
        sealed = {**times, "times_crc32": _seed({**self.identity, **times})}
        manifest = {**self.identity, "finished": int(self.finished.sum()), **sealed}
        write_text(_manifest(self.path), json.dumps(manifest, indent=2) + "\n")


class _Damaged(Exception):
    """Why a file is no cell, or no manifest."""


class _Times(NamedTuple):
    """What a manifest adds to the rows."""

    seconds: float
    timed: int
    machine: dict[str, Any]


def row_dtype(classes: int, dtype: str) -> np.dtype:
    """A row of a cell. Args: dtype, "float32" or "float16", of the posterior."""
    posterior = np.dtype(dtype).newbyteorder("<")
    return np.dtype(
        [("posterior", posterior, (classes,)), ("consistency", "<f4"), ("crc32", "<u4")]
    )


def open_cell(
    folder: Path, identity: dict[str, Any], images: int, classes: int, dtype: str, threads: int,
    job: Job = ALONE,
) -> StoredCell:  # fmt: skip
    """A cell with the rows that earlier runs scored, or a new one.

    A damaged file is set aside with a line on stderr; damaged rows count as not scored. In a job the main
    process creates and checks the file and knows the earlier times; the others open what they find.

    Args:
        folder: where cells are kept.
        identity: everything the posteriors depend on, ready for JSON.
        images: number of rows.
        classes: length of a posterior.
        dtype: "float32" or "float16", of the stored posteriors.
        threads: of each process. Times of another number of threads or processes, or of another machine, are
            not continued.
        job: of this run.

    Raises:
        InputError: if the disk is full, the file cannot be opened, or not all processes see the folder.
    """
    identity = {"format": FORMAT, **identity, "images": images, "classes": classes, "dtype": dtype}
    identity = json.loads(json.dumps(identity))  # as the manifest will hold it: tuples become lists
    path = folder / _file_name(identity)
    rows = row_dtype(classes, dtype)
    machine = machine_id(threads, job.world)
    if not job.is_main:
        return StoredCell(path, identity, *_of_main(path, rows, images, identity, job), machine)
    times = _read_manifest(path, identity)
    there, mapped = _open_or_create(path, rows, images)
    states = row_states(mapped, identity)
    # a file gets its final name when all rows are scored, so that an empty row in it is a lost one
    lost = ~states.finished if there == path else states.damaged
    if lost.any():
        number = int(lost.sum())
        were = "1 row was" if number == 1 else f"{number} rows were"
        echo(f"{there}: {were} damaged; computed again", err=True)
    cell = StoredCell(path, identity, mapped, states.finished, machine)
    if times and times.machine == machine:
        cell.seconds, cell.timed = times.seconds, times.timed
    return cell


def machine_id(threads: int, processes: int) -> dict[str, Any]:
    """What a time depends on beside the model: this machine and the part of it that a run uses."""
    return {
        "host": host_name(),
        "cpu": cpu_model(),
        "instructions": cpu_instructions(),
        "threads": threads,
        "processes": processes,
    }


def report_old_cells(folder: Path) -> None:
    """Print one line on stderr if the folder holds cells of another format, which are not used."""
    old = [path for path in folder.glob("*.json") if _format_of(path) not in (None, FORMAT)]
    if old:
        number = "1 cell" if len(old) == 1 else f"{len(old)} cells"
        echo(
            f"{folder}: {number} of another version of vgg-bench will not be used; delete the folder "
            "when no other version needs it",
            err=True,
        )


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Keep other runs from writing the same cells during the block.

    Raises:
        InputError: if another run is writing there, or if the folder cannot be written.
    """
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(path) and not path.is_file():
            _set_aside(path, "is not a regular file")
        lock = open(path, "w")
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}); choose another folder with --cells"
        ) from None
    with lock:
        try:
            # this process's own: decoders that outlive it for a moment do not hold it
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise InputError(
                f"{folder}: another vgg-bench is computing cells here; wait for it, or give this one "
                "its own --cells"
            ) from None
        yield


def chunks(images: int) -> Iterator[slice]:
    """Rows to read at a time."""
    return (slice(start, min(start + ROWS, images)) for start in range(0, images, ROWS))


def row_states(rows: np.ndarray, identity: dict[str, Any]) -> RowState:
    """Check every row's checksum, some rows at a time.

    Args:
        rows: (images,) of `row_dtype`.
        identity: of the cell, with its format.
    """
    seed = _seed(identity)
    finished, damaged = np.zeros((2, len(rows)), bool)
    for part in chunks(len(rows)):
        held = np.ascontiguousarray(rows[part])
        finished[part] = _checksums(held, np.arange(part.start, part.stop), seed) == held["crc32"]
        bytes_of_rows = held.view(np.uint8).reshape(len(held), -1)
        damaged[part] = ~finished[part] & bytes_of_rows.any(axis=1)
    return RowState(finished, damaged)


def _checksums(rows: np.ndarray, indices: np.ndarray, seed: int) -> np.ndarray:
    """(n,) uint32: the CRC-32 that each row should have.

    Args:
        rows: (n,) contiguous, of `row_dtype`; the checksum is its last field.
        indices: (n,) int, where the rows stand in the cell.
        seed: of the cell's identity.
    """
    size = rows.dtype.itemsize
    covered = size - rows.dtype["crc32"].itemsize
    held = rows.view(np.uint8).data
    found = np.empty(len(rows), np.uint32)
    for i, index in enumerate(indices.tolist()):
        start = zlib.crc32(index.to_bytes(8, "little"), seed)
        found[i] = zlib.crc32(held[i * size : i * size + covered], start)
    return found


def _seed(identity: dict[str, Any]) -> int:
    return zlib.crc32(_digest(identity).encode())


def _digest(identity: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _file_name(identity: dict[str, Any]) -> str:
    mirrored = "-mirrored" if identity["mirrored"] else ""
    views = f"Q{identity['side']}-{identity['views']}{mirrored}"
    return f"{identity['runtime']}-{identity['precision']}-{views}-{_digest(identity)[:20]}.npy"


def _manifest(path: Path) -> Path:
    return path.with_suffix(".json")


def _partial(path: Path) -> Path:
    return path.with_suffix(".partial.npy")


def _existing(path: Path) -> Path:
    """The final name if the cell has it already."""
    return path if path.exists() else _partial(path)


def _open_or_create(path: Path, dtype: np.dtype, images: int) -> tuple[Path, np.memmap]:
    """Map the cell that is there, else make one. Damaged files are set aside."""
    for there in (path, _partial(path)):
        if os.path.lexists(there):
            try:
                return there, _map(there, dtype, images)
            except _Damaged as reason:
                _set_aside(there, str(reason))
    partial = _partial(path)
    _create(partial, dtype, images)
    return partial, _map(partial, dtype, images)


def _of_main(
    path: Path, dtype: np.dtype, images: int, identity: dict[str, Any], job: Job
) -> tuple[np.memmap, np.ndarray]:
    """What the main process has opened: the rows, and which of them are finished."""
    there = _existing(path)
    try:
        mapped = _map(there, dtype, images)
    except _Damaged:
        raise InputError(
            f"{there}: the main process made it, and process {job.rank} does not see it; give --cells a "
            "folder that all of them share"
        ) from None
    return mapped, row_states(mapped, identity).finished


def _map(path: Path, dtype: np.dtype, images: int) -> np.memmap:
    """Raises: _Damaged if it is not a cell of this shape; InputError if it cannot be opened."""
    if not path.is_file():
        raise _Damaged("is not a regular file")
    try:
        with open(path, "rb") as file:
            shape, column_order, found = _read_header(file)
            offset, size = file.tell(), os.fstat(file.fileno()).st_size
        if (found, shape, column_order) != (dtype, (images,), False):
            raise _Damaged(f"does not hold {images} rows of this cell")
        wanted = offset + images * dtype.itemsize
        if size != wanted:
            raise _Damaged(f"has {size} bytes, a cell of {images} images has {wanted}")
        return np.memmap(path, dtype, "r+", offset, (images,))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be opened ({error.strerror}); check its permissions, or choose another folder "
            "with --cells"
        ) from None


def _read_header(file) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Raises: _Damaged if the file does not begin as a .npy does."""
    try:
        readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        return readers[npy.read_magic(file)](file)
    except OSError:
        raise
    except Exception:  # a damaged header is parsed as Python, which raises almost anything
        raise _Damaged("is not a .npy file") from None


def _create(path: Path, dtype: np.dtype, images: int) -> None:
    """A file of zeros whose space on the disk is reserved: a hole would kill the process once the disk is full."""
    try:
        npy.open_memmap(path, "w+", dtype, (images,))
        with open(path, "rb+") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    except OSError as error:
        path.unlink(missing_ok=True)
        size = images * dtype.itemsize / 1e6
        raise InputError(
            f"{path}: cannot be made ({error.strerror}); a cell of {images} images takes {size:.3g} MB"
        ) from None


def _read_manifest(path: Path, identity: dict[str, Any]) -> _Times | None:
    """The times of a cell, if its manifest is there and sound.

    A manifest that cannot be read is set aside alone, for the rows are valid without it. One that names another
    cell contradicts the rows: then both are set aside.
    """
    manifest = _manifest(path)
    if not os.path.lexists(manifest):
        return None
    try:
        held = _json_object(manifest)
        if {name: held.get(name) for name in identity} != identity:
            for file in (manifest, path, _partial(path)):
                if os.path.lexists(file):
                    _set_aside(file, "its manifest is that of another cell")
            return None
        seconds, timed, machine = float(held["seconds"]), int(held["timed"]), held["machine"]
        times = {name: held[name] for name in ("seconds", "timed", "machine")}
        if held["times_crc32"] != _seed({**identity, **times}):
            raise _Damaged("its times have another checksum")
        if not math.isfinite(seconds) or seconds < 0 or timed < 0:
            raise _Damaged("its times are no times")
        return _Times(seconds, timed, machine)
    except (_Damaged, ValueError, KeyError, TypeError, OverflowError):
        _set_aside(
            manifest, "is damaged, or no manifest of a cell", "only the times in it are lost"
        )
        return None


def _json_object(path: Path) -> dict[str, Any]:
    """Raises: _Damaged if the file is none."""
    if not path.is_file():
        raise _Damaged("is not a regular file")
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise _Damaged("is not JSON") from None
    if not isinstance(held, dict):
        raise _Damaged("is no JSON object")
    return held


def _format_of(manifest: Path) -> object:
    """None if it is no manifest of a cell."""
    try:
        return _json_object(manifest).get("format")
    except _Damaged:
        return None


def _set_aside(path: Path, reason: str, result: str = "computed again") -> None:
    """Rename a file out of the way, or remove it, with a line on stderr.

    Raises:
        InputError: if neither is possible.
    """
    kept = path.with_name(path.name + DAMAGED_SUFFIX)
    try:
        os.replace(path, kept)
        done = f"renamed to {kept.name}"
    except OSError:
        try:
            path.unlink()
            done = "removed"
        except OSError as error:
            raise InputError(
                f"{path}: {reason}, and it cannot be renamed or removed ({error.strerror}); remove it"
            ) from None
    echo(f"{path}: {reason}; {done}, {result}", err=True)
