"""A gate run whose posteriors are all stored opens no model, and writes what other runs write."""

import html
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli import main as vgg_bench
from bench.models import cpu_kernels
from bench.models import model as models
from export.release import export_onnx
from export.settings.export_options import ExportOptions
from tests.support.nets import save_net, thin_net
from tests.support.run import run

ROOT = Path(__file__).parents[3]
HEAVY = ("torch", "torchvision", "onnx", "onnxruntime", "scipy", "sklearn", "matplotlib")
# What differs between two runs of the same results
OWN = re.compile(r"\d{8}-\d{6}-[0-9a-f]{8}|\d{4}-\d\d-\d\dT[\d:+]+")
CODE = f"""
import sys
from bench.cli import main
code = main(standalone_mode=False)
print("imported", *sorted(set(sys.modules) & set({HEAVY})))
"""


@pytest.fixture
def exported(here, photos):
    """Words of a gate run of two exports of one net."""
    source = save_net(thin_net(), here / "A.pt")
    wanted = ExportOptions(("fp32", "int8-cpu"), calibration=str(photos))
    files = [e.path for e in export_onnx(source, here / "out", wanted, None, 1, lambda line: None)]
    args = [*files, "--data", photos, "--scales", "32,48", "--threads", "1"]
    return [*map(str, args), "--measure", "accuracy", "--max-top1-drop", "99", "--no-flips"]


def results(folder) -> dict[str, str]:
    """Every file's text, without times of day, names of runs and the command."""
    command = json.loads((folder / "environment.json").read_text())["command"]
    return {
        path.name: OWN.sub(
            "", path.read_text().replace(html.escape(command), "").replace(command, "")
        )
        for path in folder.iterdir()
        if path.name != "environment.json"
    }


def environment(folder) -> dict[str, object]:
    found = json.loads((folder / "environment.json").read_text())
    return {name: found[name] for name in found if name not in ("run_id", "when", "command")}


@pytest.mark.slow
def test_it_imports_no_library_and_writes_what_opened_models_give(here, exported, monkeypatch):
    """Oracle: the same command, with every net opened, run on the shown images and checked."""
    # a worker's own words are "-c", which results() would take out of every text
    monkeypatch.setattr(sys, "argv", ["vgg-bench", "words-of-this-run"])
    run(vgg_bench, *exported, "--out", here / "first")
    command = [sys.executable, "-c", CODE, *exported, "--out", here / "stored"]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.stdout.splitlines()[-1].split() == ["imported"], done.stderr
    calls = []
    right = cpu_kernels.check_kernels
    monkeypatch.setattr(models, "gave_cells", lambda folder, identity: False)
    monkeypatch.setattr(
        "bench.accuracy.measure.check_kernels",
        lambda opened, dataset, known: calls.append(known) or right(opened, dataset, set()),
    )
    maps = sorted((here / "cells").glob("*.maps.npz"))
    assert len(maps) == 2  # of the first model at both Q
    for path in maps:
        path.unlink()
    run(vgg_bench, *exported, "--out", here / "opened")
    assert calls == [{1}]
    stored = results(here / "stored")
    assert stored == results(here / "opened") and len(stored) > 10
    assert "customdata" in stored["report.html"]  # the score maps
    assert environment(here / "stored") == environment(here / "opened")


@pytest.mark.slow
def test_a_model_that_is_called_is_opened(here, exported, monkeypatch):
    run(vgg_bench, *exported)
    opened, right = [], models.open_runtime
    monkeypatch.setattr(
        models, "open_runtime", lambda *given: opened.append(given) or right(*given)
    )
    run(vgg_bench, *exported)
    assert opened == []
    run(vgg_bench, *exported, "--protocols", "centre")  # other views
    assert len(opened) == 2
    run(vgg_bench, *exported, "--max-size", "100", "--measure", "accuracy,latency",
        "--latency-seconds", "0.01", "--batch-sizes", "1")  # fmt: skip
    assert len(opened) == 4


@pytest.mark.slow
def test_a_damaged_manifest_of_a_cell_is_no_evidence(here, exported):
    run(vgg_bench, *exported)
    for path in (here / "cells").glob("*.json"):
        path.write_text("{")
    run(vgg_bench, *exported)
