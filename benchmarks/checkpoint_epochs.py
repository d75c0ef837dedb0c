"""Measures short epochs of a full-width head, whose checkpoints are 1.1 GB.

    python benchmarks/checkpoint_epochs.py WEIGHTS DATA --other OLD_SOURCES

fc6 to fc8 of WEIGHTS are trained on 200 photos of DATA (train/CLASS/*, val/CLASS/*) with
`--freeze-features`: an update takes a second or so, and every epoch saves. The sources of another
version, in a folder, train the same in turn (A B A B). Features are computed before, and are not
timed. An epoch's time is the difference of two rows of metrics.csv, which includes the saving of
the epoch before; the last epoch's saving shows in `end_s`, from the last row to the end of the
process.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import click
import numpy as np
import pandas as pd
from result_rows import ResultRows
from result_tables import environment_block

from vgg_deploy.machine import available_cores

HERE = Path(__file__).resolve().parents[1]
TABLE = {
    "version": "version", "round": "round", "epochs": "epochs",
    "median s per epoch": "epoch_s:.2f", "longest": "longest_s:.2f",
    "of it updates": "update_s:.2f",
    "end s": "end_s:.2f", "s from first row to the end": "whole_s:.2f",
}  # fmt: skip


def few_photos(data: Path, folder: Path, train: int, val: int) -> None:
    """Link some photos of each class, spread evenly over the classes."""
    for split, wanted in (("train", train), ("val", val)):
        classes = sorted(path for path in (data / split).iterdir() if path.is_dir())
        for number, label in enumerate(classes):
            count = wanted // len(classes) + (number < wanted % len(classes))
            (folder / split / label.name).mkdir(parents=True)
            for photo in islice(sorted(label.iterdir()), count):
                os.symlink(photo.resolve(), folder / split / label.name / photo.name)


def trained(sources: Path, weights: Path, data: Path, out: Path, epochs: int, cache: Path) -> dict:
    """Train in a process with these sources; its times."""
    command = [sys.executable, "-m", "train", "--arch", "D", "--weights", str(weights)]
    command += ["--freeze-features", "--data", str(data), "--epochs", str(epochs), "--batch", "32"]
    command += ["--lr", "0.0001", "--workers", "0", "--out", str(out)]
    env = {**os.environ, "PYTHONPATH": str(sources), "VGG_DEPLOY_CACHE": str(cache)}
    subprocess.run(command, env=env, cwd=sources, check=True, stdout=subprocess.DEVNULL)
    ended = time.time()
    rows = pd.read_csv(out / "metrics.csv")
    between = np.diff(rows.elapsed_s)
    images = rows.step.iloc[0] * 32
    # a row is written when its epoch's checkpoint is, or sooner; its clock is read before that
    first, last = rows.elapsed_s.iloc[0], rows.elapsed_s.iloc[-1]
    started = (out / "config.json").stat().st_mtime
    return {
        "epochs": len(rows),
        "epoch_s": float(np.median(between)),
        "longest_s": float(between.max()),
        "update_s": float((images / rows.images_per_s).median()),
        "end_s": float(ended - started - last),
        "whole_s": float(ended - started - first),
    }


@click.command(context_settings={"show_default": True})
@click.argument("weights", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path))
@click.option("--other", type=click.Path(path_type=Path), help="Sources of another version.")
@click.option("--train", "train_images", default=200, help="Training photos.")
@click.option("--val", "val_images", default=20, help="Validation photos.")
@click.option("--epochs", default=6, help="Of each run.")
@click.option("--rounds", default=2, help="Runs of each version, in turn; 0 for the features.")
@click.option("--work", type=click.Path(path_type=Path), help="Folder that keeps the features.")
@click.option("--out", default="benchmarks/results", type=click.Path(path_type=Path))
def main(
    weights: Path,
    data: Path,
    other: Path | None,
    train_images: int,
    val_images: int,
    epochs: int,
    rounds: int,
    work: Path | None,
    out: Path,
) -> None:
    """Write checkpoint_epochs.csv and .md."""
    versions = {"this": HERE} | ({"other": other.resolve()} if other else {})
    folder = work.resolve() if work else Path(tempfile.mkdtemp())
    photos = folder / "photos"
    if not photos.exists():
        few_photos(data, photos, train_images, val_images)
    weights = weights.resolve()
    for name, sources in versions.items():  # features, and the files in the page cache
        run = folder / f"first-{name}"
        shutil.rmtree(run, ignore_errors=True)
        trained(sources, weights, photos, run, 2, folder / f"cache-{name}")
        shutil.rmtree(run)
    title = f"Short epochs: fc6-fc8 of a full-width D, {train_images} photos, batch 32"
    results = ResultRows(out / "checkpoint_epochs.csv", title, TABLE)
    for number in range(1, rounds + 1):
        for name, sources in versions.items():
            run = folder / f"run-{name}"
            times = trained(sources, weights, photos, run, epochs, folder / f"cache-{name}")
            shutil.rmtree(run)
            results.add({"version": name, "round": number, **times})
            print(results.rows[-1], flush=True)
    results.note("\n" + environment_block(available_cores()))
    print(results.markdown())


if __name__ == "__main__":
    main()
