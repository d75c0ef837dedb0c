"""Writes the HTML page: chapters, figures and tables in one self-contained file."""

import json
import secrets
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from bench.report.drawing import Drawing
from bench.report.maps import ImageMaps
from bench.report.sections import Section
from bench.report.tables import Texts
from vgg_deploy.files import whole_file
from vgg_deploy.printable import printable

HERE = Path(__file__).parent
SAVED_AS = ("svg", "png")
BUTTON = Markup('<button type="button" data-save="{kind}" data-of="{id}">{label}</button>')
FIGURE = Markup(
    "<figure><figcaption>{caption}<span>{buttons}</span></figcaption>"
    '<ul class="legend"></ul>'
    '<div class="plot" id="{id}" style="height:{height}px" role="img" aria-label="{caption}"></div>'
    "</figure>"
)


@dataclass(frozen=True)
class Card:
    """A number that matters, in large print."""

    value: str
    what: str
    detail: str


@dataclass(frozen=True)
class Chapter:
    """One heading of the page and what lies below it.

    Attributes:
        id: Name of its element on the page.
        title: The heading.
        note: Stands below the heading.
        figures: Plots.
        images: Images with their score maps.
        tables: Tables.
        facts: Names and values.
    """

    id: str
    title: str
    note: str = ""
    figures: list[Drawing] = field(default_factory=list)
    images: list[ImageMaps] = field(default_factory=list)
    tables: list[Section] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Judgement:
    """The gate's verdict at the top of the page.

    Attributes:
        verdict: "pass", "fail" or "undecided".
        sentence: The verdict, and what it rests on.
        notes: Warnings, and which models equal the reference.
        checks: Of `gate_text.gate_texts`.
    """

    verdict: str
    sentence: str
    notes: list[str]
    checks: Texts


@dataclass(frozen=True)
class Page:
    """Everything that the page shows, from top to bottom."""

    title: str
    subtitle: str
    judgement: Judgement | None
    cards: list[Card]
    chapters: list[Chapter]


def write_page(path: Path, page: Page) -> None:
    """Write the page. Everything that comes from file and class names is escaped.

    Args:
        path: The file.
        page: What it shows.

    Raises:
        InputError: If the file cannot be written.
    """
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, trim_blocks=False, finalize=_shown
    )
    place = secrets.token_hex()
    text = environment.get_template("page.html").render(
        title=page.title,
        subtitle=page.subtitle,
        judgement=page.judgement,
        cards=page.cards,
        sections=page.chapters,
        figures=_figures_json(page.chapters),
        draw=_figure_element,
        css=(HERE / "page.css").read_text(encoding="utf-8"),
        js=(HERE / "page.js").read_text(encoding="utf-8"),
        plotly=place,
    )
    around = [part.encode("utf-8", "backslashreplace") for part in text.split(place)]
    with whole_file(path) as partial:
        partial.write_bytes(_plotly().join(around))


def _plotly() -> bytes:
    """The 5 MB of `plotly.offline.get_plotlyjs`, which would have to be encoded again."""
    return (files("plotly") / "package_data" / "plotly.min.js").read_bytes()


def _shown(value: object) -> object:
    """Text as it is shown; Markup is our own."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _figures_json(chapters: list[Chapter]) -> str:
    """All plots by their ids, as JSON that may stand in a script element."""
    figures = {}
    for chapter in chapters:
        of_images = (drawing for image in chapter.images for drawing in image.drawings)
        for drawing in (*chapter.figures, *of_images):
            figures[drawing.id] = json.loads(drawing.figure.to_json())
    # only this character could end the script element early
    return json.dumps(figures).replace("<", "\\u003c")


def _figure_element(drawing: Drawing) -> Markup:
    """The element in which a plot is drawn, with the buttons that save it."""
    buttons = [BUTTON.format(kind=kind, id=drawing.id, label=kind.upper()) for kind in SAVED_AS]
    return FIGURE.format(
        caption=printable(drawing.caption),
        buttons=Markup("").join(buttons),
        id=drawing.id,
        height=drawing.figure.layout.height,
    )
