"""Draws the plots of the report: measured records in, one plotly figure out.

The colours of text and grid are the page's, and so is the legend, which must wrap at any width.
"""

import math
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from html import escape
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from bench.accuracy.accuracy_rows import AccuracyRow, Scored
from bench.accuracy.reliability import BINS, expected_calibration_error, reliability
from bench.speed.latency import LatencyRow
from vgg_deploy.palette import COLOURS, GREY, colour

T = TypeVar("T")
K = TypeVar("K", bound=Hashable)

SYMBOLS = ("circle", "square", "diamond", "cross", "triangle-up", "star", "hexagon", "x")
GUIDE = {"color": GREY, "dash": "dot", "width": 1.5}  # a line that only guides the eye
TEXT_ONLY = "%{text}<extra></extra>"
MOST_BARS = 40
MOST_PAIRS = 20
MOST_CALLS = 500  # points drawn per row of the latency table
LONGEST_NAME = 28  # characters


def pareto(rows: Sequence[AccuracyRow], faulty: Collection[str] = ()) -> go.Figure | None:
    """Top-1 error against time per image. On both axes, lower is better.

    Args:
        rows: Of the accuracy table.
        faulty: Names of models that failed a check; they are shown, but are not part of the front.

    Returns:
        None if no time is known.
    """
    timed = [r for r in rows if not math.isnan(r.ms_per_image)]
    if not timed:
        return None
    sound = [r for r in timed if r.model not in faulty]
    best = front([(r.ms_per_image, r.top1_error_pct) for r in sound])
    figure = go.Figure()
    figure.add_scatter(
        x=[sound[i].ms_per_image for i in best],
        y=[sound[i].top1_error_pct for i in best],
        mode="lines",
        name="Pareto front",
        line={"shape": "hv", **GUIDE},
        hoverinfo="skip",
    )
    outline = {"size": 10, "line": {"width": 1, "color": "white"}}
    for (model, protocol), group in _grouped(timed, _model_and_protocol).items():
        figure.add_scatter(
            x=[r.ms_per_image for r in group],
            marker={**_marker(model, protocol, timed), **outline},
            **_errors_of(group),
        )
    x = "ms per image, all its views"
    figure.update_xaxes(type="log")
    return laid_out(figure, x, "top-1 error, %")


def errors(rows: Sequence[AccuracyRow]) -> go.Figure:
    """Top-1 error by test scale, one mark per model and protocol, with its 95 % interval.

    Args:
        rows: Of the accuracy table.
    """
    figure = go.Figure()
    for (model, protocol), group in _grouped(rows, _model_and_protocol).items():
        figure.add_scatter(
            x=[_scales(r) for r in group],
            offsetgroup=f"{model} {protocol}",
            marker={**_marker(model, protocol, rows), "size": 9},
            **_errors_of(group),
        )
    figure.update_layout(scattermode="group", scattergap=0.25)
    figure.update_xaxes(type="category")
    return laid_out(figure, "test scale Q", "top-1 error, %")


def _errors_of(group: Sequence[AccuracyRow]) -> dict[str, Any]:
    """What marks of one model and protocol share, whatever the horizontal axis is."""
    first = group[0]
    return {
        "y": [r.top1_error_pct for r in group],
        "mode": "markers",
        "name": escape(f"{_name(first)}, {first.protocol}"),
        "error_y": _interval(group),
        "text": [_described(r) for r in group],
        "hovertemplate": TEXT_ONLY,
    }


def latency(rows: Sequence[LatencyRow], samples: pd.DataFrame) -> go.Figure:
    """Calls from host memory to host memory, one box per model, size and batch.

    Of many calls, MOST_CALLS are drawn.

    Args:
        rows: The latency table, at least one row.
        samples: Every counted time.
    """
    end_to_end = samples[samples.clock == "end to end"]
    calls = dict(list(end_to_end.groupby(list(rows[0].key), sort=False)))
    figure = go.Figure()
    for model, group in _grouped(rows, _name).items():
        labels: list[str] = []
        times = []
        for row in group:
            ms = _spread(calls[tuple(row.key.values())].ms.to_numpy()).round(4)
            labels += [f"{row.height_px} x {row.width_px}<br>batch {row.batch}"] * len(ms)
            times.append(ms)
        figure.add_box(
            x=labels,
            y=np.concatenate(times),
            name=escape(model),
            boxpoints="all",
            jitter=0.6,
            pointpos=0,
            marker={"color": _colour(model, rows), "size": 3, "opacity": 0.5},
            line={"width": 1.2},
            hovertemplate="%{y:.3f} ms<extra>%{x}</extra>",
        )
    figure.update_layout(boxmode="group")
    figure.update_yaxes(type="log")
    return laid_out(figure, "image, pixels", "one call, ms")


def _spread(ms: np.ndarray) -> np.ndarray:
    """At most MOST_CALLS of the calls, evenly spread over time."""
    if len(ms) <= MOST_CALLS:
        return ms
    indices = np.linspace(0, len(ms) - 1, MOST_CALLS).round().astype(int)
    return np.take(ms, indices)


def per_class(tables: Sequence[pd.DataFrame]) -> go.Figure:
    """Top-1 accuracy of each class, one bar per model; of many classes the first model's worst.

    Args:
        tables: One per model, of `bench.accuracy.by_class.class_accuracy`; at least one.
    """
    order = tables[0]["class"].head(MOST_BARS)
    figure = go.Figure()
    for i, table in enumerate(tables):
        shown = table.set_index("class").loc[order]
        counts = zip(shown.index, shown.images, strict=True)
        figure.add_bar(
            x=[_short(name) for name in _distinct(shown)],
            y=shown.top1_accuracy_pct,
            name=escape(f"{table.model[0]}, {table.runtime[0]} {table.precision[0]}"),
            marker={"color": colour(i)},
            text=[f"{escape(id)}, {count} images" for id, count in counts],
            textposition="none",
            hovertemplate="%{x} (%{text}): %{y:.1f} %<extra></extra>",
        )
    figure.update_yaxes(range=[0, 100])
    figure.update_xaxes(tickangle=-90)
    many = len(tables[0]) > MOST_BARS
    x = f"class, the worst {MOST_BARS}" if many else "class, the worst first"
    return laid_out(figure, x, "top-1 accuracy, %")


def calibration(scored: Sequence[Scored]) -> go.Figure:
    """Reliability diagram above the number of images in each bin.

    Args:
        scored: One row per model.
    """
    figure = make_subplots(
        rows=2, cols=1, shared_xaxes=True, row_heights=[0.72, 0.28], vertical_spacing=0.06
    )
    figure.add_scatter(
        x=[0, 1], y=[0, 1], mode="lines", line=GUIDE, name="perfect", hoverinfo="skip"
    )
    for i, one in enumerate(scored):
        _add_reliability(figure, one, colour(i), SYMBOLS[i % len(SYMBOLS)])
    figure.update_yaxes(title_text="images", row=2, col=1)
    figure.update_xaxes(title_text="posterior of the best class", range=[0, 1.02], row=2, col=1)
    figure.update_xaxes(range=[0, 1.02], row=1, col=1)
    figure.update_yaxes(
        title_text="share that is right", range=[0, 1.05], tickformat=".0%", row=1, col=1
    )
    return laid_out(figure, None, None, height=520)


def _add_reliability(figure: go.Figure, scored: Scored, colour: str, symbol: str) -> None:
    """One model's line in the upper plot, and its bars in the lower one."""
    right = scored.ranks == 0
    bins = reliability(scored.confidence, right)
    filled = [b for b in bins if b.images]
    error = expected_calibration_error(scored.confidence, right)
    figure.add_scatter(
        x=[b.confidence for b in filled],
        y=[b.accuracy for b in filled],
        mode="lines+markers",
        marker={"color": colour, "size": 8, "symbol": symbol},
        line={"color": colour, "width": 1.5},
        name=escape(f"{_name(scored.record)}: ECE {error:.1f} %"),
        text=[b.images for b in filled],
        hovertemplate="posterior %{x:.3f}, right %{y:.1%} of %{text} images<extra></extra>",
    )
    figure.add_bar(
        x=(np.arange(BINS) + 0.5) / BINS,
        y=[b.images for b in bins],
        marker={"color": colour, "opacity": 0.7},
        showlegend=False,
        row=2,
        col=1,
        hovertemplate="%{y} images<extra></extra>",
    )


def confused(table: pd.DataFrame) -> go.Figure:
    """The most confused pairs of classes of one row.

    Args:
        table: Of `bench.accuracy.by_class.confusions`, with at least one pair.
    """
    shown = table.head(MOST_PAIRS)[::-1]
    pairs = list(zip(shown.name, shown.taken_for_name, strict=True))
    ids = zip(shown["class"], shown.taken_for, shown.share_pct, strict=True)
    figure = go.Figure()
    figure.add_bar(
        x=shown.images,
        y=[f"{_short(true)} →<br>{_short(best)}" for true, best in pairs],
        orientation="h",
        marker={"color": COLOURS[1]},
        text=[f"{escape(f'{true} → {best}')}: {share:.1f} %" for true, best, share in ids],
        textposition="none",
        hovertemplate="%{y}: %{x} images<br>%{text} of the class<extra></extra>",
    )
    figure.update_yaxes(automargin=True)
    return laid_out(figure, "images", None, height=120 + 36 * len(shown))


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points that no other point beats in both coordinates.

    Example:
        >>> front([(1.0, 5.0), (2.0, 6.0), (3.0, 4.0)])
        [0, 2]

    Args:
        points: Lower is better in both coordinates.

    Returns:
        Sorted by the first coordinate.
    """
    best: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: points[i]):
        if not best or points[i][1] < points[best[-1]][1]:
            best.append(i)
    return best


def laid_out(figure: go.Figure, x: str | None, y: str | None, height: int = 440) -> go.Figure:
    """Add what all plots share. There is no background: the page's own shows through.

    Args:
        figure: The plot, which is changed.
        x: Title of the horizontal axis.
        y: Title of the vertical axis.
        height: Pixels.
    """
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 64, "r": 16, "t": 16, "b": 56},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13},
        showlegend=False,
        hoverlabel={"font": {"size": 12}},
        bargap=0.25,
    )
    if x:
        figure.update_xaxes(title_text=x, automargin=True)
    if y:
        figure.update_yaxes(title_text=y, automargin=True)
    return figure


def _interval(rows: Sequence[AccuracyRow]) -> dict[str, Any]:
    """Error bars from the 95 % intervals."""
    return {
        "type": "data",
        "symmetric": False,
        "thickness": 1,
        "width": 3,
        "array": [r.top1_high_pct - r.top1_error_pct for r in rows],
        "arrayminus": [r.top1_error_pct - r.top1_low_pct for r in rows],
    }


def _described(r: AccuracyRow) -> str:
    """A whole row, for hovering."""
    flips = "with" if r.flips else "without"
    lines = (
        _name(r),
        f"{r.protocol}, Q {r.scales}, {flips} flips, {r.views} views",
        f"top-1 error {r.top1_error_pct:.2f} % ({r.top1_low_pct:.1f}-{r.top1_high_pct:.1f}), "
        f"top-5 {r.top5_error_pct:.2f} %",
        f"{r.ms_per_image:.1f} ms per image",
    )
    return "<br>".join(map(escape, lines))


def _name(r: AccuracyRow | LatencyRow) -> str:
    return f"{r.model}, {r.runtime} {r.precision}"


def _model_and_protocol(r: AccuracyRow) -> tuple[str, str]:
    return _name(r), r.protocol


def _scales(r: AccuracyRow) -> str:
    return escape(r.scales if r.flips or r.protocol == "centre" else f"{r.scales}, no flips")


def _grouped(items: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    groups: dict[K, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _colour(model: str, rows: Sequence[AccuracyRow] | Sequence[LatencyRow]) -> str:
    names = list(dict.fromkeys(_name(r) for r in rows))
    return colour(names.index(model))


def _marker(model: str, protocol: str, rows: Sequence[AccuracyRow]) -> dict[str, str]:
    """Colour by model, symbol by protocol."""
    protocols = list(dict.fromkeys(r.protocol for r in rows))
    symbol = SYMBOLS[protocols.index(protocol) % len(SYMBOLS)]
    return {"color": _colour(model, rows), "symbol": symbol}


def _distinct(table: pd.DataFrame) -> list[str]:
    """Names of classes; a name that two classes share, as crane is in ImageNet, gets its id.

    Args:
        table: With the column "name", and ids as index.
    """
    twice = table.name.duplicated(keep=False)
    described = zip(table.name, table.index, twice, strict=True)
    return [f"{name} ({id})" if shared and id != name else name for name, id, shared in described]


def _short(name: str) -> str:
    return escape(name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…")
