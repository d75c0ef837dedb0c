"""Writes history.html and history.csv."""

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from bench.earlier.run import EarlierRun
from bench.history.figures import lines_of, over_runs
from bench.history.points import (
    ENERGY,
    ERROR,
    MEMORY,
    SIZE,
    SPEED,
    UNKNOWN,
    Point,
    named_machines,
    open_runs,
    points_of,
)
from bench.report.drawing import Drawing
from bench.report.page import Chapter, Page, write_page
from bench.report.sections import Section
from bench.report.table_texts import number
from bench.report.tables import Texts, write_frame
from vgg_deploy.errors import InputError
from vgg_deploy.name_frames import named_frame
from vgg_deploy.printable import printable

IDS = {ERROR: "error", SPEED: "speed", SIZE: "size", MEMORY: "memory", ENERGY: "energy"}
TITLES = {ERROR: "Error", SPEED: "Speed", SIZE: "Size", MEMORY: "Memory", ENERGY: "Energy"}
NOTES = {
    ERROR: "Top-1 error with Wilson's 95 % interval. A line joins runs on the same images.",
    SPEED: "Median call with its 95 % interval, which holds within a run; what else the machine "
    "did then is not in it. A line joins runs on one kind of machine.",
    SIZE: "All files of a model, MB of 10^6 bytes.",
    MEMORY: "Peak of a process that only opens the file and answers, with its 95 % interval. A "
    "line joins runs on one kind of machine.",
    ENERGY: "Joules per image by the machine's own counter, with all else that it did.",
}
DIGITS = {ERROR: 2, SPEED: 3, SIZE: 2, MEMORY: 1, ENERGY: 3}
Runs = Sequence[EarlierRun]


def write_history(folders: Sequence[Path], out: Path) -> list[str]:
    """Read all runs, and write the page and the table.

    Args:
        folders: Of results, or of folders of results.
        out: Where the files go.

    Returns:
        Lines for the terminal.

    Raises:
        InputError: For a folder without results, a damaged one, or if a file cannot be written.
    """
    runs = open_runs(folders)
    machines = named_machines([run.machine for run in runs])
    points = [point for run in runs for point in points_of(run, machines[run.machine])]
    if not points:
        raise InputError(f"{folders[0]}: its tables hold no number to draw", "name other results")
    columns = [field.name for field in fields(Point)]
    write_frame(named_frame([asdict(point) for point in points], columns), out / "history.csv")
    write_page(out / "history.html", _page(runs, points))
    return [
        f"{len(runs)} run{'s' if len(runs) > 1 else ''}, {_span(runs)}",
        *_groups(points),
        f"History: {out / 'history.html'}; all numbers: {out / 'history.csv'}",
    ]


def _span(runs: Runs) -> str:
    """From the first to the last run."""
    return f"{runs[0].label} to {runs[-1].label}" if len(runs) > 1 else runs[0].label


def _groups(points: Sequence[Point]) -> list[str]:
    """Sentences about numbers that are not joined."""
    machines = sorted({p.on for p in points if p.measure in (SPEED, MEMORY, ENERGY)})
    images = sorted({p.on for p in points if p.measure == ERROR})
    sentences = []
    if len(machines) > 1:
        sentences.append(
            f"{len(machines)} kinds of machine, whose speeds are not joined: {'; '.join(machines)}."
        )
    if len(images) > 1:
        sentences.append(
            f"{len(images)} sets of images, whose errors are not joined: {'; '.join(images)}."
        )
    if any(UNKNOWN in one for one in images):
        sentences.append(
            "Where images are unknown, the run kept no hash of them: their errors may be of other "
            "images of the same number."
        )
    return sentences


def _page(runs: Runs, points: Sequence[Point]) -> Page:
    positions = {(run.run_id, str(run.folder)): index for index, run in enumerate(runs)}
    labels = [run.label for run in runs]
    chapters = []
    for measure in IDS:
        own = [point for point in points if point.measure == measure]
        if own:
            chapters.append(_chapter(measure, own, positions, labels))
    chapters.append(Chapter("runs", "Runs", tables=[Section(_run_texts(runs), "")]))
    subtitle = f"{_span(runs)}. {' '.join(_groups(points))}".strip()
    title = f"VGG benchmark: {len(runs)} run{'s' if len(runs) > 1 else ''}"
    return Page(title, printable(subtitle), None, [], chapters)


def _chapter(
    measure: str,
    points: Sequence[Point],
    positions: dict[tuple[str, str], int],
    labels: Sequence[str],
) -> Chapter:
    figure = over_runs(_for_people(points), positions, labels)
    drawing = Drawing(IDS[measure], f"{TITLES[measure]} over runs", figure)
    tables = [Section(_change_texts(measure, points), "history.csv")]
    return Chapter(IDS[measure], TITLES[measure], NOTES[measure], [drawing], tables=tables)


def _for_people(points: Sequence[Point]) -> list[Point]:
    """Without rows without flips whose rows with flips are there too."""
    rows = {(*_model(point), point.row) for point in points}
    return [
        point
        for point in points
        if not point.row.endswith("no flips")
        or (*_model(point), point.row.removesuffix("no flips") + "flips") not in rows
    ]


def _model(point: Point) -> tuple[str, str, str, str]:
    return point.run_id, point.model, point.runtime, point.precision


def _change_texts(measure: str, points: Sequence[Point]) -> Texts:
    """The first and the last point of every line."""
    digits, lines = DIGITS[measure], list(lines_of(points).items())
    columns = [
        ("model", [line[0] for line, _ in lines]),
        ("runtime", [f"{line[1]} {line[2]}" for line, _ in lines]),
        ("row", [line[3] for line, _ in lines]),
        ("on", [line[4] for line, _ in lines]),
        ("runs", [str(len(group)) for _, group in lines]),
        ("first", [number(group[0].value, digits) for _, group in lines]),
        ("last", [number(group[-1].value, digits) for _, group in lines]),
        ("change", [_change(group, digits) for _, group in lines]),
    ]
    title = f"{TITLES[measure]}, {points[0].unit}: first and last run of each line"
    return Texts.of_columns(title, columns).without_empty_columns()


def _change(group: Sequence[Point], digits: int) -> str:
    """Last minus first; a dash for a single run."""
    if len(group) == 1:
        return "-"
    return number(group[-1].value - group[0].value, digits, "+")


def _run_texts(runs: Runs) -> Texts:
    columns = [
        ("run", [run.label for run in runs]),
        ("time, UTC", [f"{run.when:%Y-%m-%d %H:%M}" for run in runs]),
        ("files changed", [_changed(run) for run in runs]),
        ("machine", [run.machine.shown for run in runs]),
        ("host", [run.host for run in runs]),
        ("version", [run.versions.get("vgg-deploy", "-") for run in runs]),
        ("folder", [str(run.folder) for run in runs]),
    ]
    return Texts.of_columns("Runs, the oldest first", columns).without_empty_columns()


def _changed(run: EarlierRun) -> str:
    """Whether files differed from the commit."""
    if run.commit is None or run.commit.changed is None:
        return "-"
    return "yes" if run.commit.changed else "no"
