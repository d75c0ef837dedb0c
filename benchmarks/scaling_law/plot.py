"""Plots time and memory over multiply-accumulates."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scaling_law.work import BATCH, IMAGES, NAMES, SIZE

from train.record.curves import COLOURS, FAINT, STYLE

ROW_LABELS = ("time, s", "off the line through the origin, %", "peak memory, MiB")


@mpl.rc_context(STYLE)
def plot(table: pd.DataFrame) -> Figure:
    """One column per series; rows are time, deviation from the line and memory, over GMACs."""
    figure = Figure(figsize=(12, 9), layout="constrained")
    all_axes = figure.subplots(3, 3, sharex="col", height_ratios=(3, 2, 2))
    for column, series in zip(all_axes.T, (SIZE, BATCH, IMAGES), strict=True):
        by_runtime = table[table.series == series].groupby("runtime", sort=False)
        for colour, (runtime, own) in zip(COLOURS, by_runtime, strict=False):
            draw(column, own.sort_values("gmacs"), colour, NAMES[runtime])
        column[0].set_title(series, loc="left", fontsize=10, fontweight="bold")
        column[1].axhline(0, color=FAINT, linewidth=0.8)
        column[2].set_xlabel("GMAC of all images" if series == IMAGES else "GMAC of one call")
        column[0].legend(frameon=False, fontsize=8, loc="upper left")
        for axes in (column[0], column[2]):
            axes.set_ylim(0, 1.05 * axes.get_ylim()[1])
        column[0].set_xlim(0)
    for axes, text in zip(all_axes[:, 0], ROW_LABELS, strict=True):
        axes.set_ylabel(text)
    return figure


def draw(column: np.ndarray, own: pd.DataFrame, colour: str, name: str) -> None:
    """Draw one runtime of one series.

    Args:
        column: Axes for time, deviation and memory.
        own: Points of the runtime in the series, by rising work.
        colour: Of all its marks and lines.
        name: Of the runtime, for the legend.
    """
    time, deviation, memory = column
    first, ends = own.iloc[0], np.array([0, own.gmacs.max()])
    spread = [own.median_s - own.min_s, own.max_s - own.median_s]
    time.errorbar(
        own.gmacs,
        own.median_s,
        spread,
        fmt="o",
        color=colour,
        markersize=4,
        linewidth=0,
        elinewidth=1,
        label=name,
    )
    draw_line(time, ends, 0, first.slope_s_per_gmac, colour)
    deviation.plot(own.gmacs, own.deviation_pct, "o-", color=colour, markersize=4, linewidth=1)
    memory.plot(own.gmacs, own.peak_mib, "o", color=colour, markersize=4)
    draw_line(memory, ends, first.memory_intercept_mib, first.memory_slope_mib_per_gmac, colour)


def draw_line(axes: Axes, ends: np.ndarray, intercept: float, slope: float, colour: str) -> None:
    """Draw a fitted line between two amounts of work."""
    axes.plot(ends, intercept + slope * ends, color=colour, linewidth=1)
