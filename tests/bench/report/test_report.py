"""report.html: what it contains, and how it behaves in a real browser."""

import base64
import io
import json
import re
import shutil
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench.cli import main as vgg_bench
from bench.report.maps import choose
from export.release import ExportOptions, export_onnx
from tests.support.browser import open_browser, printed, show, until
from tests.support.nets import CLASSES, save_net, thin_net
from tests.support.run import run

SPITEFUL = "</script><b onmouseover=alert(1)>"  # a folder may be called so; "/" apart
PLOTS = {"pareto", "errors", "per-class", "confused", "reliability", "latency"}


@pytest.fixture(scope="module")
def report(photos, tmp_path_factory):
    """Two models, two scales, three protocols, latency; the name of one class tries to be HTML."""
    folder = tmp_path_factory.mktemp("report")
    shutil.copytree(photos / "val", folder / "data" / "val")
    evil = SPITEFUL.replace("/", "")
    (folder / "data" / "val" / "square").rename(folder / "data" / "val" / evil)
    net = thin_net("B", seed=3, classes=tuple(evil if c == "square" else c for c in CLASSES))
    index = {str(i): [id, SPITEFUL if id == evil else id] for i, id in enumerate(net.spec.classes)}
    (folder / "data" / "class_index.json").write_text(json.dumps(index))
    source = save_net(net, folder / "B.pt")
    options = ExportOptions(("fp32",))
    (exported,) = export_onnx(source, folder, options, None, 1, lambda text: None)
    args = ["--data", folder / "data", "--scales", "48,80", "--threads", "1"]
    args += ["--protocols", "dense,multicrop,centre"]
    args += ["--batch-sizes", "1,2", "--latency-seconds", "0.1"]
    args += ["--cells", folder / "cells", "--out", folder / "results"]
    run(vgg_bench, source, exported.path, *args)
    return folder / "results" / "report.html"


@pytest.mark.slow
def test_the_page_is_whole_and_needs_nothing_from_outside(report):
    page = report.read_text()
    assert not re.findall(
        r"""<(?:script|link|img|iframe)[^>]+(?:src|href)\s*=\s*["']?(?:https?:)?//""", page
    )
    assert "default-src 'none'" in page and SPITEFUL not in page
    figures = json.loads(re.search(r'id="figures">(.*?)</script>', page, re.S).group(1))
    maps = {name for name in figures if name.startswith("map-")}
    assert set(figures) - maps == PLOTS and 1 <= len(maps) <= 9
    for name in maps:
        heatmaps = [t for t in figures[name]["data"] if t["type"] == "heatmap"]
        assert len(heatmaps) == 2
        largest = max(max(max(line) for line in t["z"]) for t in heatmaps)
        scale = figures[name]["layout"]["coloraxis"]
        assert scale["cmin"] == 0 and scale["cmax"] == pytest.approx(largest, rel=0.005)
        assert all(t["dx"] == t["dy"] == 32 and t["x0"] == 16 for t in heatmaps)
        assert len(figures[name]["layout"]["images"]) == len(heatmaps)
    rows = len((report.parent / "accuracy.csv").read_text().splitlines()) - 1
    markers = [t for t in figures["pareto"]["data"] if t.get("mode") == "markers"]
    assert sum(len(values(t["x"])) for t in markers) == rows and len(markers) == 2 * 3
    calls = pd.read_csv(report.parent / "latency.csv").runs
    assert len(calls) == 2 * 2 * 2
    assert (
        sum(len(values(t["y"])) for t in figures["latency"]["data"]) == calls.clip(upper=500).sum()
    )


def values(array) -> list:
    """The numbers of an array; plotly writes long ones as base64."""
    if isinstance(array, dict):
        return list(np.frombuffer(base64.b64decode(array["bdata"]), array["dtype"]))
    return list(array)


def test_photos_are_the_surest_mistakes_and_a_spread_of_right_answers():
    class Row:
        confidence = np.array([0.9, 0.8, 0.99, 0.5, 0.4, 0.95, 0.7, 0.6], np.float32)
        ranks = np.array([0, 1, 0, 2, 0, 1, 0, 3])

    assert choose(Row).tolist() == [5, 1, 7, 2, 0, 4] or choose(Row).tolist() == [5, 1, 7, 2, 6, 4]
    Row.ranks = np.zeros(8, int)
    assert len(choose(Row)) == 3


@pytest.fixture(scope="module")
def browser(report, tmp_path_factory):
    """Chromium without a screen, with the report open."""
    downloads = tmp_path_factory.mktemp("downloads")
    opened = open_browser(downloads)
    opened.downloads = downloads
    show(opened, report)
    yield opened
    opened.quit()


def pixels_of(browser, element=None) -> np.ndarray:
    data = element.screenshot_as_png if element else browser.get_screenshot_as_png()
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


@pytest.mark.slow
@pytest.mark.browser
def test_every_plot_is_drawn_without_an_error(browser):
    from selenium.webdriver.common.by import By

    plots = browser.find_elements(By.CSS_SELECTOR, ".plot")
    drawn = browser.execute_script("return document.documentElement.dataset.drawn")
    assert len(plots) == int(drawn) > len(PLOTS)
    for plot in plots:
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", plot)
        pixels = pixels_of(browser, plot)
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 20, plot.get_attribute("id")
    assert browser.get_log("browser") == []
    assert browser.execute_script("return document.querySelectorAll('b').length") == 0
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.browser
def test_maps_lie_over_their_photos(browser):
    """The heatmap lies inside the image, and does not cover all of it."""
    boxes = browser.execute_script("""
        const box = element => {
            const r = element.getBoundingClientRect();
            return [r.left, r.top, r.right, r.bottom];
        };
        const boxes = (plot, selector) => [...plot.querySelectorAll(selector)].map(box);
        return [...document.querySelectorAll('.photo .plot')].map(plot => [
            boxes(plot, '.layer-below image, .imagelayer image'),
            boxes(plot, '.heatmaplayer image'),
        ])""")
    assert boxes
    for photos, maps in boxes:
        assert len(photos) == len(maps) > 0
        for photo, over in zip(np.array(sorted(photos)), np.array(sorted(maps)), strict=True):
            assert (over[:2] >= photo[:2] - 1).all() and (over[2:] <= photo[2:] + 1).all()
            assert np.prod(over[2:] - over[:2]) < np.prod(photo[2:] - photo[:2])


@pytest.mark.slow
@pytest.mark.browser
def test_tables_are_sorted_by_a_click_on_their_heads(browser):
    from selenium.webdriver.common.by import By

    table = browser.find_element(By.CSS_SELECTOR, "#accuracy table.sortable")
    heads = [cell.text.strip(" ↑↓") for cell in table.find_elements(By.CSS_SELECTOR, "th")]
    for name, kind in (("top-1 error %", float), ("model", str), ("views", float)):
        column = heads.index(name)
        before = cells(table, column)
        for descending in (False, True):
            browser.execute_script(
                "arguments[0].click()", table.find_elements(By.CSS_SELECTOR, "th button")[column]
            )
            assert [kind(c) for c in cells(table, column)] == sorted(
                map(kind, before), reverse=descending
            )
            order = table.find_elements(By.CSS_SELECTOR, "th")[column].get_attribute("aria-sort")
            assert order == ("descending" if descending else "ascending")


def cells(table, column):
    from selenium.webdriver.common.by import By

    return [
        cell.text
        for cell in table.find_elements(By.CSS_SELECTOR, f"tbody td:nth-child({column + 1})")
    ]


@pytest.mark.slow
@pytest.mark.browser
def test_light_dark_and_print(browser, tmp_path):
    browser.execute_script("scrollTo(0, 0)")
    looks = {}
    for _ in range(2):
        theme = browser.execute_script("return document.documentElement.dataset.theme")
        looks[theme] = pixels_of(browser)
        colour = browser.execute_script(
            "return document.getElementById('pareto').layout.font.color"
        )
        assert (int(colour[1:3], 16) > 128) == (theme == "dark")
        browser.execute_script("document.getElementById('theme').click()")
        until(
            lambda theme=theme: (
                browser.execute_script("return document.documentElement.dataset.theme") != theme
            )
        )
        time.sleep(0.5)
    assert np.median(looks["light"]) > 240 and np.median(looks["dark"]) < 40
    browser.execute_script(
        "document.documentElement.dataset.theme !== 'dark' && "
        "document.getElementById('theme').click()"
    )
    pdf = printed(browser)
    assert pdf.startswith(b"%PDF") and 3 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 30
    theme = browser.execute_script("return document.documentElement.dataset.theme")
    assert theme == "dark"  # as it was before
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("kind", ["svg", "png"])
@pytest.mark.browser
def test_figures_are_saved_as_files(browser, kind):
    from selenium.webdriver.common.by import By

    browser.execute_script(
        "arguments[0].click()",
        browser.find_element(By.CSS_SELECTOR, f"[data-of='errors'][data-save='{kind}']"),
    )
    path = browser.downloads / f"errors.{kind}"
    until(path.exists)
    if kind == "svg":
        assert "<svg" in path.read_text() and "top-1 error" in path.read_text()
    else:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        assert pixels.shape[1] > 1500  # twice the size
        assert np.median(pixels) == 255  # light, whatever the page is
