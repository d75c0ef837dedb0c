"""Data, classes and models with hostile names: all that commands show and write stays tame."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

from tests.support.nets import photo_of, save_net, thin_net
from vgg_deploy.features.folder import open_features

START = "from {}.cli import main; main(prog_name='x')"
ROOT = Path(__file__).parent.parent
FORGED = "zz\n::error::pwned\nGate: all 9 checks passed"
TITLE = "\x1b]0;title\x07\x1b[31m"
CLASSES = (
    "=1+1",
    "@sum",
    "-[red]x[/y]",
    TITLE,
    FORGED,
    "caf\x85\u2028",
    "<img src=x onerror=1>",
    "x](http:##[error]",
)
PHOTOS = ("[bold]x[/y]", "=cmd", FORGED, TITLE, os.fsdecode(b"l\xe9"), "::error::", "</script>")
NAMED = "+1\n::error::[/y]\x1b[0m\x01"  # of a model


def command(module: str, *words: object, folder: Path, code: int = 0) -> tuple[bytes, bytes]:
    """Run a command in a process of its own; returns what it wrote on its two streams."""
    done = subprocess.run(
        [sys.executable, "-c", START.format(module), *map(os.fspath, words)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=300,
    )
    assert done.returncode == code, done.stderr.decode(errors="replace")
    return done.stdout, done.stderr


def assert_tame(text: bytes, where: str) -> None:
    """No control character, broken Unicode, forged line or workflow command."""
    shown = text.decode("utf-8")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]", shown), where
    assert not re.search(r"(?m)^\s*(::|Gate: all 9)", shown), where
    assert "##[error]" not in shown and "Traceback" not in shown, where


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A folder with data, two models and an unreadable image, all with hostile names."""
    import numpy as np

    folder = tmp_path_factory.mktemp("hostile")
    rng = np.random.default_rng(0)
    names = [name.replace("/", "") for name in CLASSES]
    for i, name in enumerate(names):
        for split in ("train", "val"):
            (folder / "data" / split / name).mkdir(parents=True)
            for photo in PHOTOS if i == 0 else PHOTOS[:1]:
                file = folder / "data" / split / name / (photo.replace("/", "") + ".png")
                photo_of("disc", rng).save(file, "PNG")
    (folder / "data" / "val" / names[0] / f"{FORGED}.jpg").write_bytes(b"no image")
    classes = tuple(sorted(names))
    save_net(thin_net("A", classes=classes), folder / "A.pt")
    save_net(thin_net("A", seed=1, classes=classes), folder / f"{NAMED.replace('/', '')}.pt")
    return folder


@pytest.mark.slow
def test_all_that_bench_shows_and_writes_is_tame(hostile):
    other = next(path for path in hostile.glob("*.pt") if path.name != "A.pt")
    words = ["A.pt", other.name, "--data", "data", "--measure", "accuracy", "--scales", "64"]
    words += ["--on-error", "skip", "--min-agreement", "100", "--summary", "summary.md"]
    words += ["--threads", "1", "--no-flips"]
    out, err = command("bench", *words, folder=hostile, code=1)
    assert_tame(out, "stdout")
    assert_tame(err, "stderr")
    assert b"Left out: " in err
    results = hostile / "results"
    for path in [*results.iterdir(), hostile / "summary.md"]:
        text = path.read_bytes()
        if path.name == "report.html":
            page = text.decode("utf-8").partition("<script")[0]
            assert "<img src=x" not in page and not re.search("[\x00\x01\x07\x1b]", page)
        elif path.suffix != ".npy":
            assert_tame(text, path.name)
        if path.suffix == ".csv":
            for column in pd.read_csv(path, dtype=str, keep_default_na=False).items():
                is_name = column[0] in ("model", "class", "image", "id", "name", "reference")
                harm = [cell for cell in column[1] if cell[:1] in ("=", "+", "-", "@")]
                assert not (is_name and harm), (path.name, column[0], harm)
    ElementTree.parse(results / "gate.xml")
    json.loads((results / "gate.json").read_text())
    table = pd.read_csv(results / "per_class.csv", keep_default_na=False, dtype=str)
    cells = {cell for column in table for cell in table[column]}
    assert json.dumps("=1+1") in cells and json.dumps("caf\x85\u2028") in cells


@pytest.mark.slow
def test_all_that_features_shows_and_writes_is_tame(hostile):
    model = next(path for path in hostile.glob("*.pt") if path.name != "A.pt")
    words = [model.name, "data", "--on-error", "skip", "--threads", "1", "--scales", "64"]
    out, err = command("bench.features", *words, "--out", "=f[/y]", folder=hostile)
    assert_tame(out, "stdout")
    assert_tame(err, "stderr")
    assert b"Skipped: " in err and b"Skipped 1 of " in out
    written = hostile / "=f[/y]"
    for path in written.glob("*.[cj]s*"):
        assert_tame(path.read_bytes(), path.name)
    folder = open_features(written)
    names = {os.fsdecode(p) for p in os.listdir(os.fsencode(hostile / "data/val" / "=1+1"))}
    assert {f"val/=1+1/{name}" for name in names if ".png" in name} <= {*folder.images}
    assert {*folder.classes} == {name.replace("/", "") for name in CLASSES}


@pytest.mark.slow
def test_all_that_predict_and_export_show_and_write_is_tame(hostile):
    names = [os.fsdecode(p) for p in os.listdir(os.fsencode(hostile / "data/val" / "=1+1"))]
    whole = ["A.pt", "data/val", "--on-error", "skip", "--threads", "1", "--scales", "64"]
    for form in ("table", "csv", "jsonl"):
        out, err = command("bench.predict", *whole, "--format", form, folder=hostile)
        assert_tame(out, form)
        assert_tame(err, form)
        if form == "csv":
            (hostile / "p.csv").write_bytes(out)
            images = set(pd.read_csv(hostile / "p.csv", keep_default_na=False).image)
            real = {json.loads(one) if one.startswith('"') else one for one in images}
            assert {f"data/val/=1+1/{name}" for name in names if ".png" in name} <= real
    other = next(path for path in hostile.glob("*.pt") if path.name != "A.pt")
    out, err = command(
        "export",
        other.name,
        "--onnx",
        "--out",
        "x[/y]".replace("/", ""),
        "--threads",
        "1",
        folder=hostile,
    )
    assert_tame(out, "export")
    assert_tame(err, "export")
    _, err = command("export", f"{FORGED}.pt", "--onnx", folder=hostile, code=2)
    assert_tame(err, "export")
