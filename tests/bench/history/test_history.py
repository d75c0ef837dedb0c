"""vgg-bench history: folders made by hand, whose numbers must come back in order of time."""

import json
import re
import shutil

import pandas as pd
import pytest

from bench.cli import main as vgg_bench
from bench.history.points import named_machines
from bench.report.schema import HISTORY
from bench.results.machine import Machine
from tests.bench.report.test_schema import check_values
from tests.support.browser import open_browser, printed, show
from tests.support.old_results import old_results, run_of
from tests.support.run import run

ERRORS = {5: 21.0, 2: 20.0, 9: 24.5}  # per cent, by the number of the run
MS = {5: 8.0, 2: 9.5, 9: 7.25}


@pytest.fixture
def nightly(tmp_path):
    """A folder of three runs, whose names are not in order of time."""
    for name, number in (("a", 9), ("b", 2), ("c", 5)):
        run_of(tmp_path / "nightly" / name, number, ERRORS[number], MS[number])
    return tmp_path / "nightly"


def figures_of(folder):
    page = (folder / "history.html").read_text()
    return json.loads(re.search(r'id="figures">(.*?)</script>', page, re.S).group(1)), page


def test_numbers_come_back_in_order_of_time(nightly, here):
    text = run(vgg_bench, "history", nightly)
    assert text.startswith("3 runs, 2222222+ to 9999999 History: history/history.html")
    table = pd.read_csv("history/history.csv", keep_default_na=False, na_values=[""])
    check_values(HISTORY, table)
    for measure, expected in (
        ("top-1 error", [20, 21, 24.5]),
        ("latency", [9.5, 8, 7.25]),
        ("size", [152, 155, 159]),
        ("peak memory", [502, 505, 509]),
    ):
        own = table[table.measure == measure]
        assert own.value.tolist() == expected and own.run.tolist() == [
            "2222222+", "5555555", "9999999"
        ]  # fmt: skip
    latency = table[table.measure == "latency"]
    assert latency.low.tolist() == pytest.approx([0.9 * ms for ms in (9.5, 8, 7.25)])
    assert "energy" not in set(table.measure)


def test_every_figure_is_one_line_over_all_runs(nightly, here):
    run(vgg_bench, "history", nightly / "a", nightly / "b", nightly / "c", "--out", "out")
    figures, page = figures_of(here / "out")
    assert set(figures) == {"error", "speed", "size", "memory"}
    for figure in figures.values():
        (line,) = figure["data"]
        assert list(line["x"]) == [0, 1, 2]
        assert figure["layout"]["xaxis"]["ticktext"] == ["2222222+", "5555555", "9999999"]
    (line,) = figures["error"]["data"]
    assert line["y"] == [20, 21, 24.5] and line["error_y"]["array"] == [1, 1, 1]
    assert '<td data-head="change">+4.50</td>' in page


def test_speeds_of_two_machines_and_errors_of_two_sets_are_not_joined(nightly, here):
    run_of(here / "other", 12, 30.0, 4.0, cpu="Other CPU", data={"sha256": "cd" * 32})
    text = run(vgg_bench, "history", nightly, "other")
    assert "2 kinds of machine, whose speeds are not joined: Other CPU, 2 cores; Some CPU" in text
    assert "2 sets of images, whose errors are not joined" in text
    figures, page = figures_of(here / "history")
    for name in ("speed", "memory", "error"):
        assert [list(line["x"]) for line in figures[name]["data"]] == [[0, 1, 2], [3]]
    assert [list(line["x"]) for line in figures["size"]["data"]] == [[0, 1, 2, 3]]
    assert "Other CPU, 2 cores" in figures["speed"]["data"][1]["name"]
    assert "whose speeds are not joined" in page


def test_runs_of_earlier_versions_say_that_their_images_are_unknown(here):
    lines = ["A.pt,torch,fp32,dense,256,True,100,20,15,25,1,0,5"]
    old_results(here / "old", accuracy=lines)
    text = run(vgg_bench, "history", "old")
    assert "1 run, 2026-01-01 00:00" in text and "the run kept no hash of them" in text
    table = pd.read_csv("history/history.csv")
    assert table.on.tolist() == ["100 images, unknown images"] and table.commit.isna().all()


def test_rows_without_flips_are_in_the_table_alone(here):
    rows = [f"A.pt,torch,fp32,dense,256,{f},100,20,15,25,1,0,5" for f in (True, False)]
    old_results(here / "r", accuracy=rows)
    run(vgg_bench, "history", "r")
    assert len(pd.read_csv("history/history.csv")) == 2
    figures, _ = figures_of(here / "history")
    assert len(figures["error"]["data"]) == 1


def test_energy_is_drawn_where_it_was_counted(nightly, here):
    path = nightly / "c" / "latency.csv"
    path.write_text(path.read_text().rstrip() + "0.75\n")
    run(vgg_bench, "history", nightly)
    figures, page = figures_of(here / "history")
    (line,) = figures["energy"]["data"]
    assert (line["x"], line["y"]) == ([1], [0.75]) and "Joules per image by" in page


def test_a_run_in_two_folders_counts_once(nightly, here):
    shutil.copytree(nightly / "a", here / "copy")
    assert run(vgg_bench, "history", nightly, nightly / "a", "copy").startswith("3 runs")


def test_machines_that_are_called_alike_are_told_apart():
    one = Machine("CPU", 2, ("avx2",), ())
    other = Machine("CPU", 2, ("avx2", "avx512f"), ())
    assert named_machines([one, other, one]) == {
        one: "CPU, 2 cores (avx2)",
        other: "CPU, 2 cores (avx2 avx512f)",
    }
    assert named_machines([one]) == {one: "CPU, 2 cores"}


def test_what_cannot_be_drawn_is_one_sentence(nightly, here):
    (here / "empty").mkdir()
    for folder, sentence in (
        ("empty", "empty: holds no results of vgg-bench, and neither do its subfolders"),
        ("none", "none: cannot be listed (No such file or directory)"),
    ):
        assert sentence in run(vgg_bench, "history", folder, code=2)
    old_results(here / "bare")
    assert "bare: its tables hold no number to draw" in run(vgg_bench, "history", "bare", code=2)
    (nightly / "b" / "latency.csv").write_text("x")
    assert "b/latency.csv: has no column model" in run(vgg_bench, "history", nightly, code=2)
    assert not (here / "history").exists()
    assert "Missing argument" in run(vgg_bench, "history", code=2)
    (here / "file").write_text("in the way")
    run_of(here / "good", 1, 20, 8)
    assert "file" in run(vgg_bench, "history", "good", "--out", "file", code=2)


def test_history_is_a_word_and_no_model(here):
    """A model of that name is written ./history; the help names the command."""
    assert "draws the results of several runs" in run(vgg_bench, "--help")
    assert "DIR..." in run(vgg_bench, "history", "--help")
    assert "history" in run(vgg_bench, "./history", code=2)


def test_a_hostile_name_stays_tame(here):
    evil = "</script><b onmouseover=alert(1)>"
    run_of(here / "r", 1, 20, 8, cpu=evil, host=f"{evil}\n::error::x")
    for name in ("accuracy", "latency", "files", "memory"):
        path = here / "r" / f"{name}.csv"
        path.write_text(path.read_text().replace("net.onnx", evil))
    text = run(vgg_bench, "history", "r")
    assert "::error::" not in text and evil not in figures_of(here / "history")[1]


@pytest.mark.slow
@pytest.mark.browser
def test_the_page_fits_a_laptop_a_phone_and_paper(nightly, here, tmp_path):
    run_of(here / "other", 12, 30.0, 4.0, cpu="Other CPU", data={"sha256": "cd" * 32})
    run(vgg_bench, "history", nightly, "other")
    browser = open_browser(tmp_path)
    try:
        for width in (1366, 390):
            show(browser, here / "history" / "history.html", width)
            wide = browser.execute_script(
                "return [document.documentElement.scrollWidth, innerWidth,"
                " ...[...document.querySelectorAll('.plot svg.main-svg')]"
                ".map((e) => Math.round(e.getBoundingClientRect().right))]"
            )
            assert max(wide) <= wide[1] + 1, wide
            drawn = browser.execute_script("return document.documentElement.dataset.drawn")
            assert drawn == "4"
            ticks = browser.execute_script(
                "return [...document.querySelectorAll('#speed .xtick text')]"
                ".map((e) => e.textContent)"
            )
            assert ticks == ["2222222+", "5555555", "9999999", "ccccccc+"]
        pdf = printed(browser)
        assert pdf.startswith(b"%PDF") and 2 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 8
        assert browser.get_log("browser") == []
    finally:
        browser.quit()
