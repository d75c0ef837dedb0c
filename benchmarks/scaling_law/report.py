"""Writes the measurements as Markdown."""

import pandas as pd
from result_tables import markdown_table
from scaling_law.work import GROUPS, IMAGES, NAMES, OTHER, SIZE

from vgg_deploy.net.archs import ARCHS
from vgg_deploy.net.spec import NetSpec

TITLE = "# Time and memory against multiply-accumulates, VGG-{arch}, width {width:g}"
READING = (
    "The largest amounts of work decide the line through the origin. Deviations from it are costs "
    "that do not grow with the work."
)
EXCESS = (
    "The same deviation by layer, in per cent of the line (the sum is the deviation of one "
    "profiled call), and the time per GMAC:"
)


def document(
    table: pd.DataFrame, layers: pd.DataFrame, spec: NetSpec, threads: int, rounds: int
) -> str:
    """All of scaling.md except the description of the machine."""
    title = TITLE.format(arch=spec.arch, width=spec.width)
    return (
        f"{title}, {threads} threads\n\n"
        f"Medians of {rounds} rounds in turn. {READING} {about_fc6(layers, spec)}\n\n"
        f"![scaling](scaling.png)\n\n{series_tables(table, layers)}"
    )


def about_fc6(layers: pd.DataFrame, spec: NetSpec) -> str:
    """One sentence on the cost of reading fc6's weights, for the least and the most positions."""
    fc6 = ARCHS[spec.arch].head(len(spec.classes), spec.width, spec.crop)[0]
    megabytes = 4 * fc6.kernel**2 * fc6.c_in * fc6.c_out / 1e6
    parts = []
    for runtime, own in layers[layers.group == "fc6"].groupby("runtime", sort=False):
        own = own.drop_duplicates(["batch", "height", "width"]).sort_values("gmacs")
        least, most = own.iloc[0], own.iloc[-1]
        parts.append(
            f"in {NAMES[runtime]} {1000 * least.seconds:.1f} ms for one score "
            f"({megabytes / 1000 / least.seconds:.1f} GB/s), "
            f"{1000 * least.seconds / least.gmacs:.0f} ms per GMAC, and "
            f"{1000 * most.seconds / most.gmacs:.0f} ms per GMAC "
            f"for {most.gmacs / least.gmacs:.0f} scores"
        )
    return f"fc6 has {megabytes:.0f} MB of weights, which every call reads: {'; '.join(parts)}."


def series_tables(table: pd.DataFrame, layers: pd.DataFrame) -> str:
    """One section per series and runtime: its lines, its points, its deviations by layer."""
    parts = []
    for (series, runtime), own in table.groupby(["series", "runtime"], sort=False):
        parts += [f"## {NAMES[runtime]}: {series}", fitted_lines(own), points_table(own, series)]
        if series != IMAGES:
            of_series = layers[(layers.series == series) & (layers.runtime == runtime)]
            parts += [EXCESS, excess_table(own, of_series, series)]
    return "\n\n".join(part.rstrip("\n") for part in parts)


def fitted_lines(own: pd.DataFrame) -> str:
    """The coefficients of one series."""
    first = own.iloc[0]
    return (
        f"Through the origin: {1000 * first.slope_s_per_gmac:.2f} ms per GMAC "
        f"({2 / first.slope_s_per_gmac:.0f} GFLOP/s). With an intercept: "
        f"{1000 * first.line_intercept_s:.1f} ms + "
        f"{1000 * first.line_slope_s_per_gmac:.2f} ms per GMAC. "
        f"Memory: {first.memory_intercept_mib:.0f} MiB + "
        f"{first.memory_slope_mib_per_gmac:.2f} MiB per GMAC."
    )


def points_table(own: pd.DataFrame, series: str) -> str:
    """One row per point."""
    heads = [
        series,
        "GMAC",
        "s",
        "of rounds",
        "off the line through the origin %",
        "off the line with intercept %",
        "peak MiB",
        "off its line %",
    ]
    rows = [
        [
            label(row),
            f"{row.gmacs:.2f}",
            f"{row.median_s:.3f}",
            f"{row.min_s:.3f}-{row.max_s:.3f}",
            f"{row.deviation_pct:+.1f}",
            f"{row.line_deviation_pct:+.1f}",
            f"{row.peak_mib:.0f}",
            f"{row.memory_deviation_pct:+.1f}",
        ]
        for row in own.itertuples()
    ]
    return markdown_table(heads, rows)


def excess_table(own: pd.DataFrame, layers: pd.DataFrame, series: str) -> str:
    """One row per shape: the excess of each group, and ms per GMAC of the stages and of fc6."""
    groups = (*GROUPS, OTHER)
    rows = []
    for row in own.itertuples():
        same_shape = (
            (layers.batch == row.batch)
            & (layers.height == row.height_px)
            & (layers.width == row.width_px)
        )
        by_group = layers[same_shape].set_index("group")
        stages = by_group.loc[list(GROUPS[:5])]
        fc6 = by_group.loc["fc6"]
        rows.append(
            [
                label(row),
                *(f"{by_group.excess_pct[group]:+.1f}" for group in groups),
                f"{by_group.excess_pct.sum():+.1f}",
                f"{1000 * stages.seconds.sum() / stages.gmacs.sum():.2f}",
                f"{1000 * fc6.seconds / fc6.gmacs:.1f}",
            ]
        )
    return markdown_table([series, *groups, "sum", "ms per GMAC: stages", "fc6"], rows)


def label(row) -> str:
    """Label of a row: "224 x 224" for a size, "8" for a batch, "400" for a number of images."""
    return f"{row.height_px} x {row.width_px}" if row.series == SIZE else str(row.batch)
