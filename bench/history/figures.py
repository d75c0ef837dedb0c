"""Draws numbers over runs: one line per model and row, as far as its points are comparable."""

from collections.abc import Mapping, Sequence
from html import escape
from math import isnan
from typing import Any

import plotly.graph_objects as go

from bench.history.points import Point
from bench.report.figures import SYMBOLS, TEXT_ONLY, laid_out
from vgg_deploy.palette import colour

MOST_LABELS = 14  # on the axis of runs; others are shown by hovering
Line = tuple[str, ...]  # what the points of a line have in common


def lines_of(points: Sequence[Point]) -> dict[Line, list[Point]]:
    """Points that one line joins.

    Args:
        points: Of one measure, in order of time.
    """
    lines: dict[Line, list[Point]] = {}
    for point in points:
        key = (point.model, point.runtime, point.precision, point.row, point.on)
        lines.setdefault(key, []).append(point)
    return lines


def over_runs(
    points: Sequence[Point], positions: Mapping[tuple[str, str], int], labels: Sequence[str]
) -> go.Figure:
    """One measure over all runs.

    Args:
        points: Of this measure, in order of time.
        positions: Of the runs on the axis, by their id and folder.
        labels: Of the runs, in their order.
    """
    figure = go.Figure()
    lines = lines_of(points)
    models = list(dict.fromkeys(line[:3] for line in lines))
    several = len({line[4] for line in lines}) > 1
    for index, (line, group) in enumerate(lines.items()):
        own = colour(index)
        figure.add_scatter(
            x=[positions[point.run_id, point.folder] for point in group],
            y=[point.value for point in group],
            error_y=_intervals(group),
            mode="lines+markers",
            name=escape(_name(line, several)),
            line={"color": own, "width": 1.5},
            marker={
                "color": own,
                "size": 8,
                "symbol": SYMBOLS[models.index(line[:3]) % len(SYMBOLS)],
            },
            text=[_described(point) for point in group],
            hovertemplate=TEXT_ONLY,
        )
    step = -(-len(labels) // MOST_LABELS)
    ticks = list(range(0, len(labels), step))
    figure.update_xaxes(
        tickvals=ticks,
        ticktext=[escape(labels[tick]) for tick in ticks],
        range=[-0.5, len(labels) - 0.5],
        tickangle=-45,
    )
    figure.update_yaxes(rangemode="tozero")
    return laid_out(figure, "run, the oldest first", f"{points[0].measure}, {points[0].unit}")


def _name(line: Line, several: bool) -> str:
    """For the legend; what a line is measured on is named if there are several."""
    model, runtime, precision, row, on = line
    parts = [f"{model}, {runtime} {precision}", row, on if several else ""]
    return ", ".join(part for part in parts if part)


def _intervals(group: Sequence[Point]) -> dict[str, Any]:
    """Error bars; none where no interval is known."""
    return {
        "type": "data",
        "symmetric": False,
        "thickness": 1,
        "width": 3,
        "array": [0 if isnan(p.high) else p.high - p.value for p in group],
        "arrayminus": [0 if isnan(p.low) else p.value - p.low for p in group],
    }


def _described(point: Point) -> str:
    """A whole point, for hovering."""
    interval = "" if isnan(point.low) else f" ({point.low:.4g} to {point.high:.4g})"
    lines = (
        f"{point.run}, {point.when[:16].replace('T', ' ')}",
        f"{point.model}, {point.runtime} {point.precision}",
        point.row,
        f"{point.measure} {point.value:.5g} {point.unit}{interval}",
        point.on,
    )
    return "<br>".join(escape(line) for line in lines if line)
