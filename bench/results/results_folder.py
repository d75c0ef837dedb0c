"""Keeps the files of one run in the folder of results.

A run writes into a hidden staging folder inside it. At the end its files are moved to the folder
one by one, files of an earlier run that this one does not write are removed, and the verdict of the
gate comes last. Until then the files of the earlier run stay as they were, also on a full disk.
While a run is under way, `bench.gate.verdict_files` keeps its verdict; it replaces an earlier one
at the start.

`run.json` lists the files that belong to a run. Files that it does not list are never touched.
"""

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from vgg_deploy.errors import InputError
from vgg_deploy.files import write_text
from vgg_deploy.json_files import JsonObject, read_json
from vgg_deploy.locks import exclusive_lock, waiting_lock
from vgg_deploy.printable import json_text

MANIFEST = "run.json"
VERDICTS = ("gate.xml", "gate.json")  # published last
ENVIRONMENT = "environment.json"
OLDER_NAMES = (  # what versions without a run.json wrote beside environment.json
    "accuracy.csv",
    "comparisons.csv",
    "confusions.csv",
    "differences.csv",
    "latency.csv",
    "latency_samples.csv",
    "paper_tables.csv",
    "paper_tables.md",
    "per_class.csv",
    "report.html",
    "report.md",
    "shapes.csv",
    "side_by_side.csv",
    "side_by_side_samples.csv",
    ENVIRONMENT,
    *VERDICTS,
)
STAGING = re.compile(r"\.vgg-bench-\d{8}-\d{6}-[0-9a-f]{8}")
LOCK = "lock"  # in a staging folder, locked while its run lasts
PUBLISHING = ".vgg-bench-publishing"  # the lock file of the folder, there while files are moved
OTHER_FOLDER = "choose another folder with --out"


def new_run_id() -> str:
    """Make the unique name of a run: the time (UTC) and a random part.

    Every file of the run that can carry it does.
    """
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{uuid4().hex[:8]}"


@dataclass(frozen=True)
class Results:
    """The results of a run that is under way.

    Attributes:
        folder: Where users find the files.
        staging: Where the run writes them.
        run_id: Of `new_run_id`.
    """

    folder: Path
    staging: Path
    run_id: str

    def publish(self, environment: Mapping[str, object]) -> None:
        """Make the staged files the content of the folder.

        Nothing is changed before all files are on the disk.

        Args:
            environment: Of `describe_environment`; its time, command and versions go to run.json.

        Raises:
            InputError: If the folder cannot be written.
        """
        new = sorted(path.name for path in self.staging.iterdir() if path.name != LOCK)
        old = earlier_files(self.folder)
        described = {name: environment[name] for name in ("when", "command", "versions")}
        # The first list is there while files are moved: it has the files of both runs and says so.
        self._stage_list(".moving", False, described, sorted({*new, *old}))
        self._stage_list(".done", True, described, [MANIFEST, *new])
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

    def _stage_list(
        self, name: str, complete: bool, described: Mapping[str, object], files: list[str]
    ) -> None:
        """Write a run.json under a name of its own."""
        document = {"run_id": self.run_id, "complete": complete, **described, "files": files}
        text = json_text(document, 2)
        write_text(self.staging / name, text + "\n")

    def _move(self, staged: str, name: str) -> None:
        os.replace(self.staging / staged, self.folder / name)


@contextmanager
def results_folder(folder: Path, run_id: str) -> Iterator[Results]:
    """Give a run a staging folder, which is removed when the block ends.

    `Results.publish` keeps the files.

    Args:
        folder: Of the results; created if it is missing.
        run_id: Of `new_run_id`.

    Yields:
        The results, still empty.

    Raises:
        InputError: If the folder cannot be created or written.
    """
    created = not folder.exists()
    results = Results(folder, folder / f".vgg-bench-{run_id}", run_id)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        results.staging.mkdir()
    except OSError as error:
        what = f"{folder}: cannot be written ({error.strerror})"
        raise InputError(what, OTHER_FOLDER) from None
    try:
        with _translated(results), exclusive_lock(results.staging / LOCK, "locked by another run"):
            yield results
    finally:
        shutil.rmtree(results.staging, ignore_errors=True)
        if created:
            with suppress(OSError):  # it has files now
                folder.rmdir()


def earlier_files(folder: Path) -> list[str]:
    """Names of the files that earlier runs left in a folder.

    They are those that run.json lists. Without it they are those that older versions wrote, if
    the environment.json beside them is of vgg-bench. A run that was killed before it had results
    may have left the files of the gate.

    Args:
        folder: Of results.
    """
    listed = _json_object(folder / MANIFEST).get("files")
    if isinstance(listed, list):
        names = [name for name in listed if isinstance(name, str)]
    else:
        versions = _json_object(folder / ENVIRONMENT).get("versions")
        of_bench = isinstance(versions, dict) and "vgg-deploy" in versions
        names = list(OLDER_NAMES) if of_bench else []
    if {"run_id", "verdict"} <= _json_object(folder / "gate.json").keys():
        names += [name for name in VERDICTS if name not in names]
    # a name alone, so that no other folder is reached
    names = [name for name in names if name == Path(name).name]
    # unlike those of Path, these take names that no file can have
    return [n for n in names if os.path.isfile(folder / n) or os.path.islink(folder / n)]


def _json_object(path: Path) -> JsonObject:
    """The content of a file; empty if it is missing or is not a JSON object."""
    if not path.is_file():
        return {}
    try:
        content = read_json(path)
    except InputError:
        return {}
    return content if isinstance(content, dict) else {}


def _sweep(folder: Path) -> None:
    """Remove the staging folders of runs that were killed."""
    for path in folder.iterdir():
        if not STAGING.fullmatch(path.name) or path.is_symlink() or not path.is_dir():
            continue
        try:
            with exclusive_lock(path / LOCK, "its run is still under way") as locked:
                if locked:  # a run that was killed has no lock
                    shutil.rmtree(path, ignore_errors=True)
        except InputError:
            continue


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait for other runs that publish into the same folder."""
    lock = folder / PUBLISHING
    with waiting_lock(lock):
        try:
            yield
        finally:
            # still locked, so that nobody else uses it: those who wait try again with a new file
            with suppress(OSError):
                lock.unlink()


@contextmanager
def _translated(results: Results) -> Iterator[None]:
    """Let errors name the file that the user knows, not the staged one."""
    try:
        yield
    except InputError as error:
        # the same error object: a hint that depends on its `about` can still be added
        error.what = error.what.replace(str(results.staging), str(results.folder))
        raise
    except OSError as error:
        names = [Path(str(name)) for name in (error.filename, error.filename2) if name]
        if not any(results.folder in (name, *name.parents) for name in names):
            raise  # about another file
        what = f"{names[-1]}: cannot be written ({error.strerror})"
        raise InputError(what, OTHER_FOLDER) from None
