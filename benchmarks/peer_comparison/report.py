"""Writes the summary as Markdown and as a bar chart."""

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from result_tables import markdown_table

from train.record.curves import COLOURS, FAINT, INK, STYLE

TITLES = {
    "crop": "Image files to top-1, centre crop 224 of Q {side}",
    "dense": "Image files to top-1, whole images at Q {side}",
    "net": "The net alone, one random 224 x 224 image per call",
}
HEADS = (
    "way",
    "version",
    "images/s",
    "of rounds",
    "times as fast as the plain loop",
    "of rounds",
    "ours is times as fast",
    "of rounds",
    "top-1 error %",
    "best class as ours",
    "peak MiB",
    "whole process s",
)
EXPLANATION = (
    "medians, and from the slowest round to the fastest. images/s are those of the evaluation, "
    'without imports and loading. "Ours" is `python -m bench` with the same runtime and precision '
    "as the row. Fewer best classes agree with the crops of timm and torchvision: both round the "
    "longer side down after rescaling, ours rounds to the nearest pixel, so some crops are shifted "
    "or scaled by a fraction of a pixel."
)


def tables(rows: pd.DataFrame, side: int) -> str:
    """Markdown with one section per view.

    Args:
        rows: As `summary.summary` returns them.
        side: Q, pixels.
    """
    parts = []
    for view, of_view in rows.groupby("view", sort=False):
        parts.append(f"## {TITLES[view].format(side=side)}\n\n{view_table(of_view)}")
    return "\n\n".join(parts)


def view_table(rows: pd.DataFrame) -> str:
    """Table of one view, and a list of what was not measured."""
    records = rows.to_dict("records")
    table = markdown_table(HEADS, [cells(row) for row in records if not row["not_measured"]])
    missing = [
        f"- {row['way']}, not measured: {row['not_measured']}"
        for row in records
        if row["not_measured"]
    ]
    return "\n".join([table, *missing])


def cells(row: dict) -> list[str]:
    """Cells of one row, in the order of HEADS."""
    return [
        row["way"],
        row["version"],
        *median_and_range(row, "images_per_s"),
        *median_and_range(row, "of_loop"),
        *(median_and_range(row, "ours_times_as_fast") if row["ours"] else ("", "")),
        *accuracy_cells(row),
        f"{row['peak_mib']:.0f}",
        f"{row['process_s']:.1f}",
    ]


def median_and_range(row: dict, column: str) -> tuple[str, str]:
    """Median, and smallest to largest."""
    low, high = row[f"{column}_min"], row[f"{column}_max"]
    return f"{row[column]:.2f}", f"{low:.2f}-{high:.2f}"


def accuracy_cells(row: dict) -> tuple[str, str]:
    """Top-1 error and agreement; empty without images."""
    if pd.isna(row["top1_error_pct"]):
        return "", ""
    return f"{row['top1_error_pct']:.2f}", f"{row['same_best_class']:.0f} of {row['images']:.0f}"


@mpl.rc_context(STYLE)
def plot(rows: pd.DataFrame, side: int) -> Figure:
    """Bars of images/s, one panel per view, ours in colour; whiskers span the rounds.

    Args:
        rows: As `summary.summary` returns them.
        side: Q, pixels.
    """
    measured = rows[rows.not_measured == ""]
    views = list(dict.fromkeys(measured["view"]))
    heights = [int((measured["view"] == view).sum()) for view in views]
    figure = Figure(figsize=(9, 1 + 0.34 * sum(heights) + 0.5 * len(views)), layout="constrained")
    panels = figure.subplots(len(views), 1, height_ratios=heights, squeeze=False)[:, 0]
    for axes, view in zip(panels, views, strict=True):
        draw_bars(axes, measured[measured["view"] == view][::-1])
        axes.set_title(TITLES[view].format(side=side), loc="left", fontsize=10, fontweight="bold")
    return figure


def draw_bars(axes: Axes, rows: pd.DataFrame) -> None:
    """Bars of one view, from bottom to top."""
    colours = [FAINT if ours else COLOURS[0] for ours in rows.ours]
    spread = [rows.images_per_s - rows.images_per_s_min, rows.images_per_s_max - rows.images_per_s]
    axes.barh(
        rows.way,
        rows.images_per_s,
        color=colours,
        height=0.65,
        xerr=spread,
        error_kw={"ecolor": INK, "elinewidth": 0.9, "capsize": 2},
    )
    for y, (speed, top) in enumerate(zip(rows.images_per_s, rows.images_per_s_max, strict=True)):
        axes.annotate(
            f"{speed:.2f}",
            (top, y),
            (5, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.grid(axis="x")
    axes.grid(visible=False, axis="y")
    axes.set(xlabel="images/s", xlim=(0, 1.1 * rows.images_per_s_max.max()))
