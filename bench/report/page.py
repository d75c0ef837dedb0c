"""The HTML page: sections, figures and tables put into one self-contained file."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from bench.report.drawing import Drawing
from bench.report.maps import Photo
from bench.report.sections import Section as TableSection
from bench.report.tables import Texts
from vgg_deploy.files import write_text

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Card:
    """A number that matters."""

    value: str
    what: str
    detail: str


@dataclass(frozen=True)
class Chapter:
    """One heading of the page and what lies below it."""

    id: str
    title: str
    note: str = ""
    figures: list[Drawing] = field(default_factory=list)
    photos: list[Photo] = field(default_factory=list)
    tables: list[TableSection] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Judgement:
    """The gate's verdict at the top of the page."""

    verdict: str  # "pass", "fail", "undecided"
    sentence: str
    notes: list[str]
    checks: Texts  # columns as of `gate_text.gate_texts`


def write_page(
    path: Path,
    title: str,
    subtitle: str,
    cards: list[Card],
    chapters: list[Chapter],
    judgement: Judgement | None,
) -> None:
    """Write the page. Whatever comes from file and class names is escaped."""
    figures = {
        d.id: json.loads(d.figure.to_json())
        for chapter in chapters
        for d in [*chapter.figures, *(p.drawing for p in chapter.photos)]
    }
    # inside a script element only this sequence could end it early
    data = json.dumps(figures).replace("<", "\\u003c")
    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, trim_blocks=False)
    page = environment.get_template("page.html").render(
        title=title, subtitle=subtitle, judgement=judgement, cards=cards, sections=chapters, figures=data, draw=_place,
        css=(HERE / "page.css").read_text(encoding="utf-8"), js=(HERE / "page.js").read_text(encoding="utf-8"), plotly=get_plotlyjs(),
    )  # fmt: skip
    write_text(path, page)


def _place(drawing: Drawing) -> Markup:
    """Where a plot will be drawn, with the buttons that save it."""
    saves = Markup("").join(
        Markup('<button type="button" data-save="{0}" data-of="{1}">{2}</button>').format(
            kind, drawing.id, kind.upper()
        )
        for kind in ("svg", "png")
    )
    height = drawing.figure.layout.height
    return Markup(
        '<figure><figcaption>{0}<span>{1}</span></figcaption><div class="plot" id="{2}" style="height:{3}px" role="img" aria-label="{0}"></div></figure>'
    ).format(drawing.caption, saves, drawing.id, height)
