"""The three commands without what only Linux has, and with every way to start processes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
ELSEWHERE = ROOT / "tests" / "support" / "elsewhere"
# what Windows lacks, and macOS some of
MISSING = (
    "fcntl,grp,pwd,resource,matplotlib,"
    "os.fork,os.getpgid,os.killpg,os.sched_getaffinity,os.sysconf,os.posix_fallocate"
)
TINY = ["--width", "0.0625", "--crop", "32", "--side", "32:64", "--batch", "16", "--epochs", "1"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two classes, 16 training and 8 validation images each."""
    root, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 8)):
        for label in ("a", "b"):
            folder = root / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (48, 64, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


def demo(folder: Path, data: Path, missing: str, start: str) -> pd.DataFrame:
    """Train, export and measure in a folder of its own; the rows of the accuracy table."""
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(ELSEWHERE), str(ROOT))),
        "ELSEWHERE": missing,
        "VGG_DEPLOY_START_METHOD": start,
        "VGG_DEPLOY_CACHE": str(folder / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    commands = (
        ["train", "--arch", "A", *TINY, "--data", data, "--workers", "2", "--threads", "2"],
        ["export", "--onnx", "--threads", "2"],
        ["bench", "--scales", "64", "--data", data, "--measure", "accuracy", "--threads", "2"],
    )
    for module, *options in commands:
        done = subprocess.run(
            [sys.executable, "-m", module, *map(str, options)],
            cwd=folder, env=env, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, f"{module}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return pd.read_csv(folder / "results" / "accuracy.csv").drop(columns="ms_per_image")


@pytest.mark.nightly
@pytest.mark.slow
def test_every_platform_gives_the_same_numbers(tmp_path, data):
    """Oracle: the run on this platform as it is."""
    ways = {"here": ("", "fork"), "elsewhere": (MISSING, "spawn"), "forkserver": ("", "forkserver")}
    rows = {}
    for name, (missing, start) in ways.items():
        folder = tmp_path / name
        folder.mkdir()
        rows[name] = demo(folder, data, missing, start)
    pd.testing.assert_frame_equal(rows["elsewhere"], rows["here"])
    pd.testing.assert_frame_equal(rows["forkserver"], rows["here"])
