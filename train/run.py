"""The folder of one run: its checkpoints and its metrics."""

import csv
import dataclasses
import json
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


class Run:
    """Files: last.pt (to go on from), best.pt (lowest validation top-1 error), metrics.csv, config.json."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.last, self.best, self.metrics = folder / "last.pt", folder / "best.pt", folder / "metrics.csv"

    @classmethod
    def create(cls, folder: Path | None, config: TrainConfig, sources: dict) -> "Run":
        """A new folder; by default runs/<arch>-S<side>-<time>.

        Raises: InputError if it holds a run already or cannot be made.
        """
        s = "-".join(map(str, sorted(set(config.side))))
        folder = folder or RUNS / f"{config.arch}-S{s}-{datetime.now():%Y%m%d-%H%M%S}"
        run = cls(folder)
        if run.metrics.exists() or run.last.exists():
            raise InputError(f"{folder}: holds a run already; go on with it by --resume {folder}, or give another --out")
        write_text(folder / "config.json", json.dumps({"config": dataclasses.asdict(config), "sources": sources}, indent=2) + "\n")
        write_text(run.metrics, ",".join(COLUMNS) + "\n")
        return run

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

    def add_row(self, row: dict) -> None:
        """Append one epoch to metrics.csv."""
        with open(self.metrics, "a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, COLUMNS).writerow(row)

    def forget_rows_after(self, epoch: int) -> None:
        """Drop the rows of epochs that a resumed run will do again."""
        with open(self.metrics, newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if int(row["epoch"]) <= epoch]
        text = [",".join(COLUMNS), *(",".join(row[c] for c in COLUMNS) for row in rows)]
        write_text(self.metrics, "\n".join(text) + "\n")

    def save_last(self, net: VGG, training: dict) -> None:
        save_checkpoint(self.last, Checkpoint(net.spec, net.state_dict(), training))

    def save_best(self, net: VGG) -> None:
        save_checkpoint(self.best, Checkpoint(net.spec, net.state_dict()))

    def load_last(self) -> Checkpoint:
        checkpoint = load_checkpoint(self.last)
        if not checkpoint.training:
            raise InputError(f"{self.last}: has no training state; resume from a last.pt, or start anew with --weights {self.last}")
        return checkpoint
