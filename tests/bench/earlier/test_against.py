"""vgg-bench --against: what has changed since an earlier run, and the limits on it."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from bench.cli import main as vgg_bench
from bench.report.schema import AGAINST
from bench.speed import turns
from tests.bench.report.test_schema import check_values
from tests.support.nets import CLASSES, save_net, thin_net
from tests.support.run import run
from vgg_deploy.data.layouts import open_dataset

QUICK = ("--scales", "64", "--no-flips", "--batch-sizes", "8", "--latency-seconds", "0.02")
SLOWER = ("--max-slowdown", "50")


def bench(*args, code=0):
    return run(vgg_bench, *args, *QUICK, "--threads", "1", code=code)


def checks_of(folder="results"):
    found = json.loads((Path(folder) / "gate.json").read_text())["checks"]
    return {check["check"]: check for check in found}


@pytest.fixture
def before(here):
    """Results of a thin net, whose file lies in them too."""
    net = save_net(thin_net("A"), here / "net.pt")
    bench(net, "--measure", "latency", "--out", "before")
    shutil.copy(net, here / "before" / "net.pt")
    return net


def wider(path):
    """A net in its place that takes many times as long."""
    save_net(thin_net("A", width=3 / 8), path)


@pytest.mark.slow
def test_a_planted_slowdown_is_found(before, here):
    """Six times the width: some 36 times the work, called in turn with the old file."""
    wider(before)
    text = bench(before, "--measure", "latency", "--against", "before", *SLOWER, code=1)
    assert "FAIL net.pt, slowdown (64 x 64, batch 8): a call takes" in text
    assert "more time than the earlier file's" in text
    check = checks_of()["slowdown"]
    assert check["low"] > 50 and check["found"] > 100 and check["limit"] == 50
    table = pd.read_csv("results/against.csv")
    check_values(AGAINST, table)
    time = table[table.measure == "latency"].iloc[0]
    assert time.difference == pytest.approx(check["found"]) and time.new > 2 * time.old
    assert time.low <= time.difference <= time.high
    assert time.how in [f"in turn, {rounds} rounds" for rounds in (30, 60, 90, 120)]
    assert f"{time.how.split(', ')[1]} in turn" in text
    size = table[table.measure == "size"].iloc[0]
    assert size.old == pytest.approx((here / "before" / "net.pt").stat().st_size / 1e6)
    assert size.new == pytest.approx(before.stat().st_size / 1e6)
    assert size.difference == pytest.approx(size.new - size.old) and np.isnan(size.low)
    page = (here / "results" / "report.html").read_text()
    assert "Against an earlier run" in page and time.how in page
    assert "Against before of" in (here / "results" / "report.md").read_text()


@pytest.mark.slow
def test_the_same_net_in_another_file_is_not_flagged(before, here):
    """Other weights of the same shapes: pass, or undecided on a busy machine, and never fail."""
    save_net(thin_net("A", seed=1), before)
    far = ("--max-slowdown", "900", "--undecided", "pass")
    text = bench(before, "--measure", "latency", "--against", "before", *far)
    check = checks_of()["slowdown"]
    assert "FAIL" not in text and check["verdict"] != "fail" and check["low"] < 900
    assert (check["high"] <= 900) == (check["verdict"] == "pass")
    assert ("Gate: pass. Its only check passed." in text) == (check["verdict"] == "pass")


@pytest.mark.slow
def test_the_same_file_is_not_called_again(before, here, monkeypatch):
    monkeypatch.setattr(turns, "time_rounds", None)  # would fail if it were called
    text = bench(before, "--measure", "latency", "--against", "before", "--max-slowdown", "0")
    assert "Gate: pass" in text
    assert "the file is that of" in checks_of()["slowdown"]["message"]
    row = pd.read_csv("results/against.csv").iloc[0]
    assert row.difference == 0 and "same file" in row.how


@pytest.mark.slow
def test_without_the_old_file_both_runs_times_are_shown_and_decide_nothing(before, here):
    wider(before)
    (here / "before" / "net.pt").unlink()
    args = (before, "--measure", "latency", "--against", "before", *SLOWER)
    text = bench(*args, code=3)
    assert "were measured at another time on a machine of this kind" in text
    assert "Gate: undecided. 1 of 1 checks are undecided; each says what would decide it." in text
    check = checks_of()["slowdown"]
    assert (
        "by the times of two runs, which decide nothing; the earlier file is neither at"
        in (check["message"])
    )
    old, new = (pd.read_csv(f"{name}/latency.csv").median_ms[0] for name in ("before", "results"))
    assert check["found"] == pytest.approx(100 * (new / old - 1), rel=1e-6)
    row = pd.read_csv("results/against.csv").iloc[0]
    assert (row.old, row.new, row.how) == (
        pytest.approx(old), pytest.approx(new), "times of two runs"
    )  # fmt: skip
    environment = json.loads((here / "before" / "environment.json").read_text())
    environment["cpu"] = "Another CPU"
    (here / "before" / "environment.json").write_text(json.dumps(environment))
    text = bench(*args, "--undecided", "pass")
    assert "are of another machine (CPU Another CPU there and" in text
    # a file of that name with other bytes is not the old one
    save_net(thin_net("A", seed=5), here / "before" / "net.pt")
    assert "decide nothing" in bench(*args, code=3)


@pytest.mark.slow
def test_losses_since_then_are_judged_by_image(here, photos):
    """One net alone: its answers against its former ones, which were all right."""
    data = here / "data"
    net = save_net(thin_net("A"), here / "net.pt")
    accuracy = ("--data", data, "--measure", "accuracy", "--scales", "64", "--no-flips")
    shutil.copytree(photos, data)
    run(vgg_bench, net, *accuracy, "--out", "labels")
    best = pd.read_csv("labels/predictions.csv").set_index("image").best
    shutil.rmtree(data / "val")
    for name, answer in best.items():
        target = data / "val" / answer / name.replace("/", "-")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photos / name, target)
    for name in CLASSES:
        (data / "val" / name).mkdir(exist_ok=True)
        shutil.copy(photos / "train" / name / "000.jpeg", data / "val" / name / "one.jpeg")
    limits = ("--max-top1-drop", "10", "--min-agreement", "50")
    run(vgg_bench, net, *accuracy, "--out", "before")
    kept = json.loads((here / "before" / "environment.json").read_text())["data"]
    dataset = open_dataset(data, "val")
    assert (kept["images"], kept["sha256"]) == (28, dataset.content_sha256(1))
    with torch.no_grad():
        worse = thin_net("A", seed=9)
        worse.fc8.bias.copy_(torch.tensor([0.0, 0.0, 99.0, 0.0]))  # always one class
    save_net(worse, net)
    text = run(vgg_bench, net, *accuracy, "--against", "before", *limits, code=1)
    assert "Compared on the 28 of 28 images with the same content" in text
    checks = checks_of()
    old, new = (
        pd.read_csv(f"{name}/predictions.csv").set_index("image") for name in ("before", "results")
    )
    lost = ((old["rank"] == 1) & (new["rank"] > 1)).sum() - (
        (old["rank"] > 1) & (new["rank"] == 1)
    ).sum()
    assert checks["top-1 drop"]["verdict"] == "fail"
    assert checks["top-1 drop"]["found"] == pytest.approx(100 * lost / 28)
    assert checks["top-1 drop"]["rows"].startswith("dense, Q 64, no flips, since 20")
    assert checks["agreement"]["found"] == pytest.approx(100 * (old.best == new.best).mean())
    assert checks["agreement"]["verdict"] == "fail"
    # a net of another name has no row there: its losses are not known
    other = shutil.copy(net, here / "other.pt")
    text = run(vgg_bench, other, *accuracy, "--against", "before", "--max-top1-drop", "40", code=3)
    assert "the earlier run has no row of it" in text and "Not in the earlier run: other.pt" in text


@pytest.mark.slow
def test_a_slowdown_against_the_first_model(here):
    """Without --against the first model is what calls are compared with."""
    thin = save_net(thin_net("A"), here / "thin.pt")
    wide = here / "wide.pt"
    wider(wide)
    text = bench(thin, wide, "--measure", "latency", *SLOWER, code=1)
    assert "FAIL wide.pt, slowdown" in text and "more time than thin.pt's" in text
    assert checks_of()["slowdown"]["model"] == "wide.pt"
    ms = pd.read_csv("results/side_by_side_samples.csv").pivot(
        index="round", columns="model", values="ms"
    )
    slower = 100 * (ms["wide.pt"] / ms["thin.pt"] - 1)
    assert checks_of()["slowdown"]["found"] == pytest.approx(slower.median(), rel=1e-6)


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (("--max-slowdown", "10"), "name the reference and at least one more, or the results"),
        (("--max-slowdown", "10", "--measure", "accuracy"), "add latency to --measure"),
        (("--against", "none"), "none: no such folder; name the results of an earlier run"),
        (("--against", "."), "has no environment.json, so it holds no results"),
        (("--images", "auto", "--max-memory", "9", "--max-top1-drop", "1"), "give a number"),
        (("--images", "auto", "--against", "x", "--max-top1-drop", "1"), "give a number"),
        (("--max-size", "nan"), "'nan' is no limit; write a number from 0 to 1e+08, in MB"),
        (("--max-memory", "600MiB"), "in MiB without the unit, such as 600"),
        (("--max-slowdown", "-5"), "is no limit"),
        (("--max-memory", "600", "--measure", "accuracy", "--prune", "30d"), "leave models and"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(here, args, sentence):
    net = save_net(thin_net("A"), here / "net.pt")
    assert sentence in run(vgg_bench, net, *args, code=2)


def test_limits_on_losses_of_posteriors_need_two_models(here, photos):
    net = save_net(thin_net("A"), here / "net.pt")
    args = ("--data", photos, "--measure", "accuracy", "--scales", "48", "--no-flips")
    run(vgg_bench, net, *args, "--out", "before")
    limit = ("--against", "before", "--max-posterior-difference", "0.1")
    assert "no posteriors of an earlier run are kept" in run(vgg_bench, net, *args, *limit, code=2)
