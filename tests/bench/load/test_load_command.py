"""vgg-bench --load as users call it: tables, sentences, and ends."""

import multiprocessing
import os
import shutil
import signal
import threading

import pandas as pd
import pytest

from bench import load_bench
from bench.cli import main as vgg_bench
from bench.load.best import best_settings, knees
from bench.load.bound import Bound
from bench.load.measure import measure_load
from bench.load.rows import OFFLINE, SERVER, SINGLE, Latencies, LoadRow
from bench.report.schema import LOAD, LOAD_SAMPLES
from export.release import ExportOptions, export_onnx
from tests.support.nets import save_net, thin_net
from tests.support.run import run
from vgg_deploy.load_curve.arrivals import poisson_arrivals
from vgg_deploy.machine import available_cores

QUICK = ("--load", "--load-seconds", "0.2", "--batch-sizes", "1,2", "--scales", "64")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A checkpoint and its export."""
    folder = tmp_path_factory.mktemp("load")
    source = save_net(thin_net("A"), folder / "A.pt")
    (exported,) = export_onnx(source, folder, ExportOptions(("fp32",)), None, 1, lambda text: None)
    return source, exported.path


@pytest.mark.slow
def test_the_tables_of_an_onnx_file(files, here):
    rates = ("--arrival-rates", "20,40", "--instances", "2", "--threads", "1")
    output = run(vgg_bench, files[1], *QUICK, *rates, "--batch-delay", "3")
    load = pd.read_csv(here / "results" / "load.csv")
    samples = pd.read_csv(here / "results" / "load_samples.csv")
    assert list(load.columns) == LOAD.names and list(samples.columns) == LOAD_SAMPLES.names
    assert load.scenario.tolist() == [SINGLE, *(2 * [OFFLINE, SERVER, SERVER])]
    assert load.instances.tolist() == [1, *(6 * [2])] and set(load.threads) == {1}
    assert load.delay_ms.tolist() == [0, 0, 0, 0, 0, 3, 3]
    for word in ("single stream", "offline", "server"):
        assert f"A.fp32.onnx, {word}: " in output
    server = samples[samples.scenario == SERVER]
    for rate in (20, 40):
        due = server[(server.offered_per_s == rate) & (server.batch == 1)].due_ms.to_numpy()
        assert due == pytest.approx(1000 * poisson_arrivals(rate, round(rate * 0.2), 0))
    report = (here / "results" / "report.md").read_text()
    assert "## Load, 64 x 64 uint8 images to scores, cpu" in report
    page = (here / "results" / "report.html").read_text()
    assert '"load-curves"' in page and '"load-settings"' in page


@pytest.mark.slow
def test_ctrl_c_keeps_the_rows_that_are_ready(files, here, monkeypatch):
    """The signal comes while the server waits for its images."""

    def interrupted(subject, plan):
        for number, measured in enumerate(measure_load(subject, plan)):
            yield measured
            if number == 1:
                threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()

    monkeypatch.setattr(load_bench, "measure_load", interrupted)
    options = ("--load", "--load-seconds", "2", "--batch-sizes", "1", "--scales", "64")
    output = run(vgg_bench, files[0], *options, "--arrival-rates", "2", "--threads", "2", code=130)
    assert "interrupted; results has the 2 rows of load.csv that were ready" in output
    load = pd.read_csv(here / "results" / "load.csv")
    assert load.scenario.tolist() == [SINGLE, OFFLINE] and set(load.runtime) == {"torch"}
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_a_file_that_fails_in_the_middle_keeps_the_rows_before(files, here, monkeypatch):
    """The file is removed after two rows: the next instances cannot open it."""
    copy = here / "gone.pt"
    shutil.copy(files[0], copy)

    def removed(subject, plan):
        for number, measured in enumerate(measure_load(subject, plan)):
            yield measured
            if number == 1:
                copy.unlink()

    monkeypatch.setattr(load_bench, "measure_load", removed)
    options = ("--load", "--load-seconds", "0.2", "--batch-sizes", "1", "--scales", "64")
    rates = ("--arrival-rates", "10", "--instances", "1,2")
    output = run(vgg_bench, copy, *options, *rates, code=1)
    instances = max(1, available_cores() // 2)
    assert "gone.pt: failed with 2 instances of " in output and "no such file" in output
    assert f"2 instances of {instances} thread" in output
    assert "results has the 3 rows of load.csv before the failure" in output
    assert pd.read_csv(here / "results" / "load.csv").instances.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--instances", "2"), "--instances belongs to --load; add it"),
        (("--load", "--measure", "latency"), "--load measures load alone; leave --measure out"),
        (("--load", "--scales", "64,96"), "give one number to --scales"),
        (("--load", "--max-top1-drop", "1"), "--load has no gate"),
        (("--load", "--side-by-side"), "leave --side-by-side out"),
        (("--load", "--latency-bound", "fast"), "neither milliseconds nor a multiple"),
        (("--load", "--latency-bound", "0"), "neither milliseconds nor a multiple"),
        (("--load", "--arrival-rates", "0"), "has a rate that is not from 0.001"),
        (("--load", "--scales", "16"), "below the crop 32"),
        (
            ("--load", "--arrival-rates", "0.05", "--load-seconds", "10"),
            "less than one image arrives in 10 s",
        ),
    ],
)
def test_wrong_options_are_one_sentence(files, here, options, said):
    assert said in run(vgg_bench, files[0], *options, code=2)


def row(scenario, threads=1, rate=float("nan"), p99=float("nan"), speed=1.0, **more) -> LoadRow:
    """A row of a model with a bound of 100 ms."""
    known = Latencies(1, 1, 1, p99 / 2, 1, 1, p99, p99 - 1, p99 + 1, p99, 400)
    values = {
        "model": "D",
        "runtime": "torch",
        "precision": "fp32",
        "device": "cpu",
        "instances": 1,
        "height_px": 64,
        "width_px": 64,
        "batch": 1,
        "delay_ms": 0.0,
        "queries": 500,
        "dropped": 0,
        "seconds": 1.0,
        "images_per_s_low": speed - 0.5,
        "images_per_s_high": speed + 0.5,
        "mean_batch": 1.0,
        "latencies": known,
        "bound_ms": 100.0,
        "within": "yes",
        **more,
    }
    return LoadRow(
        scenario=scenario, threads=threads, offered_per_s=rate, images_per_s=speed, **values
    )


def test_the_best_settings_in_words():
    rows = [
        row(SINGLE, 1, p99=40),
        row(SINGLE, 2, p99=20),
        row(OFFLINE, 1, speed=9.0),
        row(OFFLINE, 2, speed=8.5),
        row(OFFLINE, 4, speed=7.0),
        *(row(SERVER, 2, rate, p99) for rate, p99 in ((2, 50), (4, 90), (6, 300))),
        *(row(SERVER, 1, rate, p99) for rate, p99 in ((2, 50), (3, 99.5), (6, 300))),
    ]
    single, offline, server = lines(rows, Bound(100.0, 1.0))
    assert "90 % of the images within 10 ms" in single
    assert single.endswith("--instances 1 --threads 2 --batch-sizes 1")
    assert "offline: 9 images/s (95 %: 8.5 to 9.5), with 1 instance of 1 thread" in offline
    assert offline.endswith("Not shown to be slower: 1 instance of 2 threads, batch 1")
    assert "p99 is 90 ms (95 %: 89 to 91) at 4 images/s" in server and "100 ms" in server
    assert server.endswith("--instances 1 --threads 2 --batch-sizes 1")
    assert [one.offered_per_s for one in knees(rows)] == [4, 3]


def lines(rows, bound) -> list[str]:
    return [best.line for best in best_settings(rows, bound)]


def test_what_is_not_shown_is_said():
    few = Latencies(1, 1, 1, 1, 1, 1, 50, 40, float("nan"), 50, 368)
    (line,) = lines([row(SERVER, 1, 2.0, within="not shown", latencies=few)], Bound(None, 5.0))
    assert "No higher rate was measured, so the knee may lie higher" in line
    assert "about 368 are needed: --load-seconds 184" in line
    assert "(5 x the single stream's median)" in line
    (line,) = lines([row(SERVER, 1, 2.0, 300)], Bound(100.0, 1.0))
    assert line == "D, server: at no rate that was measured p99 stays within 100 ms"
    wide = Latencies(1, 1, 1, 1, 1, 1, 99, 90, 120, 130, 400)
    (line,) = lines([row(SERVER, 1, 2.0, within="not shown", latencies=wide)], Bound(100.0, 1.0))
    assert line.endswith("the interval of p99 reaches beyond the bound")
