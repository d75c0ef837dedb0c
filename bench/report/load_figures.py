"""Draws load tests: latency against the offered load, and throughput by setting."""

from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go

from bench.load.rows import OFFLINE, SERVER, LoadRow
from bench.report.figures import GUIDE, SYMBOLS, laid_out
from vgg_deploy.palette import colour


def curves(rows: Sequence[LoadRow]) -> go.Figure:
    """p99 with its interval, and the median, against the offered load; one colour per setting.

    Args:
        rows: Of the load table.
    """
    figure = go.Figure()
    server = [row for row in rows if row.scenario == SERVER and row.latencies.p50_ms > 0]
    for i, name in enumerate(dict.fromkeys(_named(row) for row in server)):
        own = sorted((r for r in server if _named(r) == name), key=lambda r: r.offered_per_s)
        loads = [row.offered_per_s for row in own]
        shared = {"x": loads, "hovertemplate": "%{text}<extra></extra>"}
        shared["text"] = [_described(row) for row in own]
        figure.add_scatter(
            y=[row.latencies.p50_ms for row in own],
            mode="lines",
            line={"color": colour(i), "dash": "dot", "width": 1.2},
            name=escape(f"{name}: median"),
            showlegend=False,
            **shared,
        )
        figure.add_scatter(
            y=[row.latencies.p99_ms for row in own],
            mode="lines+markers",
            marker={"color": colour(i), "size": 8, "symbol": SYMBOLS[i % len(SYMBOLS)]},
            line={"color": colour(i), "width": 1.8},
            error_y=_interval_of_p99(own),
            name=escape(name),
            **shared,
        )
    for bound in dict.fromkeys(row.bound_ms for row in server):
        bounded = [row.offered_per_s for row in server if row.bound_ms == bound]
        figure.add_scatter(
            x=[0, max(bounded)],
            y=[bound, bound],
            mode="lines",
            line=GUIDE,
            name=f"bound {bound:.4g} ms",
            hoverinfo="name",
        )
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(type="log")
    return laid_out(figure, "offered load, images/s", "latency from the arrival, ms")


def settings(rows: Sequence[LoadRow]) -> go.Figure:
    """Images per second of every setting offline, one colour per model.

    Args:
        rows: Of the load table.
    """
    figure = go.Figure()
    offline = [row for row in rows if row.scenario == OFFLINE]
    for i, name in enumerate(dict.fromkeys(_model(row) for row in offline)):
        own = [row for row in offline if _model(row) == name]
        figure.add_bar(
            x=[_short(row) for row in own],
            y=[row.images_per_s for row in own],
            error_y={
                "type": "data",
                "symmetric": False,
                "thickness": 1,
                "array": [row.images_per_s_high - row.images_per_s for row in own],
                "arrayminus": [row.images_per_s - row.images_per_s_low for row in own],
            },
            marker={"color": colour(i)},
            name=escape(name),
            hovertemplate="%{x}: %{y:.2f} images/s<extra></extra>",
        )
    return laid_out(figure, "instances x threads, batch", "images/s")


def _interval_of_p99(rows: Sequence[LoadRow]) -> dict[str, object]:
    """Error bars; a missing end has none."""
    found = [row.latencies for row in rows]
    return {
        "type": "data",
        "symmetric": False,
        "thickness": 1,
        "width": 3,
        "array": [one.p99_high_ms - one.p99_ms for one in found],
        "arrayminus": [one.p99_ms - one.p99_low_ms for one in found],
    }


def _model(row: LoadRow) -> str:
    return f"{row.model}, {row.runtime} {row.precision}"


def _named(row: LoadRow) -> str:
    return f"{row.model}, {row.runtime} {row.precision}, {_short(row)}"


def _short(row: LoadRow) -> str:
    return f"{row.instances} x {row.threads}, batch {row.batch}"


def _described(row: LoadRow) -> str:
    """A whole row, for hovering."""
    found = row.latencies
    lines = (
        _named(row),
        f"{row.offered_per_s:.3g} images/s arrive, {row.images_per_s:.3g} are answered",
        f"p50 {found.p50_ms:.1f}, p90 {found.p90_ms:.1f}, p99 {found.p99_ms:.1f} ms",
        f"{row.queries} queries, {row.dropped} dropped; p99 within the bound: {row.within}",
    )
    return "<br>".join(map(escape, lines))
