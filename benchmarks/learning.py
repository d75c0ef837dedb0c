"""Checks on thin nets what the paper says about learning: python benchmarks/learning.py.

1. Jitter: A at one S against A at S in a range; errors at test scales from the least to the largest
   (section 4.1).
2. Warm start: D from a trained A's layers against D from He's draw alone; the error after each
   epoch (section 3.1).
3. The printed variance: A and D with weights of variance 0.01 diverge, and warn early.

Two cores suffice. Runs are kept in --runs and not repeated. They use the built-in images, or photos
with --data.
"""

import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import click
import pandas as pd

from train.recipe.config import RECIPES
from train.record.curves import compare_curves

SMALL = RECIPES["small"]
JITTER = "{}:{}".format(*SMALL.side)
FIXED = sum(SMALL.side) // 2  # S in the middle of the range, where both are tested too
SIDES = (96, 128, 176, 208, 256)
LEVELS = (75, 60, 45, 30, 15)  # errors, %
FIRST_LOSSES = re.compile(r"(?:Warning: the first|Error: the) loss is [^;(]*")


@dataclass(frozen=True)
class Study:
    """Runs of `python -m train` in one folder, on one data set.

    Attributes:
        runs: The folder.
        data: Of photos; None for the built-in images.
        epochs: Of each run.
        threads: Of each command.
    """

    runs: Path
    data: Path | None
    epochs: int
    threads: int

    def train(self, name: str, *options: str) -> Path:
        """Train a net, unless its run exists with all its epochs.

        Args:
            name: Of the run.
            options: Of `python -m train`, beside those of the small recipe.

        Returns:
            The run's folder.
        """
        folder = self.runs / name
        metrics = folder / "metrics.csv"
        if metrics.is_file() and len(pd.read_csv(metrics)) == self.epochs:
            return folder
        recipe = {
            "--width": SMALL.width,
            "--crop": SMALL.crop,
            "--batch": SMALL.batch,
            "--lr": SMALL.lr,
            "--dropout": SMALL.dropout,
            "--init": SMALL.init,
            "--epochs": self.epochs,
            "--lr-drops": f"{self.epochs - 2},{self.epochs - 1}",
            "--threads": self.threads,
            "--workers": 1,
            "--out": folder,
        }
        done = python("train", *as_options(recipe), *self.data_options(), *options)
        if done.returncode:
            raise SystemExit(f"{name}: {done.stdout}\n{done.stderr}")
        summary = next(line for line in done.stdout.splitlines() if line.startswith("Done"))
        print(name, "|", summary, flush=True)
        return folder

    def errors(self, runs: Mapping[str, Path]) -> pd.DataFrame:
        """Measure top-1 errors at SIDES with vgg-bench.

        Args:
            runs: Folders by the names for the table.

        Returns:
            Columns model, side and top1_error_pct.
        """
        models = [str(folder / "best.pt") for folder in runs.values()]
        out = self.runs / "bench"
        options = {
            "--scales": ",".join(map(str, SIDES)),
            "--measure": "accuracy",
            "--threads": self.threads,
            "--cells": self.runs / "cells",
            "--out": out,
        }
        images = self.data_options() or ["--images", "300"]
        done = python("bench", *models, "--no-flips", *as_options(options), *images)
        if done.returncode:
            raise SystemExit(done.stdout + done.stderr)
        table = pd.read_csv(out / "accuracy.csv", dtype={"scales": str})
        names = dict(zip(models, runs, strict=True))
        single = table[table.scales.isin(map(str, SIDES))]
        return pd.DataFrame(
            {
                "model": single.model.map(names),
                "side": single.scales.astype(int),
                "top1_error_pct": single.top1_error_pct,
            }
        )

    def data_options(self) -> list[str]:
        """The options that choose the photos."""
        return ["--data", str(self.data)] if self.data else []


def python(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of this project to its end."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, capture_output=True, text=True)


def as_options(values: Mapping[str, object]) -> list[str]:
    """Options with their values, as a command line has them."""
    return [str(part) for option in values.items() for part in option]


def jitter(study: Study, seeds: range, out: Path) -> str:
    """Test A at S=176 and A at S in [96;256] at every Q.

    Args:
        study: Where the runs are.
        seeds: One pair of nets per seed.
        out: Folder for jitter.csv.

    Returns:
        A Markdown table.
    """
    runs = {}
    for seed in seeds:
        for kind, side in (("fixed", str(FIXED)), ("jitter", JITTER)):
            options = ("--arch", "A", "--seed", str(seed), "--side", side)
            runs[f"{kind}-{seed}"] = study.train(f"A-{kind}-{seed}", *options)
    table = study.errors(runs)
    table[["kind", "seed"]] = table.model.str.split("-", expand=True)
    table.to_csv(out / "jitter.csv", index=False)
    errors = table.set_index(["kind", "side"]).top1_error_pct
    rows = [
        [str(q), mean_and_range(errors["fixed", q]), mean_and_range(errors["jitter", q])]
        for q in SIDES
    ]
    means = table.groupby("kind").top1_error_pct.mean()
    rows.append(["mean", f"{means['fixed']:.1f}", f"{means['jitter']:.1f}"])
    return markdown_rows(["Q", f"A, S={FIXED}", f"A, {SMALL.s}"], rows)


def warm_start(study: Study, seeds: range, out: Path) -> str:
    """Compare D from the jittered A of the same seed with D from the draw alone.

    The draw is He's Gaussian: with one of 0.01, neither leaves the start in so few updates.

    Args:
        study: Where the runs are.
        seeds: One pair of nets per seed.
        out: Folder for warm_start.csv and warm_start.png.

    Returns:
        Two Markdown tables.
    """
    runs: dict[str, list[Path]] = {"D from a trained A": [], "D, drawn": []}
    for seed in seeds:
        common = ("--seed", str(seed), "--side", JITTER)
        net_a = study.train(f"A-jitter-{seed}", "--arch", "A", *common) / "best.pt"
        warm = study.train(f"D-warm-{seed}", "--arch", "D", *common, "--net-a", str(net_a))
        runs["D from a trained A"].append(warm)
        runs["D, drawn"].append(study.train(f"D-drawn-{seed}", "--arch", "D", *common))
    compare_curves(runs, out / "warm_start.png", "epoch")
    metrics = {kind: metrics_of(folders, seeds) for kind, folders in runs.items()}
    columns = ["start", "seed", "epoch", "train_loss", "val_top1_error_pct"]
    together = pd.concat([table.assign(start=kind) for kind, table in metrics.items()])
    together[columns].to_csv(out / "warm_start.csv", index=False)
    by_epoch = [
        [str(epoch), *(mean_and_range(errors_after(table, epoch)) for table in metrics.values())]
        for epoch in range(1, study.epochs + 1)
    ]
    by_level = [
        [str(level), *(first_epochs(table, level) for table in metrics.values())]
        for level in LEVELS
    ]
    first = markdown_rows(["after epoch", *metrics], by_epoch)
    second = markdown_rows(["first epoch with an error of at most %", *metrics], by_level)
    return f"{first}\n\n{second}"


def metrics_of(folders: Iterable[Path], seeds: range) -> pd.DataFrame:
    """The metrics.csv of several runs, with a column for the seed."""
    return pd.concat(
        [
            pd.read_csv(folder / "metrics.csv").assign(seed=seed)
            for seed, folder in zip(seeds, folders, strict=True)
        ]
    )


def errors_after(metrics: pd.DataFrame, epoch: int) -> pd.Series:
    """Validation top-1 errors of all seeds after an epoch."""
    return metrics[metrics.epoch == epoch].val_top1_error_pct


def mean_and_range(errors: pd.Series) -> str:
    """Errors over seeds, such as "1.2 (0.3-2.0)"."""
    return f"{errors.mean():.1f} ({errors.min():.1f}-{errors.max():.1f})"


def first_epochs(metrics: pd.DataFrame, level: float) -> str:
    """The first epoch of each seed with an error of at most `level`."""
    return ", ".join(first_at_most(run, level) for _, run in metrics.groupby("seed"))


def first_at_most(run: pd.DataFrame, level: float) -> str:
    """The epoch of metrics.csv, or a dash if the error never falls to `level`."""
    reached = run[run.val_top1_error_pct <= level].epoch
    return str(reached.min()) if len(reached) else "-"


def printed_variance(study: Study) -> str:
    """List what `--init paper-var` prints for nets A and D."""
    lines = []
    for arch in ("A", "D"):
        recipe = {
            "--arch": arch,
            "--init": "paper-var",
            "--width": SMALL.width,
            "--crop": SMALL.crop,
            "--lr": 0.01,
            "--epochs": 1,
            "--batch": 32,
            "--side": SMALL.crop,
            "--out": study.runs / f"{arch}-paper-var",
        }
        done = python("train", *as_options(recipe), *study.data_options())
        printed = " ".join((done.stdout + done.stderr).split())
        losses = "; ".join(FIRST_LOSSES.findall(printed))
        lines.append(f"- {arch}, exit code {done.returncode}: {losses}")
    return "\n".join(lines)


def markdown_rows(heads: list[str], rows: list[list[str]]) -> str:
    """A Markdown table of texts."""
    lines = ["| " + " | ".join(cells) + " |" for cells in (heads, *rows)]
    lines.insert(1, "| --- " * len(heads) + "|")
    return "\n".join(lines)


@click.command(context_settings={"show_default": True})
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder with train/<class>/* and val/<class>/*; without it built-in images.",
)
@click.option("--runs", default="runs/learning", type=click.Path(path_type=Path))
@click.option("--seeds", default=3)
@click.option("--warm-seeds", default=2, help="Of the nets D, which take longer.")
@click.option("--epochs", default=SMALL.epochs)
@click.option("--threads", default=2)
@click.option("--out", default="benchmarks/results/learning", type=click.Path(path_type=Path))
def main(
    data: Path | None,
    runs: Path,
    seeds: int,
    warm_seeds: int,
    epochs: int,
    threads: int,
    out: Path,
) -> None:
    """Write README.md, jitter.csv, warm_start.csv and warm_start.png."""
    study = Study(runs, data, epochs, threads)
    out.mkdir(parents=True, exist_ok=True)
    over_seeds = "mean and range over seeds"
    parts = {
        f"Jitter: top-1 errors in % at test scale Q, {over_seeds}": jitter(
            study, range(seeds), out
        ),
        f"Warm start, {warm_seeds} seeds: validation top-1 error in %, {over_seeds}": warm_start(
            study, range(warm_seeds), out
        ),
        "The printed variance of 0.01 at LR 0.01": printed_variance(study),
    }
    text = "\n\n".join(f"## {title}\n\n{table}" for title, table in parts.items())
    images = "photos" if data else "the built-in images"
    recipe = (
        f"Width {SMALL.width:g}, crop {SMALL.crop}, batch {SMALL.batch}, LR {SMALL.lr:g}, "
        f"{epochs} epochs, {seeds} seeds."
    )
    page = f"# Thin nets learning {images}\n\n{recipe}\n\n{text}\n"
    (out / "README.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main()
