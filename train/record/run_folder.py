"""The folder of one run: its checkpoints and its metrics."""

import csv
import dataclasses
import fcntl
import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import NamedTuple

import click

from train.recipe.config import TrainConfig
from train.recipe.stages import CHAIN_FILE
from vgg_deploy.errors import InputError
from vgg_deploy.files import write_text
from vgg_deploy.job import restarted, torchrun_id
from vgg_deploy.net.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vgg_deploy.net.model import VGG
from vgg_deploy.newest import RUNS

COLUMNS = (
    "epoch", "step", "lr", "train_loss", "train_top1_error_pct", "train_top5_error_pct",
    "val_top1_error_pct", "val_top5_error_pct", "images_per_s", "elapsed_s", "val_images",
)  # fmt: skip
LATER_COLUMNS = ("val_images",)  # empty in the first rows of runs that an earlier version started
LOCK = ".lock"
SOURCE_TYPES = {  # of the entries in config.json that `sources_of` reads
    "data": str, "recipe": str, "weights": str | None, "net_a": str | None, "freeze": bool,
    "images": int | None,
}  # fmt: skip
STEP_COLUMNS = ("step", "epoch", "lr", "train_loss", "train_top1_error_pct", "images_per_s")


LATER_FIELDS = ("window", "window_s", "colours")  # of State, unknown to earlier versions


@dataclass
class State:
    """How far a run has come; everything here goes into last.pt.

    No generator's state is among it: order, views and dropout are drawn from the seed, the epoch, the image and the step.
    """

    images: int  # in the training set: what makes an epoch
    step: int = 0
    errors: list[float] = field(
        default_factory=list
    )  # validation top-1 error after each epoch, per cent
    rows: list[dict] = field(default_factory=list)  # of metrics.csv
    tally: list[float] = field(
        default_factory=lambda: [0.0] * 4
    )  # of the epoch that is running: loss, top-1 and top-5 errors, images
    epoch_s: float = 0.0  # spent on its updates
    elapsed_s: float = 0.0
    # as `tally`, since the last row of steps.csv
    window: list[float] = field(default_factory=lambda: [0.0] * 4)
    window_s: float = 0.0  # spent on the updates of `window`
    # of the training set, see `Colours.as_json`; None in checkpoints of earlier versions
    colours: dict | None = None


class Run:
    """Files: last.pt (to go on from), best.pt (lowest validation top-1 error), metrics.csv (epochs), steps.csv, config.json."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.last, self.best, self.metrics, self.steps = (
            folder / name for name in ("last.pt", "best.pt", "metrics.csv", "steps.csv")
        )

    @classmethod
    def create(cls, folder: Path | None, config: TrainConfig, sources: dict) -> "Run":
        """Claim a folder for one run, by default runs/<arch>-S<side>-<time>, and write config.json.

        Of several processes that ask for the same folder at the same time one gets it; default
        names get a number.
        Raises: InputError if the folder holds anything already, or cannot be made.
        """
        run = cls(_folder_named_by_time(config) if folder is None else folder)
        run._refuse_if_used()
        _make_folder(run.folder)
        with run.alone():
            run._refuse_if_used()  # by a process that was faster
            held = {"config": dataclasses.asdict(config), "sources": sources, "job": torchrun_id()}
            write_text(run.folder / "config.json", json.dumps(held, indent=2) + "\n")
        return run

    def note_data(self, data: str) -> None:
        """Write the place of the data to config.json if it has moved."""
        path = self.folder / "config.json"
        held = json.loads(path.read_text(encoding="utf-8"))
        if held["sources"]["data"] != data:
            held["sources"]["data"] = data
            write_text(path, json.dumps(held, indent=2) + "\n")

    def _refuse_if_used(self) -> None:
        """Raises: InputError if the folder holds more than a start that was cut off has left."""
        try:
            found = sorted(entry.name for entry in self.folder.iterdir())
        except FileNotFoundError:
            return
        except OSError as error:
            raise InputError(
                f"{self.folder}: cannot be written ({error.strerror}); choose another --out"
            ) from None
        if self.exists:  # asked after the listing, for another process may claim the folder now
            raise InputError(
                f"{self.folder}: this folder already contains a run; resume it with "
                f"--resume {self.folder}, or choose another --out"
            )
        others = [name for name in found if name != LOCK and not name.endswith(".partial")]
        if others:
            raise InputError(
                f"{self.folder}: this folder is not empty, it holds {others[0]}; "
                "choose another --out"
            )

    @property
    def exists(self) -> bool:
        return (self.folder / "config.json").exists()

    def belongs_to_this_job(self) -> bool:
        """Whether this very job of torchrun began the run, before a process was lost."""
        try:
            return restarted(
                json.loads((self.folder / "config.json").read_text(encoding="utf-8")).get("job")
            )
        except (OSError, ValueError, AttributeError):
            return False

    @property
    def resume_command(self) -> str:
        """The command that goes on with it, or with the chain that it is a stage of."""
        chain = self.folder.parent
        return (
            f"python -m train --resume {chain if (chain / CHAIN_FILE).is_file() else self.folder}"
        )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes out for the length of the block; the system lets go when a process is killed.

        The lock is the process's own: loader processes that outlive it for a moment do not hold it.
        Raises: InputError if another process trains here.
        """
        path = self.folder / LOCK
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise InputError(
                f"{path}: cannot be written ({error.strerror}); make {self.folder} writable"
            ) from None
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            os.close(lock)
            raise InputError(
                f"{self.folder}: another process is training here; wait for its end, or give another --out"
            ) from None
        except OSError as error:
            click.echo(
                f"{path}: this file system has no locks ({error.strerror}); see to it that no other process trains here"
            )
        try:
            yield
        finally:
            os.close(lock)

    def saved_config(self) -> tuple[TrainConfig, dict]:
        """The config and the sources that `create` wrote."""
        path = self.folder / "config.json"
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
            fields = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in held["config"].items()
            }
            return TrainConfig(**fields), _checked_sources(dict(held["sources"]))
        except InputError as error:
            raise InputError(f"{path}: {error.message}") from None
        except OSError:
            raise InputError(
                f"{self.folder}: no run here (config.json is missing); give the folder that `python -m train` named"
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: damaged ({error!r}); start a new run") from None

    def epochs_done(self) -> int:
        """Rows of metrics.csv, which is written after the checkpoint of the same epoch.

        Raises: InputError if the table cannot be read.
        """
        if not os.path.lexists(self.metrics):
            return 0
        if not self.metrics.is_file():
            raise InputError(f"{self.metrics}: is not a regular file; remove it")
        try:
            with open(self.metrics, newline="", encoding="utf-8") as file:
                return sum(1 for _ in csv.DictReader(file))
        except (OSError, ValueError, csv.Error) as error:
            raise InputError(
                f"{self.metrics}: cannot be read ({error}); remove it, --resume writes it again"
            ) from None

    def cut_off(self) -> bool:
        """Whether epochs of its own plan are missing."""
        try:
            return self.exists and self.epochs_done() < self.saved_config()[0].epochs
        except InputError:  # of another version, or damaged
            return True

    def start_from(self, state: State) -> None:
        """Have the tables tell what `state` knows, and no leftovers of a process that was killed."""
        for partial in self.folder.glob(".*.partial"):
            partial.unlink(missing_ok=True)
        write_text(self.metrics, _csv(COLUMNS, state.rows))
        kept = []
        if state.step and self.steps.exists():
            with open(self.steps, newline="", encoding="utf-8", errors="replace") as file:
                kept = [
                    row
                    for row in csv.DictReader(file)
                    if _whole(row) and int(row["step"]) <= state.step
                ]
        write_text(self.steps, _csv(STEP_COLUMNS, kept))

    def add_epoch(self, row: dict) -> None:
        """Append to metrics.csv."""
        self._append(self.metrics, COLUMNS, row)

    def add_step(self, row: dict) -> None:
        """Append to steps.csv."""
        self._append(self.steps, STEP_COLUMNS, row)

    def _append(self, path: Path, columns: tuple[str, ...], row: dict) -> None:
        try:
            with open(path, "a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, columns).writerow(row)
        except OSError as error:
            raise InputError(
                f"{path}: writing failed ({error.strerror}). Make room and go on with: {self.resume_command}"
            ) from None

    def save_last(self, net: VGG, training: dict) -> None:
        self._save(self.last, Checkpoint(net.spec, net.state_dict(), training))

    def save_best(self, net: VGG) -> None:
        self._save(self.best, Checkpoint(net.spec, net.state_dict()))

    def _save(self, path: Path, checkpoint: Checkpoint) -> None:
        try:
            save_checkpoint(path, checkpoint)
        except InputError as error:
            raise InputError(
                f"{error.message}. Make room and go on with: {self.resume_command}"
            ) from None

    def load_last(self) -> tuple[Checkpoint, State]:
        """The checkpoint to go on from, its `training` without what is in the state.

        Raises: InputError for a file without training state.
        """
        checkpoint = load_checkpoint(self.last)
        try:
            kept = _kept(checkpoint.training)
            state = State(**{name: checkpoint.training[name] for name in kept})
        except (KeyError, TypeError) as error:
            raise InputError(
                f"{self.last}: has no training state ({error}) for this version; start anew with --weights {self.last}"
            ) from None
        return checkpoint, state


class Keeper(NamedTuple):
    """Where the main process leaves what a run comes to; the other processes have none."""

    run: Run
    every: int  # updates between checkpoints
    board: object | None = None  # train.record.tensorboard.Board


def _checked_sources(sources: dict) -> dict:
    """Raises: TypeError for an entry of config.json that has another type than was written."""
    for name, types in SOURCE_TYPES.items():
        if name in sources and not isinstance(sources[name], types):
            raise TypeError(f"{name} is {sources[name]!r}")
    return sources


def _kept(training: dict) -> list[str]:
    """Fields of State to read from a checkpoint; earlier versions did not write LATER_FIELDS."""
    names = [entry.name for entry in dataclasses.fields(State)]
    return [name for name in names if name in training or name not in LATER_FIELDS]


def _folder_named_by_time(config: TrainConfig) -> Path:
    """A new, empty folder runs/<arch>-S<side>-<time>, or with -2, -3 ... where that is taken."""
    s = "-".join(map(str, sorted(set(config.side))))
    name = f"{config.arch}-S{s}-{datetime.now():%Y%m%d-%H%M%S}"
    for number in count(1):
        folder = RUNS / (name if number == 1 else f"{name}-{number}")
        try:
            _make_folder(folder, exist_ok=False)
            return folder
        except FileExistsError:
            continue


def _make_folder(folder: Path, exist_ok: bool = True) -> None:
    """Raises: FileExistsError if it may not exist but does, InputError if it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=exist_ok)
    except OSError as error:
        if isinstance(error, FileExistsError) and not exist_ok:
            raise
        raise InputError(
            f"{folder}: cannot be written ({error.strerror}); choose another --out"
        ) from None


def _whole(row: dict) -> bool:
    """Whether a row was written to its end: a machine that stops may leave half a line, or zeros."""
    return None not in row.values() and None not in row and row["step"].isdecimal()


def _csv(columns: tuple[str, ...], rows: list[dict]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
