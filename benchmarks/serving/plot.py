"""Plots latency and throughput over the offered load."""

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from train.record.curves import COLOURS, FAINT, STYLE


@mpl.rc_context(STYLE)
def plot(table: pd.DataFrame) -> Figure:
    """One column per view: p50, p99 and the limit above, throughput below."""
    views = list(dict.fromkeys(table.view))
    figure = Figure(figsize=(5.5 * len(views), 6), layout="constrained")
    all_axes = figure.subplots(2, len(views), sharex="col", squeeze=False)
    for (latency, throughput), view in zip(all_axes.T, views, strict=True):
        own = table[table.view == view].sort_values("offered")
        for colour, name in zip(COLOURS, ("p50", "p99"), strict=False):
            latency.plot(own.offered, own[f"{name}_ms"], "o-", color=colour, label=name)
        latency.axhline(own.limit_ms.iloc[0], color=FAINT, linewidth=0.8, label="limit")
        latency.set_yscale("log")
        latency.set_title(view, loc="left", fontsize=10, fontweight="bold")
        latency.legend(frameon=False, fontsize=8, loc="upper left")
        throughput.plot(own.offered, own.offered, color=FAINT, linewidth=0.8)
        throughput.plot(own.offered, own.throughput, "o-", color=COLOURS[0])
        throughput.set_xlabel("offered load, requests/s")
        throughput.set_ylim(0)
    all_axes[0, 0].set_ylabel("latency, ms")
    all_axes[1, 0].set_ylabel("answers/s")
    return figure
