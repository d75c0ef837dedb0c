"""Draws where the milliseconds and the agreement go: layers of all models beside each other."""

import math
from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go

from bench.layers.measure import CallRow, Layers
from bench.report.drawing import Drawing
from bench.report.figures import laid_out
from bench.report.layers import by_row, row_names, rows_of
from vgg_deploy.palette import colour

ROW = 17  # pixels of a bar
MARGIN = 130  # pixels of a figure beside its bars


def layer_drawings(layers: Layers) -> list[Drawing]:
    """The figures of times and of errors, each as far as it was measured.

    Args:
        layers: What was measured.
    """
    names = row_names(layers.rows)
    calls = [call for call in layers.calls if rows_of(layers.rows, call)]
    drawings = []
    if any(call.calls for call in calls):
        drawings.append(Drawing("layer-ms", "Time by layer", _times(layers, calls, names)))
    if any(call.reference for call in calls):
        caption = "Agreement with float32 by layer: higher is closer"
        drawings.append(Drawing("layer-sqnr", caption, _errors(layers, calls, names)))
    return drawings


def _times(layers: Layers, calls: Sequence[CallRow], names: Sequence[str]) -> go.Figure:
    figure = go.Figure()
    timed = [call for call in calls if call.calls]
    for call in timed:
        values = by_row(rows_of(layers.rows, call))
        figure.add_bar(
            x=[values[name][0] if name in values else None for name in names],
            y=list(names),
            orientation="h",
            name=escape(_name(call)),
            marker={"color": colour(calls.index(call))},
            hovertemplate="%{y}: %{x:.3f} ms<extra></extra>",
        )
    figure.update_layout(barmode="group")
    figure.update_yaxes(autorange="reversed", automargin=True, dtick=1)
    height = MARGIN + ROW * len(names) * max(1, len(timed))
    return laid_out(figure, "ms", None, height=height)


def _errors(layers: Layers, calls: Sequence[CallRow], names: Sequence[str]) -> go.Figure:
    figure = go.Figure()
    for call in calls:
        if not call.reference:
            continue
        values = by_row(rows_of(layers.rows, call))
        shown = [name for name in names if name in values and math.isfinite(values[name][1])]
        figure.add_scatter(
            x=[values[name][1] for name in shown],
            y=shown,
            mode="lines+markers",
            name=escape(_name(call)),
            marker={"color": colour(calls.index(call)), "size": 7},
            line={"color": colour(calls.index(call)), "width": 1.5},
            hovertemplate="%{y}: %{x:.1f} dB so far<extra></extra>",
        )
    order = {"categoryorder": "array", "categoryarray": list(names)}
    figure.update_yaxes(autorange="reversed", automargin=True, dtick=1, **order)
    return laid_out(figure, "SQNR so far, dB", None, height=MARGIN + ROW * len(names))


def _name(call: CallRow) -> str:
    return f"{call.model}, {call.runtime} {call.precision}"
