"""Damaged files of runs: other runs are not disturbed by them, a resumed run is refused."""

import json
import os
import shutil

import pytest
import torch

from tests.support.options import options
from tests.support.run import run
from train.__main__ import main as train
from vgg_deploy.net.checkpoint import load_untrusted
from vgg_deploy.sealed_json import sealed

SMALL = options("--width 0.0625 --crop 32 --side 32 --batch 16 --epochs 1")
ONE_THREAD = options("--workers 0 --threads 1")
SHARED = [*SMALL, *ONE_THREAD, "--lr", "0.001"]


def flip(path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


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


@pytest.mark.slow
def test_damaged_runs_are_passed_over_for_a_sound_one(here, photos):
    sound = here / "runs" / "sound"
    run(train, "--arch", "A", "--data", photos, *SHARED, "--init", "he", "--out", sound)
    os.utime(sound / "best.pt", (1, 1))  # the oldest
    for name, damage in DAMAGES.items():
        shutil.copytree(sound, here / "runs" / name)
        damage(here / "runs" / name)
        os.utime(here / "runs" / name / "best.pt")
    output = run(train, "--arch", "B", "--data", photos, *SHARED, "--out", here / "runs" / "b")
    assert f"fc6, fc7, fc8 from {os.path.join('runs', 'sound', 'best.pt')}" in output or (
        f"fc6, fc7, fc8 from {sound / 'best.pt'}" in output
    )
    assert output.count("Not considered as a trained A: ") == 1
    assert output.count("Passed over: ") == 3


def test_two_starts_at_once_are_refused(here, photos):
    sound = here / "a"
    run(train, "--arch", "A", "--data", photos, *SHARED, "--init", "he", "--out", sound)
    both = ["--weights", sound / "best.pt", "--net-a", sound / "best.pt"]
    output = run(
        train, "--arch", "B", "--data", photos, *SHARED, *both, "--out", here / "b", code=2
    )
    assert "--weights" in output and "--net-a" in output and not (here / "b").exists()


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
@pytest.mark.slow
def test_a_recipe_of_another_run_is_refused(here, photos, group, changed, words):
    folder = here / "run"
    run(train, "--arch", "A", "--data", photos, *SHARED, "--init", "he", "--out", folder)
    path = folder / "config.json"
    content = json.loads(path.read_text())
    content["config"]["epochs"] = 2
    content[group].update(changed)
    path.write_text(json.dumps(sealed(content)))
    before = (folder / "last.pt").read_bytes()
    output = run(train, "--resume", folder, *ONE_THREAD, code=2)
    assert words in output and "config.json" in output
    assert (folder / "last.pt").read_bytes() == before


@pytest.mark.slow
def test_an_earlier_version_named_the_built_in_images_otherwise(here):
    chain = here / "chain"
    thin = options("--width 0.0625 --crop 32 --batch 16 --epochs 1 --images 32")
    one = options(f"--arch A --chain paper --out {chain}")
    run(train, *one, *thin, *ONE_THREAD, "--lr", "0.001")
    for path in (chain / "chain.json", chain / "A-256" / "config.json"):
        text = path.read_text()
        assert text.count('"data": "the built-in images"') == 1
        content = json.loads(text.replace("built-in images", "built-in pictures"))
        del content["content_sha256"]  # which it did not write either
        path.write_text(json.dumps(content, indent=2))
    assert "The chain's nets are in" in run(train, "--resume", chain, *ONE_THREAD)
    assert "Done" in run(train, "--resume", chain / "A-256", *ONE_THREAD)
    assert '"data": "the built-in images"' in (chain / "A-256" / "config.json").read_text()


@pytest.mark.filterwarnings("error")
def test_sparse_weights_load_without_warnings_of_pytorch(tmp_path):
    torch.save({"w": torch.eye(3).to_sparse()}, tmp_path / "sparse.pt")
    assert load_untrusted(tmp_path / "sparse.pt")["w"].layout == torch.sparse_coo
