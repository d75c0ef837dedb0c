"""Reports of many models, long names, 1,000 classes and failures, measured in a real browser."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from bench.cli import main as vgg_bench
from tests.support.browser import open_browser, printed, show
from tests.support.nets import CLASSES, photo_of, save_net, thin_net
from tests.support.run import run

pytestmark = pytest.mark.slow

PHONE = 390  # pixels
INCHES = (9, 9.7, 10.3, 11, 11.7, 12.5)  # heights of paper
WIDER = """
    const found = [];
    for (const element of document.querySelectorAll('body *')) {
        const box = element.getBoundingClientRect();
        const drawn = element.closest('svg') && !element.closest('.infolayer');
        if (!drawn && box.width > 0 && (box.right > innerWidth + 1 || box.left < -1))
            found.push(`${element.tagName} ${element.className} ${box.left} ${box.right}`);
    }
    return found"""
HEADINGS = """
    const notes = 'section:not(.gate) > p:not(:last-child)';
    const heads = document.querySelectorAll(`h1, h2, h3, figcaption, caption, ${notes}`);
    return [...heads].map(element =>
        (element.matches('figcaption') ? element.firstChild : element).textContent
        .replace(/\\s+/g, ' ').trim())"""
LEGENDS = """
    return [...document.querySelectorAll('figure')].map(figure => {
        const outer = figure.getBoundingClientRect();
        const plot = figure.querySelector('.plot').getBoundingClientRect();
        return [...figure.querySelectorAll('.legend li')].map(entry => {
            const box = entry.getBoundingClientRect();
            const fits = box.left >= outer.left && box.right <= outer.right + 1
                && box.top >= outer.top && box.bottom <= plot.top + 1
                && entry.scrollWidth <= entry.clientWidth + 1;
            const mark = entry.querySelector('i');
            return [entry.textContent, mark.textContent + mark.style.color, fits];
        });
    })"""


def wnids(count: int) -> tuple[str, ...]:
    return tuple(f"n{10_000_000 + 37 * i:08d}" for i in range(count))


@pytest.fixture(scope="module")
def thousand(tmp_path_factory):
    """Two nets of 1,000 classes on one image of each of 20."""
    folder = tmp_path_factory.mktemp("thousand")
    ids = wnids(1000)
    names = ("crane", "crane", *(f"animal number {i}" for i in range(2, 1000)))
    rng = np.random.default_rng(3)
    for id in ids[:20]:
        image = folder / "data" / "val" / id / "only.png"
        image.parent.mkdir(parents=True)
        photo_of(CLASSES[0], rng).save(image)
    files = []
    for arch, seed in (("A", 1), ("B", 2)):
        net = thin_net(arch, seed=seed, classes=ids, names=names)
        if arch == "B":  # answers one class to every image
            with torch.no_grad():
                net.fc8.bias[77] += 1000
        files.append(save_net(net, folder / f"{arch}.pt"))
    args = ["--data", folder / "data", "--scales", "48,64", "--measure", "accuracy", "--threads", 1]
    run(vgg_bench, *files, *args, "--cells", folder / "cells", "--out", folder / "results")
    return folder / "results"


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """Twelve models with long names, one that overflows, and a gate that fails."""
    folder = tmp_path_factory.mktemp("many")
    rng = np.random.default_rng(1)
    for name in CLASSES:
        for i in range(5):
            image = folder / "data" / "val" / name / f"{i}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            photo_of(name, rng).save(image)
    files = [
        save_net(thin_net("A", seed=i), folder / f"fine-tuned-on-our-own-photos-epoch-{i:02d}.pt")
        for i in range(12)
    ]
    diverged = thin_net("A", seed=50)
    with torch.no_grad():
        diverged.fc7.weight *= 1e30
        diverged.fc8.weight *= 1e30
    files.append(save_net(diverged, folder / "diverged-in-epoch-74.pt"))
    args = ["--data", folder / "data", "--scales", "48,64", "--threads", 1]
    args += ["--latency-seconds", "0.01", "--batch-sizes", "1", "--max-top1-drop", "0.5"]
    run(vgg_bench, *files, *args, "--cells", folder / "cells", "--out", folder / "out", code=1)
    return folder / "out"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    opened = open_browser(tmp_path_factory.mktemp("downloads"))
    yield opened
    opened.quit()


def page_of(results) -> str:
    return (results / "report.html").read_text()


def figures_of(results) -> dict:
    return json.loads(re.search(r'id="figures">(.*?)</script>', page_of(results), re.S).group(1))


@pytest.mark.browser
@pytest.mark.parametrize("name", ["thousand", "many"])
def test_nothing_is_wider_than_a_phone(browser, request, name):
    show(browser, request.getfixturevalue(name) / "report.html", PHONE)
    assert browser.execute_script("return innerWidth") == PHONE
    assert browser.execute_script("return document.documentElement.scrollWidth") == PHONE
    assert browser.execute_script(WIDER) == []
    cut = "return [...document.querySelectorAll('.scroll')].map(e => e.scrollWidth - e.clientWidth)"
    assert max(browser.execute_script(cut)) <= 1


@pytest.mark.browser
@pytest.mark.parametrize("width", [PHONE, 1280])
def test_legends_lie_inside_their_figures_and_colours_differ(browser, many, width):
    show(browser, many / "report.html", width)
    legends = [entries for entries in browser.execute_script(LEGENDS) if entries]
    assert max(len(entries) for entries in legends) == 12 + 1  # and the front
    for entries in legends:
        assert all(fits for _, _, fits in entries), entries
        assert len({mark for _, mark, _ in entries}) == len(entries)
        assert all(text.strip() for text, _, _ in entries)


@pytest.mark.browser
def test_a_click_on_the_legend_hides_a_line(browser, many):
    show(browser, many / "report.html", 1280)
    script = """
        const entry = document.querySelectorAll('#errors')[0].parentElement;
        const button = entry.querySelector('.legend button');
        button.click();
        const hidden = document.getElementById('errors').data[0].visible;
        button.click();
        return [hidden, document.getElementById('errors').data[0].visible]"""
    assert browser.execute_script(script) == [False, True]


@pytest.mark.browser
def test_no_printed_page_ends_with_a_heading(browser, thousand):
    """On pages of many heights, so that some heading comes to lie at a foot.

    Read from the PDF by pdfium, which is not what made it.
    """
    pdfium = pytest.importorskip("pypdfium2")
    show(browser, thousand / "report.html", 1280)
    heads = browser.execute_script(HEADINGS)
    assert len(heads) > 5
    documents = [pdfium.PdfDocument(printed(browser, inches)) for inches in INCHES]
    assert all(len(document) >= 3 for document in documents)
    for page in (page for document in documents for page in document):
        text = page.get_textpage()
        boxes = [text.get_rect(i) for i in range(text.count_rects())]
        assert all(left >= 0 and right <= page.get_width() for left, _, right, _ in boxes)
        foot = min(bottom for _, bottom, _, _ in boxes)
        line = text.get_text_bounded(bottom=foot - 1, top=foot + 6)
        last = " ".join(line.split())
        assert last and not any(f" {head}".endswith(f" {last}") for head in heads), last


def test_few_images_of_many_classes(thousand):
    """Figures that would show nothing step back, and sentences say what they would hide."""
    page = page_of(thousand)
    assert "The 20 classes have 1 image each (median), too few for a figure" in page
    assert "per-class" not in figures_of(thousand)
    assert "B.pt in torch answers animal number 77 (n10002849) for 20 of 20 images." in page
    answers = pd.read_csv(thousand / "confusions.csv").query("model == 'B.pt'")
    assert answers.images.sum() == 20 and set(answers.taken_for) == {"n10002849"}


def test_names_stand_beside_ids(thousand):
    """The data set's folders have no names; those of the net are shown, and ids beside them."""
    table = pd.read_csv(thousand / "per_class.csv")
    assert set(table.name[table["class"] == "n10000074"]) == {"animal number 2"}
    headings = re.findall(r"<h3>(.*?) <span", page_of(thousand))
    assert headings and all(re.fullmatch(r".+ \(n1\d{7}\)", head) for head in headings)
    captions = [re.sub("<.*", "", c) for c in re.findall(r"<figcaption>(.*?)<", page_of(thousand))]
    assert any(re.fullmatch(r"Posterior of animal number \d+ \(n\d{8}\)", c) for c in captions)


def test_every_map_uses_its_scale(thousand):
    """Posteriors among 1,000 classes are small; each map still reaches the end of its colours."""
    maps = {k: f for k, f in figures_of(thousand).items() if k.startswith("map-")}
    assert maps
    for figure in maps.values():
        values = np.concatenate([np.ravel(t["z"]) for t in figure["data"]])
        scale = figure["layout"]["coloraxis"]
        assert values.max() == pytest.approx(scale["cmax"], rel=0.005)
    assert min(f["layout"]["coloraxis"]["cmax"] for f in maps.values()) < 0.05


def test_a_model_that_failed_is_named_once_with_its_reason(many):
    page = page_of(many)
    chapter = page[page.index('<section id="faults">') : page.index('<section id="accuracy">')]
    rows = re.findall(r"<tr>.*?</tr>", chapter[chapter.index("<tbody>") :], re.S)
    assert len(rows) == 1
    assert "diverged-in-epoch-74.pt" in rows[0] and "NaN or infinite posteriors" in rows[0]
    assert "more findings like it" in rows[0]
    assert "<h1>VGG benchmark of 13 models</h1>" in page
    assert "diverged" not in set(pd.read_csv(many / "accuracy.csv").model)


def test_a_map_of_zeros_has_a_scale(tmp_path):
    """A posterior that underflows everywhere leaves an axis from 0 to 1."""
    image = tmp_path / "val" / "disc" / "0.png"
    image.parent.mkdir(parents=True)
    Image.new("RGB", (48, 48)).save(image)
    net = thin_net("A", classes=("disc", "square"))
    with torch.no_grad():
        net.fc8.bias[1] += 1e4
    path = save_net(net, tmp_path / "A.pt")
    args = ["--data", tmp_path, "--scales", "48", "--measure", "accuracy", "--threads", 1]
    run(vgg_bench, path, *args, "--cells", tmp_path / "c", "--out", tmp_path / "out")
    scales = {
        f["data"][0]["z"][0][0]: f["layout"]["coloraxis"]["cmax"]
        for name, f in figures_of(tmp_path / "out").items()
        if name.startswith("map-")
    }
    assert scales == {1: 1, 0: 1}
