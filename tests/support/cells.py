"""Cells of small nets: measuring into them, and waiting for a process that fills them."""

import time
from pathlib import Path

import numpy as np

from bench.accuracy.measure import Accuracy, measure_accuracy
from bench.accuracy.selection import select_rows
from bench.accuracy.settings import Scoring, Storage
from bench.models.model import ModelOptions, open_models
from vgg_deploy.data.layouts import open_dataset

SECONDS = 120  # to wait for rows
HEADER_BYTES = 128  # of a .npy file

IDENTITY = {
    "runtime": "torch",
    "precision": "fp32",
    "side": 48,
    "views": "dense",
    "mirrored": False,
}


def measure(
    paths,
    data,
    folder,
    protocols="dense",
    sides=(48,),
    flips=False,
    dtype="float32",
    on_error="stop",
) -> Accuracy:
    """Accuracy of nets on a data set, with cells in a folder."""
    models, dataset = open_models(paths, ModelOptions()), open_dataset(data, "val")
    rows = select_rows(models, protocols, sides, flips, ())
    scoring = Scoring(Storage(folder, dtype), batch=5, threads=2, on_error=on_error)
    return measure_accuracy(models, rows, dataset, scoring)


def wait_for_rows(folder: Path, rows: int, processes: int = 1) -> Path:
    """The file of the only cell in a folder, once so many rows are scored.

    Args:
        folder: Of the cells.
        rows: Number of rows; each process must have scored an equal share.
        processes: Of the job.
    """
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        found = list(folder.glob("*.partial.npy"))
        if found and found[0].stat().st_size > HEADER_BYTES:
            finished = np.load(found[0], mmap_mode="r")["crc32"] != 0
            shares = [finished[rank::processes].sum() for rank in range(processes)]
            if min(shares) >= rows / processes:
                return found[0]
        time.sleep(0.01)
    raise AssertionError("no rows appeared")
