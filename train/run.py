"""The folder of one run: its checkpoints and its metrics."""

import csv
import dataclasses
import io
import json
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from train.config import TrainConfig
from vgg_deploy.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from vgg_deploy.errors import InputError
from vgg_deploy.files import write_text
from vgg_deploy.model import VGG
from vgg_deploy.places import RUNS

COLUMNS = (
    "epoch", "step", "lr", "train_loss", "train_top1_error_pct", "train_top5_error_pct",
    "val_top1_error_pct", "val_top5_error_pct", "images_per_s", "elapsed_s",
)  # fmt: skip
STEP_COLUMNS = ("step", "epoch", "lr", "train_loss", "train_top1_error_pct", "images_per_s")


@dataclass
class State:
    """How far a run has come; everything here goes into last.pt.

    No generator's state is among it: order, views and dropout are drawn from the seed, the epoch, the image and the step.
    """

    step: int = 0
    errors: list[float] = field(default_factory=list)  # validation top-1 error after each epoch, per cent
    rows: list[dict] = field(default_factory=list)  # of metrics.csv
    tally: list[float] = field(default_factory=lambda: [0.0] * 4)  # of the epoch that is running: loss, top-1 and top-5 errors, images
    epoch_s: float = 0.0  # spent on its updates
    elapsed_s: float = 0.0


class Run:
    """Files: last.pt (to go on from), best.pt (lowest validation top-1 error), metrics.csv (epochs), steps.csv, config.json."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.last, self.best, self.metrics, self.steps = (folder / name for name in ("last.pt", "best.pt", "metrics.csv", "steps.csv"))

    @classmethod
    def create(cls, folder: Path | None, config: TrainConfig, sources: dict) -> "Run":
        """A new folder; by default runs/<arch>-S<side>-<time>.

        Raises: InputError if it holds a run already or cannot be made.
        """
        s = "-".join(map(str, sorted(set(config.side))))
        folder = folder or RUNS / f"{config.arch}-S{s}-{datetime.now():%Y%m%d-%H%M%S}"
        run = cls(folder)
        if run.exists:
            raise InputError(f"{folder}: holds a run already; go on with it by --resume {folder}, or give another --out")
        write_text(folder / "config.json", json.dumps({"config": dataclasses.asdict(config), "sources": sources}, indent=2) + "\n")
        return run

    @property
    def exists(self) -> bool:
        return (self.folder / "config.json").exists()

    def begun_with(self) -> tuple[TrainConfig, dict]:
        """The config and the sources that `create` wrote."""
        path = self.folder / "config.json"
        try:
            held = json.loads(path.read_text(encoding="utf-8"))
            fields = {name: tuple(value) if isinstance(value, list) else value for name, value in held["config"].items()}
            return TrainConfig(**fields), dict(held["sources"])
        except OSError:
            raise InputError(f"{self.folder}: no run here (config.json is missing); give the folder that `python -m train` named") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: damaged ({error!r}); start a new run") from None

    def epochs_done(self) -> int:
        """Rows of metrics.csv, which is written after the checkpoint of the same epoch."""
        if not self.metrics.exists():
            return 0
        with open(self.metrics, newline="", encoding="utf-8") as file:
            return sum(1 for _ in csv.DictReader(file))

    def begin_from(self, state: State) -> None:
        """Have the tables tell what `state` knows, and no leftovers of a process that was killed."""
        for partial in self.folder.glob(".*.partial"):
            partial.unlink(missing_ok=True)
        write_text(self.metrics, _csv(COLUMNS, state.rows))
        kept = []
        if state.step and self.steps.exists():
            with open(self.steps, newline="", encoding="utf-8") as file:
                kept = [row for row in csv.DictReader(file) if None not in row.values() and int(row["step"]) <= state.step]
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
            raise InputError(f"{path}: writing failed ({error.strerror}); make room and go on with --resume {self.folder}") from None

    def save_last(self, net: VGG, training: dict) -> None:
        save_checkpoint(self.last, Checkpoint(net.spec, net.state_dict(), training))

    def save_best(self, net: VGG) -> None:
        save_checkpoint(self.best, Checkpoint(net.spec, net.state_dict()))

    def load_last(self) -> tuple[Checkpoint, State]:
        """The checkpoint to go on from, its `training` without what is in the state.

        Raises: InputError for a file without training state.
        """
        checkpoint = load_checkpoint(self.last)
        try:
            state = State(**{entry.name: checkpoint.training[entry.name] for entry in dataclasses.fields(State)})
        except KeyError as error:
            raise InputError(f"{self.last}: has no training state ({error}) for this version; start anew with --weights {self.last}") from None
        return checkpoint, state


def _csv(columns: tuple[str, ...], rows: list[dict]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
