"""Whether what the paper says of learning holds for thin nets on two cores: python benchmarks/learning.py [--data PHOTOS]

1. Jitter: A at one S against A at S in a range, errors at test scales from the least to the largest (section 4.1).
2. Warm start: D from a trained A's layers against D from He's draw alone, the error after each epoch (section 3.1).
3. The printed variance: A and D with weights of variance 0.01 diverge, and are told so early.
Runs are kept in --runs and not repeated; on the built-in pictures, or on photos with --data.
"""

import re
import subprocess
import sys
from pathlib import Path

import click
import pandas as pd

from train.recipe.config import RECIPES

SMALL = RECIPES["small"]
JITTER = "{}:{}".format(*SMALL.side)
FIXED = sum(SMALL.side) // 2  # S in the middle of the range, where both are tested too
SIDES = (96, 128, 176, 208, 256)
LEVELS = (75, 60, 45, 30, 15)  # errors, %


class Study:
    """Runs of `python -m train` in one folder, on one data set."""

    def __init__(self, runs: Path, data: Path | None, epochs: int, threads: int):
        self.runs, self.data, self.epochs, self.threads = runs, data, epochs, threads

    def train(self, name: str, *options: str) -> Path:
        """The run's folder; trained unless it is there with all its epochs."""
        folder = self.runs / name
        if (folder / "metrics.csv").is_file() and len(
            pd.read_csv(folder / "metrics.csv")
        ) == self.epochs:
            return folder
        common = [
            "--width",
            SMALL.width,
            "--crop",
            SMALL.crop,
            "--batch",
            SMALL.batch,
            "--lr",
            SMALL.lr,
            "--dropout",
            SMALL.dropout,
            "--init",
            SMALL.init,
        ]
        common += [
            "--epochs",
            self.epochs,
            "--lr-drops",
            f"{self.epochs - 2},{self.epochs - 1}",
            "--threads",
            self.threads,
            "--workers",
            1,
            "--out",
            folder,
        ]
        common += ["--data", self.data] if self.data else []
        done = subprocess.run(
            [sys.executable, "-m", "train", *map(str, common), *options],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"{name}: {done.stdout}\n{done.stderr}")
        print(
            name,
            "|",
            [line for line in done.stdout.splitlines() if line.startswith("Done")][0],
            flush=True,
        )
        return folder

    def errors(self, runs: dict[str, Path]) -> pd.DataFrame:
        """Top-1 errors at SIDES by vgg-bench. Columns: model, side, top1_error_pct."""
        models = [str(folder / "best.pt") for folder in runs.values()]
        out = self.runs / "bench"
        command = [
            sys.executable,
            "-m",
            "bench",
            *models,
            "--scales",
            ",".join(map(str, SIDES)),
            "--measure",
            "accuracy",
            "--no-flips",
        ]
        command += [
            "--threads",
            str(self.threads),
            "--cells",
            str(self.runs / "cells"),
            "--out",
            str(out),
        ]
        command += ["--data", str(self.data)] if self.data else ["--images", "300"]
        done = subprocess.run(command, capture_output=True, text=True)
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


def jitter(study: Study, seeds: range, out: Path) -> str:
    """A at S=176 and at S in [96;256], tested at every Q."""
    runs = {f"{kind}-{seed}": study.train(f"A-{kind}-{seed}", "--arch", "A", "--seed", str(seed), "--side", side)
            for seed in seeds for kind, side in (("fixed", str(FIXED)), ("jitter", JITTER))}  # fmt: skip
    table = study.errors(runs)
    table[["kind", "seed"]] = table.model.str.split("-", expand=True)
    table.to_csv(out / "jitter.csv", index=False)
    found = table.groupby(["kind", "side"]).top1_error_pct.agg(["mean", "min", "max"]).unstack(0)
    rows = [f"| {q} | {_range(found, 'fixed', q)} | {_range(found, 'jitter', q)} |" for q in SIDES]
    means = table.groupby("kind").top1_error_pct.mean()
    return "\n".join([f"| Q | A, S={FIXED} | A, {SMALL.s} |", "| --- | --- | --- |", *rows,
                      f"| mean | {means['fixed']:.1f} | {means['jitter']:.1f} |"])  # fmt: skip


def _range(found: pd.DataFrame, kind: str, q: int) -> str:
    mean, low, high = (found[statistic, kind][q] for statistic in ("mean", "min", "max"))
    return f"{mean:.1f} ({low:.1f}-{high:.1f})"


def warm_start(study: Study, seeds: range, out: Path) -> str:
    """D from the jittered A of the same seed, and D from the draw alone: He's Gaussian, for with one of 0.01 neither leaves the start in so few updates."""
    from train.record.curves import compare_curves

    kinds = {"D from a trained A": [], "D, drawn": []}
    for seed in seeds:
        net_a = (
            study.train(f"A-jitter-{seed}", "--arch", "A", "--seed", str(seed), "--side", JITTER)
            / "best.pt"
        )
        common = ("--arch", "D", "--seed", str(seed), "--side", JITTER)
        kinds["D from a trained A"].append(
            study.train(f"D-warm-{seed}", *common, "--net-a", str(net_a))
        )
        kinds["D, drawn"].append(study.train(f"D-drawn-{seed}", *common))
    compare_curves(kinds, out / "warm_start.png", "epoch")
    tables = {
        kind: pd.concat(
            [
                pd.read_csv(f / "metrics.csv").assign(seed=s)
                for s, f in zip(seeds, folders, strict=True)
            ]
        )
        for kind, folders in kinds.items()
    }
    pd.concat([t.assign(start=k) for k, t in tables.items()])[
        ["start", "seed", "epoch", "train_loss", "val_top1_error_pct"]
    ].to_csv(out / "warm_start.csv", index=False)
    lines = ["| after epoch | " + " | ".join(tables) + " |", "| --- " * (1 + len(tables)) + "|"]
    for epoch in range(1, study.epochs + 1):
        found = [t[t.epoch == epoch].val_top1_error_pct for t in tables.values()]
        lines.append(
            f"| {epoch} | "
            + " | ".join(f"{e.mean():.1f} ({e.min():.1f}-{e.max():.1f})" for e in found)
            + " |"
        )
    lines += [
        "",
        "| first epoch with an error of at most % | " + " | ".join(tables) + " |",
        "| --- " * (1 + len(tables)) + "|",
    ]
    for level in LEVELS:
        lines.append(
            f"| {level} | "
            + " | ".join(
                ", ".join(first_at_most(own, level) for _, own in t.groupby("seed"))
                for t in tables.values()
            )
            + " |"
        )
    return "\n".join(lines)


def first_at_most(run: pd.DataFrame, level: float) -> str:
    """The epoch of metrics.csv, or a dash where it is never reached."""
    reached = run[run.val_top1_error_pct <= level].epoch
    return str(reached.min()) if len(reached) else "-"


def printed_variance(study: Study) -> str:
    """What `--init paper-var` says of nets A and D."""
    lines = []
    for arch in ("A", "D"):
        command = [
            sys.executable,
            "-m",
            "train",
            "--arch",
            arch,
            "--init",
            "paper-var",
            "--width",
            str(SMALL.width),
            "--crop",
            str(SMALL.crop),
        ]
        command += [
            "--lr",
            "0.01",
            "--epochs",
            "1",
            "--batch",
            "32",
            "--side",
            str(SMALL.crop),
            "--out",
            str(study.runs / f"{arch}-paper-var"),
        ]
        command += ["--data", str(study.data)] if study.data else []
        done = subprocess.run(command, capture_output=True, text=True)
        said = re.findall(
            r"(?:Warning: the first|Error: the) loss is [^;(]*",
            " ".join((done.stdout + done.stderr).split()),
        )
        lines.append(f"- {arch}, exit code {done.returncode}: {'; '.join(said)}")
    return "\n".join(lines)


@click.command(context_settings={"show_default": True})
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder with train/<class>/* and val/<class>/*; without it built-in pictures.",
)
@click.option("--runs", default="runs/learning", type=click.Path(path_type=Path))
@click.option("--seeds", default=3)
@click.option("--warm-seeds", default=2, help="Of the nets D, which take longer.")
@click.option("--epochs", default=SMALL.epochs)
@click.option("--threads", default=2)
@click.option("--out", default="benchmarks/results/learning", type=click.Path(path_type=Path))
def main(data, runs, seeds, warm_seeds, epochs, threads, out):
    study = Study(runs, data, epochs, threads)
    out.mkdir(parents=True, exist_ok=True)
    parts = {
        "Jitter: top-1 errors in % at test scale Q, mean and range over seeds": jitter(
            study, range(seeds), out
        ),
        f"Warm start, {warm_seeds} seeds: validation top-1 error in %, mean and range over seeds": warm_start(
            study, range(warm_seeds), out
        ),
        "The printed variance of 0.01 at LR 0.01": printed_variance(study),
    }
    text = "\n\n".join(f"## {title}\n\n{table}" for title, table in parts.items())
    what = "photos" if data else "the built-in pictures"
    recipe = f"Width {SMALL.width:g}, crop {SMALL.crop}, batch {SMALL.batch}, LR {SMALL.lr:g}, {epochs} epochs, {seeds} seeds."
    (out / "README.md").write_text(f"# Thin nets learning {what}\n\n{recipe}\n\n{text}\n")
    print((out / "README.md").read_text())


if __name__ == "__main__":
    main()
