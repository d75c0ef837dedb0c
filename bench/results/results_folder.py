"""The folder of results holds the files of one run.

A run writes into a hidden staging folder inside it. At the end its files are moved into place one by one, those
that an earlier run left and this one does not write are removed, and the gate's verdict comes last. Until then
the files of the earlier run stay as they were, also on a full disk. The verdict of a run that is under way is
for `gate_files` to keep, which replaces an earlier one at the start.

`run.json` lists the files that belong to a run. Files that it does not list are never touched.
"""

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn
from uuid import uuid4

from vgg_deploy.errors import InputError
from vgg_deploy.files import write_text

MANIFEST = "run.json"
VERDICTS = ("gate.xml", "gate.json")  # published last
ENVIRONMENT = "environment.json"
# What versions without a run.json wrote beside environment.json
OLDER_NAMES = (
    "accuracy.csv", "comparisons.csv", "confusions.csv", "differences.csv", "latency.csv", "latency_samples.csv",
    "paper_tables.csv", "paper_tables.md", "per_class.csv", "report.html", "report.md", "shapes.csv",
    "side_by_side.csv", "side_by_side_samples.csv", ENVIRONMENT, *VERDICTS,
)  # fmt: skip
STAGING = re.compile(r"\.vgg-bench-\d{8}-\d{6}-[0-9a-f]{8}")
LOCK = "lock"  # in a staging folder, held while its run lasts


def new_run_id() -> str:
    """Unique name of a run, in every file of it that can carry one: the time (UTC) and a random part."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid4().hex[:8]}"


@dataclass(frozen=True)
class Results:
    """The results of a run that is under way."""

    folder: Path  # where users find the files
    staging: Path  # where the run writes them
    run_id: str

    def publish(self, environment: dict[str, Any]) -> None:
        """Make the staged files the content of the folder. Nothing is changed before all of them are on the disk.

        Args:
            environment: of `describe_environment`; its time, command and versions go to run.json.

        Raises:
            InputError: if the folder cannot be written.
        """
        new = sorted(path.name for path in self.staging.iterdir() if path.name != LOCK)
        old = earlier_files(self.folder)
        described = {name: environment[name] for name in ("when", "command", "versions")}
        # the first of the two stands while files are moved: it lists those of both runs and says so
        moving = {
            "run_id": self.run_id,
            "complete": False,
            **described,
            "files": sorted({*new, *old}),
        }
        done = {"run_id": self.run_id, "complete": True, **described, "files": [MANIFEST, *new]}
        for name, document in (("moving", moving), ("done", done)):
            write_text(
                self.staging / f".{name}", json.dumps(document, indent=2, ensure_ascii=False) + "\n"
            )
        with _translated(self), _alone(self.folder):
            self._move(".moving", MANIFEST)
            for name in new:
                if name not in VERDICTS:
                    self._move(name, name)
            for name in old:
                if name not in (*new, MANIFEST):
                    (self.folder / name).unlink(missing_ok=True)
            self._move(".done", MANIFEST)
            for name in VERDICTS:
                if name in new:
                    self._move(name, name)

    def _move(self, staged: str, name: str) -> None:
        os.replace(self.staging / staged, self.folder / name)


@contextmanager
def results_folder(folder: Path, run_id: str) -> Iterator[Results]:
    """Results of a run, in a staging folder that is gone when the block ends; `Results.publish` keeps them.

    Args:
        folder: of the results; made if it is not there.
        run_id: of `new_run_id`.

    Raises:
        InputError: if the folder cannot be made or written.
    """
    made = not folder.exists()
    results = Results(folder, folder / f".vgg-bench-{run_id}", run_id)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        results.staging.mkdir()
        lock = open(results.staging / LOCK, "w")
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}); choose another folder with --out"
        ) from None
    try:
        with lock, _translated(results):
            # this process's own: decoders that outlive it for a moment do not hold it
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield results
    finally:
        shutil.rmtree(results.staging, ignore_errors=True)
        if made:
            with suppress(OSError):  # it has files now
                folder.rmdir()


def earlier_files(folder: Path) -> list[str]:
    """Names of the files that earlier runs left in a folder.

    They are those that run.json lists; without it, those that older versions wrote, if the environment.json
    beside them is of vgg-bench. A run that was killed before it had results may have left the gate's files.
    """
    listed = _json_object(folder / MANIFEST).get("files")
    if not isinstance(listed, list):
        versions = _json_object(folder / ENVIRONMENT).get("versions")
        of_bench = isinstance(versions, dict) and "vgg-deploy" in versions
        listed = list(OLDER_NAMES) if of_bench else []
    if {"run_id", "verdict"} <= _json_object(folder / "gate.json").keys():
        listed += [name for name in VERDICTS if name not in listed]
    # a name alone, so that no other folder is reached
    names = [name for name in listed if isinstance(name, str) and name == Path(name).name]
    return [name for name in names if (folder / name).is_file() or (folder / name).is_symlink()]


def _json_object(path: Path) -> dict[str, Any]:
    """Empty if it is none."""
    try:
        held = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return held if isinstance(held, dict) else {}


def _sweep(folder: Path) -> None:
    """Remove the staging folders of runs that were killed."""
    for path in folder.iterdir():
        if not STAGING.fullmatch(path.name) or path.is_symlink() or not path.is_dir():
            continue
        try:
            with open(path / LOCK, "r+") as lock:
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            pass  # killed before it was locked
        except OSError:
            continue  # its run is still under way
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait for another run that publishes into the same folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def _translated(results: Results) -> Iterator[None]:
    """Let errors name the file that the user knows, not the staged one."""
    try:
        yield
    except InputError as error:
        # the same error, so that a setting that is not stated keeps its way out
        error.what = error.what.replace(str(results.staging), str(results.folder))
        raise
    except OSError as error:
        _raise_unwritable(results, error)


def _raise_unwritable(results: Results, error: OSError) -> NoReturn:
    """Errors of files in the folder as sentences; others pass."""
    names = [Path(str(name)) for name in (error.filename, error.filename2) if name]
    if not any(results.folder in (name, *name.parents) for name in names):
        raise error
    raise InputError(
        f"{names[-1]}: cannot be written ({error.strerror}); choose another folder with --out"
    ) from None
