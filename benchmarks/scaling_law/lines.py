"""Fits lines through the series, and splits deviations from them by layer."""

from dataclasses import asdict

import numpy as np
import pandas as pd
from scaling_law.layers import LayerSeconds
from scaling_law.work import IMAGES, InputShape, Point, group_work

from vgg_deploy.net.spec import NetSpec


def with_lines(points: list[Point]) -> pd.DataFrame:
    """Fit each series by least squares: time through the origin, time and memory with intercept.

    Returns:
        One row per point: its fields, `slope_s_per_gmac` and `deviation_pct` of the line through
        the origin, `line_slope_s_per_gmac`, `line_intercept_s` and `line_deviation_pct` of the
        line with intercept, and `memory_slope_mib_per_gmac`, `memory_intercept_mib` and
        `memory_deviation_pct` of memory's line with intercept.
    """
    table = pd.DataFrame([asdict(point) for point in points])
    for _, own in table.groupby(["series", "runtime"], sort=False):
        x, y, memory = own.gmacs, own.median_s, own.peak_mib
        origin_slope = (x * y).sum() / (x * x).sum()
        slope, intercept = np.polyfit(x, y, 1)
        memory_slope, memory_intercept = np.polyfit(x, memory, 1)
        columns = {
            "slope_s_per_gmac": origin_slope,
            "deviation_pct": 100 * (y / (origin_slope * x) - 1),
            "line_slope_s_per_gmac": slope,
            "line_intercept_s": intercept,
            "line_deviation_pct": 100 * (y / (intercept + slope * x) - 1),
            "memory_slope_mib_per_gmac": memory_slope,
            "memory_intercept_mib": memory_intercept,
            "memory_deviation_pct": 100 * (memory / (memory_intercept + memory_slope * x) - 1),
        }
        for column, values in columns.items():
            table.loc[own.index, column] = values
    return table


def by_layers(table: pd.DataFrame, spec: NetSpec, layers: dict[str, LayerSeconds]) -> pd.DataFrame:
    """Split each deviation from the line through the origin into groups of layers.

    Args:
        table: As `with_lines` returns it.
        spec: The net.
        layers: Seconds per group of layers for each runtime.

    Returns:
        One row per shape and group. `excess_pct` is the group's time beyond what the line gives to
        its multiply-accumulates, in per cent of the line's time for the whole call. Its sum over
        the groups is the deviation of the profiled call.
    """
    rows = []
    for point in table[table.series != IMAGES].itertuples():
        shape = InputShape(point.batch, point.height_px, point.width_px)
        macs = group_work(spec, shape)
        line_s = point.slope_s_per_gmac * point.gmacs
        for group, seconds in layers[point.runtime][shape].items():
            gmacs = macs.get(group, 0) / 1e9
            excess = 100 * (seconds - point.slope_s_per_gmac * gmacs) / line_s
            rows.append(
                {
                    "series": point.series,
                    "runtime": point.runtime,
                    **shape._asdict(),
                    "group": group,
                    "seconds": seconds,
                    "gmacs": gmacs,
                    "excess_pct": excess,
                }
            )
    return pd.DataFrame(rows)
