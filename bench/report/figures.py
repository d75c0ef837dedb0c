"""The plots of the report. Each function: measured records in, one plotly figure out; colours of text and grid are the page's."""

import math
from collections.abc import Collection
from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from bench.accuracy.accuracy_rows import AccuracyRow, Scored
from bench.accuracy.reliability import BINS, expected_calibration_error, reliability
from bench.speed.latency import LatencyRow

# Okabe and Ito's colours, which the colour-blind can tell apart and which show on white and on black
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7f7f7f")
SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "star", "hexagon", "x")
MOST_BARS = 40
MOST_CALLS = 500  # points drawn for a row of the latency table


def pareto(rows: list[AccuracyRow], faulty: Collection[str] = ()) -> go.Figure | None:
    """Top-1 error against time for one image; None where no time is known. Both axes: lower is better.

    Args: faulty, models that failed a check: they are shown, but are no part of the front.
    """
    timed = [r for r in rows if not math.isnan(r.ms_per_image)]
    if not timed:
        return None
    figure = go.Figure()
    sound = [r for r in timed if r.model not in faulty]
    best = front([(r.ms_per_image, r.top1_error_pct) for r in sound])
    figure.add_scatter(
        x=[sound[i].ms_per_image for i in best], y=[sound[i].top1_error_pct for i in best], mode="lines", name="Pareto front",
        line={"shape": "hv", "color": "#7f7f7f", "dash": "dot", "width": 1.5}, hoverinfo="skip",
    )  # fmt: skip
    for (model, protocol), group in _grouped(timed, lambda r: (_name(r), r.protocol)).items():
        figure.add_scatter(
            x=[r.ms_per_image for r in group], y=[r.top1_error_pct for r in group], mode="markers", name=escape(f"{model}, {protocol}"),
            marker={"color": _colour(model, timed), "symbol": _symbol(protocol, timed), "size": 10, "line": {"width": 1, "color": "white"}},
            error_y=_interval(group), text=[_told(r) for r in group], hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
    return _laid_out(
        figure,
        "time for one image, ms (all its views, in the runtime)",
        "top-1 error, %",
        log_x=True,
    )


def errors(rows: list[AccuracyRow]) -> go.Figure:
    """Top-1 error by test scale, a mark for each model and protocol, with its 95 % interval."""
    figure = go.Figure()
    for (model, protocol), group in _grouped(rows, lambda r: (_name(r), r.protocol)).items():
        figure.add_scatter(
            x=[_scales(r) for r in group], y=[r.top1_error_pct for r in group], mode="markers", name=escape(f"{model}, {protocol}"),
            offsetgroup=f"{model} {protocol}",
            marker={"color": _colour(model, rows), "symbol": _symbol(protocol, rows), "size": 9}, error_y=_interval(group),
            text=[_told(r) for r in group], hovertemplate="%{text}<extra></extra>",
        )  # fmt: skip
    figure.update_layout(scattermode="group", scattergap=0.25)
    figure.update_xaxes(type="category")
    return _laid_out(figure, "test scale Q", "top-1 error, %")


def latency(rows: list[LatencyRow], samples: pd.DataFrame) -> go.Figure:
    """Calls from host memory to host memory, a box for each model, size and batch.

    Of many calls MOST_CALLS are drawn, evenly spread over time.
    """
    figure, samples = go.Figure(), samples[samples.clock == "end to end"]
    of_row = dict(list(samples.groupby(list(rows[0].key), sort=False)))
    for model, group in _grouped(rows, _name).items():
        found = []
        for row in group:
            label = f"{row.height_px} x {row.width_px}<br>batch {row.batch}"
            found.append((label, _spread(of_row[tuple(row.key.values())].ms.to_numpy())))
        figure.add_box(
            x=[label for label, ms in found for _ in ms], y=np.concatenate([ms.round(4) for _, ms in found]), name=escape(model),
            boxpoints="all", jitter=0.6, pointpos=0, marker={"color": _colour(model, rows), "size": 3, "opacity": 0.5}, line={"width": 1.2},
            hovertemplate="%{y:.3f} ms<extra>%{x}</extra>",
        )  # fmt: skip
    figure.update_layout(boxmode="group")
    figure.update_yaxes(type="log")
    return _laid_out(figure, "image, pixels", "one call, ms")


def _spread(ms: np.ndarray) -> np.ndarray:
    """At most MOST_CALLS of the calls, evenly spread over time."""
    if len(ms) <= MOST_CALLS:
        return ms
    return ms[np.linspace(0, len(ms) - 1, MOST_CALLS).round().astype(int)]


def per_class(tables: list[pd.DataFrame]) -> go.Figure:
    """Top-1 accuracy of each class, a bar for each model; of many classes the first model's worst."""
    order = tables[0]["class"].head(MOST_BARS)
    figure = go.Figure()
    for i, table in enumerate(tables):
        shown = table.set_index("class").loc[order]
        model = f"{table.model[0]}, {table.runtime[0]} {table.precision[0]}"
        figure.add_bar(
            x=[_short(name) for name in shown.name], y=shown.top1_accuracy_pct, name=escape(model), marker={"color": COLOURS[i % len(COLOURS)]},
            text=[f"{escape(id)}, {n} images" for id, n in zip(shown.index, shown.images, strict=True)], textposition="none",
            hovertemplate="%{x} (%{text}): %{y:.1f} %<extra></extra>",
        )  # fmt: skip
    figure.update_yaxes(range=[0, 100])
    return _laid_out(
        figure,
        f"class, the worst {MOST_BARS}" if len(tables[0]) > MOST_BARS else "class, the worst first",
        "top-1 accuracy, %",
    )


def calibration(scored: list[Scored]) -> go.Figure:
    """Reliability diagram above the number of images in each bin."""
    figure = make_subplots(
        rows=2, cols=1, shared_xaxes=True, row_heights=[0.72, 0.28], vertical_spacing=0.06
    )
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        line={"color": "#7f7f7f", "dash": "dot", "width": 1.5},
        name="perfect",
        hoverinfo="skip",
    )
    middles = (np.arange(BINS) + 0.5) / BINS
    for i, one in enumerate(scored):
        bins, colour = reliability(one.confidence, one.ranks == 0), COLOURS[i % len(COLOURS)]
        ece = expected_calibration_error(one.confidence, one.ranks == 0)
        filled = [b for b in bins if b.images]
        figure.add_scatter(
            x=[b.confidence for b in filled], y=[b.accuracy for b in filled], mode="lines+markers", marker={"color": colour, "size": 8},
            line={"color": colour, "width": 1.5}, name=escape(f"{_name(one.record)}: ECE {ece:.1f} %"), text=[b.images for b in filled],
            hovertemplate="posterior %{x:.3f}, right %{y:.1%} of %{text} images<extra></extra>",
        )  # fmt: skip
        figure.add_bar(x=middles, y=[b.images for b in bins], marker={"color": colour, "opacity": 0.7}, showlegend=False, row=2, col=1,
                       hovertemplate="%{y} images<extra></extra>")  # fmt: skip
    figure.update_yaxes(title_text="images", row=2, col=1)
    figure.update_xaxes(title_text="posterior of the best class", range=[0, 1.02], row=2, col=1)
    figure.update_xaxes(range=[0, 1.02], row=1, col=1)
    figure.update_yaxes(
        title_text="share that is right", range=[0, 1.05], tickformat=".0%", row=1, col=1
    )
    return _laid_out(figure, None, None, height=520)


def confused(table: pd.DataFrame) -> go.Figure | None:
    """The most confused pairs of one row; None where nothing is wrong."""
    if not len(table):
        return None
    shown = table.head(20)[::-1]
    labels = [
        f"{_short(true)} → {_short(best)}"
        for true, best in zip(shown.name, shown.taken_for_name, strict=True)
    ]
    figure = go.Figure()
    figure.add_bar(x=shown.images, y=labels, orientation="h", marker={"color": COLOURS[1]}, text=shown.share_pct.round(1), textposition="none",
                   hovertemplate="%{y}: %{x} images, %{text} % of the class<extra></extra>")  # fmt: skip
    figure.update_yaxes(automargin=True)
    return _laid_out(figure, "images", None, height=120 + 24 * len(shown))


def front(points: list[tuple[float, float]]) -> list[int]:
    """Positions of the points that no other beats in both coordinates, by the first coordinate."""
    order, best = sorted(range(len(points)), key=lambda i: points[i]), []
    for i in order:
        if not best or points[i][1] < points[best[-1]][1]:
            best.append(i)
    return best


def _laid_out(
    figure: go.Figure, x: str | None, y: str | None, log_x: bool = False, height: int = 440
) -> go.Figure:
    """What all plots share. No background: the page's own shows through."""
    figure.update_layout(
        template="none", height=height, margin={"l": 64, "r": 16, "t": 16, "b": 56}, paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13}, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hoverlabel={"font": {"size": 12}}, bargap=0.25,
    )  # fmt: skip
    if x:
        figure.update_xaxes(title_text=x, automargin=True)
    if y:
        figure.update_yaxes(title_text=y, automargin=True)
    if log_x:
        figure.update_xaxes(type="log")
    return figure


def _interval(rows: list[AccuracyRow]) -> dict:
    return {
        "type": "data", "symmetric": False, "thickness": 1, "width": 3,
        "array": [r.top1_high_pct - r.top1_error_pct for r in rows], "arrayminus": [r.top1_error_pct - r.top1_low_pct for r in rows],
    }  # fmt: skip


def _told(r: AccuracyRow) -> str:
    """A whole row, for hovering."""
    flips = "with" if r.flips else "without"
    return escape(
        f"{_name(r)}|{r.protocol}, Q {r.scales}, {flips} flips, {r.views} views|top-1 error {r.top1_error_pct:.2f} % "
        f"({r.top1_low_pct:.1f}-{r.top1_high_pct:.1f}), top-5 {r.top5_error_pct:.2f} %|{r.ms_per_image:.1f} ms an image"
    ).replace("|", "<br>")


def _name(r: AccuracyRow | LatencyRow) -> str:
    return f"{r.model}, {r.runtime} {r.precision}"


def _scales(r: AccuracyRow) -> str:
    return escape(r.scales if r.flips or r.protocol == "centre" else f"{r.scales}, no flips")


def _grouped(items: list, key) -> dict:
    groups = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _colour(model: str, rows: list) -> str:
    return COLOURS[list(dict.fromkeys(_name(r) for r in rows)).index(model) % len(COLOURS)]


def _symbol(protocol: str, rows: list[AccuracyRow]) -> str:
    return SYMBOLS[list(dict.fromkeys(r.protocol for r in rows)).index(protocol) % len(SYMBOLS)]


def _short(name: str) -> str:
    return escape(name if len(name) <= 28 else f"{name[:27]}…")
