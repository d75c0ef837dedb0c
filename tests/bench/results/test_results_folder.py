"""The folder of results: a run's files are published together; other files stay untouched."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.cli import main as vgg_bench
from bench.results.results_folder import OLDER_NAMES, earlier_files, new_run_id, results_folder
from tests.support.nets import save_net, thin_net
from tests.support.run import run
from tests.support.written import written_onnx
from vgg_deploy.errors import InputError
from vgg_deploy.files import sha256

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {"when": "now", "command": "vgg-bench", "versions": {"vgg-deploy": "0"}}
GATED = ["--max-top1-drop", "100", "--undecided", "pass"]
QUICK = ["--measure", "accuracy", "--threads", "1"]
CODE = "from bench.cli import main; main()"
PROCESS = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def models(tmp_path):
    """A net, and its export."""
    net = save_net(thin_net("A"), tmp_path / "A.pt")
    return net, written_onnx(tmp_path / "A.onnx", thin_net("A"), sha256(net))


@pytest.fixture
def bench(photos, tmp_path):
    """A run of vgg-bench into one folder."""

    def ran(*args, code=0):
        options = ["--data", photos, *QUICK, "--scales", "48", "--no-flips"]
        folders = ["--cells", tmp_path / "cells", "--out", tmp_path / "results"]
        return run(vgg_bench, *options, *folders, *args, code=code)

    ran.out = tmp_path / "results"
    return ran


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def published(folder, run_id, **files):
    """What a run does that writes these files."""
    with results_folder(folder, run_id) as results:
        for name, text in files.items():
            (results.staging / name.replace("_", ".")).write_text(text)
        results.publish(ENVIRONMENT)


@pytest.mark.slow
def test_two_runs_with_different_files_do_not_mix(bench, models):
    bench(*models, *GATED)
    of_two = {"comparisons.csv", "differences.csv", "gate.json", "gate.xml"}
    assert of_two | {"accuracy.csv"} <= content(bench.out).keys()
    bench(models[0])
    found = content(bench.out)
    assert not of_two & found.keys()
    assert "accuracy.csv" in found
    listed = json.loads(found["run.json"])
    assert set(listed["files"]) == found.keys() and listed["complete"]
    assert listed["run_id"] == json.loads(found["environment.json"])["run_id"]
    assert listed["run_id"].encode() in found["report.html"]
    assert listed["run_id"].encode() in found["report.md"]


@pytest.mark.slow
def test_a_failing_run_leaves_the_results_and_no_green_verdict(bench, models, tmp_path):
    bench(*models, *GATED)
    before = content(bench.out)
    assert json.loads(before["gate.json"])["passed"]
    bench(models[0], tmp_path / "none.pt", *GATED, code=2)
    after = content(bench.out)
    assert not json.loads(after["gate.json"])["passed"] and b"none.pt" in after["gate.xml"]
    withdrawn = {"gate.json", "gate.xml", "report.html", "report.md"}  # they show the verdict
    assert not {"report.html", "report.md"} & after.keys()
    assert {n: b for n, b in after.items() if n not in withdrawn} == {
        n: b for n, b in before.items() if n not in withdrawn
    }


@pytest.mark.slow
def test_a_failing_run_without_limits_changes_nothing(bench, models, tmp_path):
    bench(*models, *GATED)
    before = content(bench.out)
    bench(models[0], tmp_path / "none.pt", code=2)
    assert content(bench.out) == before


@pytest.mark.slow
def test_files_of_others_are_never_touched(bench, models, tmp_path):
    (bench.out / "sub").mkdir(parents=True)
    own = {
        "notes.txt": "mine",
        "latency.csv": "mine too",
        ".vgg-bench-notes": "mine",
        "models.json": "{}",
    }
    for name, text in own.items():
        (bench.out / name).write_text(text)
    (bench.out / ".vgg-bench-20260101-000000-0123456789").mkdir()  # not quite a run's
    bench(*models, *GATED)
    bench(models[0])
    found = {path.name: path for path in bench.out.iterdir()}
    assert all(found[name].read_text() == text for name, text in own.items())
    assert found["sub"].is_dir() and found[".vgg-bench-20260101-000000-0123456789"].is_dir()


@pytest.mark.slow
def test_the_working_folder_may_be_the_results_folder(models, photos, here):
    (here / "mine.csv").write_text("mine")
    before = {path.name for path in here.iterdir()}
    args = ["--data", photos, "--measure", "accuracy", "--scales", "48", "--no-flips", "--out", "."]
    run(vgg_bench, *models, *args)
    run(vgg_bench, models[0], *args)
    assert (here / "mine.csv").read_text() == "mine"
    assert before <= {path.name for path in here.iterdir()}
    assert not (here / "comparisons.csv").exists()


def test_results_of_versions_without_a_list_are_replaced(tmp_path):
    out = tmp_path / "results"
    out.mkdir()
    for name in OLDER_NAMES:
        (out / name).write_text("{}")
    (out / "notes.csv").write_text("mine")
    published(out, new_run_id(), accuracy_csv="new")
    assert set(OLDER_NAMES) <= content(out).keys()  # nothing says that these are of vgg-bench
    (out / "run.json").unlink()
    (out / "environment.json").write_text(json.dumps({"versions": {"vgg-deploy": "0.1.0"}}))
    published(out, new_run_id(), accuracy_csv="newer")
    assert content(out).keys() == {"accuracy.csv", "run.json", "notes.csv"}
    assert (out / "accuracy.csv").read_text() == "newer"


@pytest.mark.parametrize(
    "files",
    [["../other.txt", "/etc/none", "", ".", "..", 5, None, "a/b.csv"], "gate.json", None, {"a": 1}],
)
def test_a_list_that_was_tampered_with_reaches_no_other_folder(tmp_path, files):
    out = tmp_path / "results"
    out.mkdir()
    (tmp_path / "other.txt").write_text("mine")
    (out / "run.json").write_text(json.dumps({"files": files}))
    published(out, new_run_id(), accuracy_csv="new")
    assert (tmp_path / "other.txt").read_text() == "mine"
    assert content(out).keys() == {
        "accuracy.csv",
        "run.json",
    }


@pytest.mark.parametrize("damage", [b"", b"[" * 100_000, b"\xff\xfe", b"[]"])
def test_a_damaged_list_is_no_list(tmp_path, damage):
    (tmp_path / "run.json").write_bytes(damage)
    assert earlier_files(tmp_path) == []


@pytest.mark.slow
def test_a_killed_run_leaves_nothing_behind_for_long(many, tmp_path):
    """SIGKILL in the middle: the old results stay; the next run sweeps the staging folder."""
    net, data = many
    out = tmp_path / "results"
    published(out, new_run_id(), accuracy_csv="old")
    args = [net, "--data", data, *QUICK, "--scales", "160", "--no-flips"]
    args += ["--cells", tmp_path / "cells", "--out", out]
    process = subprocess.Popen(
        [sys.executable, "-c", CODE, *map(str, args)],
        env=PROCESS,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not list((tmp_path / "cells").glob("*.partial.npy")):
        time.sleep(0.01)
    (staging,) = out.glob(".vgg-bench-*")
    published(out, new_run_id(), accuracy_csv="of a run beside it")
    assert staging.is_dir()  # its run is alive
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert staging.is_dir() and (out / "accuracy.csv").read_text() == "of a run beside it"
    published(out, new_run_id(), latency_csv="new")
    assert content(out).keys() == {"latency.csv", "run.json"}


def limited():
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))


@pytest.mark.slow
def test_a_full_disk_leaves_the_earlier_results(bench, models, photos, tmp_path):
    """The report has 5 MB, and the tables before it fit: none of them may appear."""
    bench(*models)
    before = content(bench.out)
    args = [models[0], "--data", photos, *QUICK, "--scales", "48,80"]
    args += ["--cells", tmp_path / "cells", "--out", bench.out]
    done = subprocess.run(
        [sys.executable, "-c", CODE, *map(str, args)],
        env=PROCESS,
        capture_output=True,
        text=True,
        preexec_fn=limited,
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    report = f"{bench.out}/report.html: writing failed (File too large)"
    assert f"{report}; the previous file is unchanged" in done.stderr
    assert content(bench.out) == before


def test_a_folder_that_cannot_be_written_is_known_before_anything_is_measured(
    models, photos, tmp_path
):
    (tmp_path / "file").write_text("in the way")
    args = ["--data", photos, "--scales", "48", "--measure", "accuracy"]
    args += ["--cells", tmp_path / "cells", "--out", tmp_path / "file"]
    assert "file: cannot be written" in run(vgg_bench, models[0], *args, code=2)
    assert not (tmp_path / "cells").exists()


def test_a_folder_that_the_run_made_goes_with_a_run_that_fails(tmp_path):
    with pytest.raises(InputError, match="wrong"), results_folder(tmp_path / "new", new_run_id()):
        raise InputError("wrong")
    assert not (tmp_path / "new").exists()


def test_while_files_are_moved_the_list_says_so(tmp_path, monkeypatch):
    """A crash between two moves leaves files of both runs, and a list that names them all."""
    out = tmp_path / "results"
    published(
        out, new_run_id(), a_csv="old", b_csv="old", gate_json='{"run_id": "1", "verdict": "pass"}'
    )
    replace, moved = os.replace, []

    def stops(source, target):
        if Path(target).parent == out:
            if len(moved) == 2:
                raise KeyboardInterrupt
            moved.append(target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", stops)
    with pytest.raises(KeyboardInterrupt):
        published(out, new_run_id(), a_csv="new", c_csv="new")
    monkeypatch.undo()
    listed = json.loads((out / "run.json").read_text())
    assert not listed["complete"]
    assert set(listed["files"]) >= {
        "a.csv",
        "b.csv",
        "c.csv",
        "gate.json",
    }
    published(out, new_run_id(), d_csv="new")
    assert content(out).keys() == {"d.csv", "run.json"}
