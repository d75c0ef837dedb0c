"""Damaged files of runs: other runs are not disturbed by them, a resumed run is refused."""

import json
import os
import shutil

import pytest
import torch

from tests.support.run import run
from train.__main__ import main as train
from vgg_deploy.net.checkpoint import load_untrusted

SMALL = ["--width", "0.0625", "--crop", "32", "--side", "32", "--batch", "16", "--epochs", "1"]
ONE_THREAD = ["--workers", "0", "--threads", "1"]
SHARED = [*SMALL, *ONE_THREAD, "--lr", "0.001"]


def flip(path) -> None:
    """Change one bit in the middle of a file."""
    held = bytearray(path.read_bytes())
    held[len(held) // 2] ^= 1
    path.write_bytes(held)


def replaced(path, make) -> None:
    """Put something else where a file was."""
    path.unlink()
    make(path)


DAMAGES = {
    "a bit of best.pt": lambda folder: flip(folder / "best.pt"),
    "binary metrics.csv": lambda folder: (folder / "metrics.csv").write_bytes(b"\xff\xfe\0" * 9),
    "a folder": lambda folder: replaced(folder / "metrics.csv", os.mkdir),
    "a named pipe": lambda folder: replaced(folder / "metrics.csv", os.mkfifo),
}


def test_damaged_runs_are_passed_over_for_a_sound_one(here, photos):
    sound = here / "runs" / "sound"
    run(train, "--arch", "A", "--data", photos, *SHARED, "--init", "he", "--out", sound)
    os.utime(sound / "best.pt", (1, 1))  # the oldest
    for name, damage in DAMAGES.items():
        shutil.copytree(sound, here / "runs" / name)
        damage(here / "runs" / name)
        os.utime(here / "runs" / name / "best.pt")
    said = run(train, "--arch", "B", "--data", photos, *SHARED, "--out", here / "runs" / "b")
    assert f"fc6, fc7, fc8 from {os.path.join('runs', 'sound', 'best.pt')}" in said or (
        f"fc6, fc7, fc8 from {sound / 'best.pt'}" in said
    )
    assert said.count("Not considered as a trained A: ") == 1
    assert said.count("Passed over: ") == 3


def test_two_starts_at_once_are_refused(here, photos):
    sound = here / "a"
    run(train, "--arch", "A", "--data", photos, *SHARED, "--init", "he", "--out", sound)
    both = ["--weights", sound / "best.pt", "--net-a", sound / "best.pt"]
    said = run(train, "--arch", "B", "--data", photos, *SHARED, *both, "--out", here / "b", code=2)
    assert "--weights" in said and "--net-a" in said and not (here / "b").exists()


@pytest.mark.parametrize(
    ("group", "changed", "words"),
    [
        ("config", {"arch": "B"}, "arch A"),
        ("config", {"width": 0.125}, "width 0.0625"),
        ("config", {"crop": 64, "side": [64, 64]}, "crop 32"),
        ("config", {"side": [32, 64]}, "train_side"),
        ("sources", {"images": "x"}, "images is 'x'"),
        ("sources", {"data": None}, "data is None"),
        ("sources", {"freeze": 2}, "freeze is 2"),
    ],
)
def test_a_recipe_of_another_run_is_refused(here, photos, group, changed, words):
    folder = here / "run"
    run(train, "--arch", "A", "--data", photos, *SHARED, "--init", "he", "--out", folder)
    path = folder / "config.json"
    held = json.loads(path.read_text())
    held["config"]["epochs"] = 2
    held[group].update(changed)
    path.write_text(json.dumps(held))
    before = (folder / "last.pt").read_bytes()
    said = run(train, "--resume", folder, *ONE_THREAD, code=2)
    assert words in said and "config.json" in said
    assert (folder / "last.pt").read_bytes() == before


@pytest.mark.filterwarnings("error")
def test_sparse_weights_load_without_warnings_of_pytorch(tmp_path):
    torch.save({"w": torch.eye(3).to_sparse()}, tmp_path / "sparse.pt")
    assert load_untrusted(tmp_path / "sparse.pt")["w"].layout == torch.sparse_coo
