"""Manages the folder of one run: its config, its checkpoints and its tables."""

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from train.recipe.config import CLASSIFY, TrainConfig
from train.recipe.stages import CHAIN_FILE
from train.record.measures import MEASURES, Measures
from train.record.state import State
from train.record.tables import (
    Row,
    append_row,
    count_rows,
    rows_up_to,
    write_table,
)
from vgg_deploy.command_line import say
from vgg_deploy.errors import InputError
from vgg_deploy.files import write_text
from vgg_deploy.job import restarted, torchrun_id
from vgg_deploy.json_files import JsonObject, as_object, read_json_object
from vgg_deploy.locks import exclusive_lock
from vgg_deploy.net.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vgg_deploy.newest import RUNS
from vgg_deploy.sealed_json import read_sealed, sealed

LOCK = ".lock"
SOURCE_TYPES = {  # of the entries of config.json that name a run's sources
    "data": str,
    "recipe": str,
    "weights": str | None,
    "weights_name": str,
    "net_a": str | None,
    "freeze": bool,
    "images": int | None,
    "exif": str,
    "boxes": str | None,
    "box_coordinates": str,
}


class Run:
    """The folder of one run.

    Attributes:
        folder: Of the run.
        last: last.pt, the checkpoint to resume from.
        best: best.pt, the weights with the lowest validation top-1 error.
        metrics: metrics.csv, one row per epoch.
        steps: steps.csv, one row per few updates.
        config: config.json, the recipe and where its images and first weights come from.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.last = folder / "last.pt"
        self.best = folder / "best.pt"
        self.metrics = folder / "metrics.csv"
        self.steps = folder / "steps.csv"
        self.config = folder / "config.json"

    @classmethod
    def create(cls, folder: Path | None, config: TrainConfig, sources: Mapping[str, Any]) -> "Run":
        """Claim a folder for one run and write config.json.

        If several processes ask for the same folder at the same time, one gets it. Default names
        get a number.

        Args:
            folder: By default runs/<arch>-S<side>-<time>.
            config: The recipe.
            sources: What `Sources.as_json` gives.

        Raises:
            InputError: If the folder is not empty, or cannot be made.
        """
        run = cls(_folder_named_by_time(config) if folder is None else folder)
        run._refuse_if_used()
        _make_folder(run.folder)
        with run.locked():
            run._refuse_if_used()  # by a process that was faster
            run._write_config(
                {"config": dataclasses.asdict(config), "sources": sources, "job": torchrun_id()}
            )
        return run

    @property
    def exists(self) -> bool:
        """Whether the folder contains a run."""
        return self.config.exists()

    @property
    def resume_command(self) -> str:
        """The command that resumes the run, or the chain that it is a stage of."""
        chain = self.folder.parent
        is_stage = (chain / CHAIN_FILE).is_file()
        return f"python -m train --resume {chain if is_stage else self.folder}"

    def belongs_to_this_job(self) -> bool:
        """Whether this job of torchrun started the run, before a process was lost."""
        try:
            name = read_json_object(self.config).get("job")
        except InputError:
            return False
        return isinstance(name, str) and restarted(name)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training here during the block.

        The system releases the lock when the process ends. Loader processes that live a moment
        longer do not hold it.

        Raises:
            InputError: If another process trains here.
        """
        busy = (
            f"{self.folder}: another process is training here; "
            "wait for its end, or give another --out"
        )
        with exclusive_lock(self.folder / LOCK, busy) as is_locked:
            if not is_locked:
                say(
                    f"{self.folder}: this file system has no locks; "
                    "make sure that no other process trains here"
                )
            yield

    def saved_config(self) -> tuple[TrainConfig, dict[str, Any]]:
        """Read the config and the sources that `create` wrote.

        Raises:
            InputError: If config.json is missing or damaged.
        """
        if not os.path.lexists(self.config):
            raise InputError(
                f"{self.folder}: no run here (config.json is missing); "
                "give the folder that `python -m train` named"
            )
        saved: dict[str, Any] = read_sealed(self.config, "restore it, or start a new run")
        try:
            config = TrainConfig.from_json(saved["config"])
            return config, _checked_sources(dict(saved["sources"]))
        except InputError as error:
            raise InputError(f"{self.config}: {error.message}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{self.config}: damaged ({error!r}); start a new run") from None

    def note(self, data: str, micro_batch: int | str | None) -> None:
        """Write to config.json where the data are, and how batches are cut, if that has changed.

        Args:
            data: Folder or URL.
            micro_batch: Of `TrainConfig`.
        """
        saved = read_json_object(self.config)
        sources, config = (as_object(saved[key], str(self.config)) for key in ("sources", "config"))
        if (sources["data"], config.get("micro_batch")) != (data, micro_batch):
            sources["data"], config["micro_batch"] = data, micro_batch
            self._write_config(saved)

    def epochs_done(self) -> int:
        """The number of rows of metrics.csv.

        A row is written after the checkpoint of its epoch.

        Raises:
            InputError: If the table cannot be read.
        """
        return count_rows(self.metrics)

    def is_unfinished(self) -> bool:
        """Whether epochs of the run's own recipe are missing."""
        try:
            return self.exists and self.epochs_done() < self.saved_config()[0].epochs
        except InputError:  # of another version, or damaged
            return True

    def reset_to(self, state: State, measures: Measures = MEASURES[CLASSIFY]) -> None:
        """Make the tables agree with a state, and remove what a killed process left half written.

        Args:
            state: Of last.pt, or a new one.
            measures: Of the run's task.
        """
        for partial in self.folder.glob(".*.partial"):
            partial.unlink(missing_ok=True)
        write_table(self.metrics, measures.columns, state.rows)
        columns = measures.step_columns
        steps = rows_up_to(self.steps, state.step, columns) if state.step else []
        write_table(self.steps, columns, steps)

    def add_epoch(self, row: Row) -> None:
        """Append to metrics.csv.

        Raises:
            InputError: If the file cannot be written; says how to resume.
        """
        self._append(self.metrics, row)

    def add_step(self, row: Row) -> None:
        """Append to steps.csv.

        Raises:
            InputError: If the file cannot be written; says how to resume.
        """
        self._append(self.steps, row)

    def save(self, checkpoint: Checkpoint, best: bool) -> None:
        """Write last.pt; best.pt becomes the same file if it has the best weights so far.

        Both are only ever replaced by a new file, so that best.pt keeps its content when last.pt
        goes on. best.pt comes first: the state in last.pt says that it is there.

        Args:
            checkpoint: With fields of `State` and the state of the optimiser.
            best: Whether its weights are the best.

        Raises:
            InputError: If the file cannot be written; the previous one stays.
        """
        self._save(self.last, checkpoint, self.best if best else None)

    def finish_best(self) -> None:
        """Leave the weights alone in best.pt, once no epoch will replace it.

        Raises:
            InputError: If it cannot be read or written; the previous one stays.
        """
        if not self.best.exists():
            return
        best = load_checkpoint(self.best)
        if best.training:
            self._save(self.best, Checkpoint(best.spec, best.weights))

    def load_last(self) -> tuple[Checkpoint, State]:
        """Read the checkpoint to resume from.

        Raises:
            InputError: For a file without training state.
        """
        checkpoint = load_checkpoint(self.last)
        try:
            state = State.from_checkpoint(checkpoint.training)
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{self.last}: has no training state ({error}) for this version; "
                f"start a new run with --weights {self.last}"
            ) from None
        return checkpoint, state

    def _write_config(self, content: Mapping[str, object]) -> None:
        write_text(self.config, json.dumps(sealed(content), indent=2) + "\n")

    def _refuse_if_used(self) -> None:
        """Refuse a folder that has more in it than a killed start leaves.

        Raises:
            InputError: If there is a run, or another file.
        """
        try:
            names = sorted(entry.name for entry in self.folder.iterdir())
        except FileNotFoundError:
            return
        except OSError as error:
            raise InputError(
                f"{self.folder}: cannot be written ({error.strerror}); choose another --out"
            ) from None
        if self.exists:  # asked after the listing: another process may claim the folder meanwhile
            raise InputError(
                f"{self.folder}: this folder already contains a run; resume it with "
                f"--resume {self.folder}, or choose another --out"
            )
        others = [name for name in names if name != LOCK and not name.endswith(".partial")]
        if others:
            raise InputError(
                f"{self.folder}: this folder is not empty, it holds {others[0]}; "
                "choose another --out"
            )

    def _append(self, path: Path, row: Row) -> None:
        """Append a row, which has all columns in their order."""
        try:
            append_row(path, tuple(row), row)
        except OSError as error:
            raise InputError(
                f"{path}: writing failed ({error.strerror}). {self._free_space_and_resume}"
            ) from None

    def _save(self, path: Path, checkpoint: Checkpoint, first: Path | None = None) -> None:
        try:
            save_checkpoint(path, checkpoint, first)
        except InputError as error:
            raise InputError(f"{error.message}. {self._free_space_and_resume}") from None

    @property
    def _free_space_and_resume(self) -> str:
        return f"Free some disk space and resume with: {self.resume_command}"


def _checked_sources(sources: JsonObject) -> dict[str, Any]:
    """Check the types of the sources in config.json.

    Raises:
        TypeError: For an entry that has another type than was written.
    """
    for name, types in SOURCE_TYPES.items():
        if name in sources and not isinstance(sources[name], types):
            raise TypeError(f"{name} is {sources[name]!r}")
    return sources


def _folder_named_by_time(config: TrainConfig) -> Path:
    """Make a new folder runs/<arch>-S<side>-<time>, or with -2, -3 ... if that exists."""
    s = "-".join(map(str, sorted(set(config.side))))
    name = f"{config.arch}-S{s}-{datetime.now():%Y%m%d-%H%M%S}"
    for number in count(1):
        folder = RUNS / (name if number == 1 else f"{name}-{number}")
        try:
            _make_folder(folder, exist_ok=False)
        except FileExistsError:
            continue
        return folder
    raise AssertionError("count has no end")


def _make_folder(folder: Path, exist_ok: bool = True) -> None:
    """Make a folder.

    Raises:
        FileExistsError: If it exists and may not.
        InputError: If it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=exist_ok)
    except OSError as error:
        if isinstance(error, FileExistsError) and not exist_ok:
            raise
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}); choose another --out"
        ) from None
