"""Summarises the rounds: one row per evaluation, ratios within rounds."""

import pandas as pd
from peer_comparison.evaluations import LOOP, VIEWS


def summary(samples: pd.DataFrame) -> pd.DataFrame:
    """Median, smallest and largest over the rounds for every evaluation.

    Args:
        samples: As `rounds.run_rounds` yields them.

    Returns:
        The rows of peers.csv. An evaluation that was skipped has only `view`, `way`, `version` and
        the reason in `not_measured`.
    """
    rows = []
    for view, of_view in samples.groupby("view", sort=False):
        measured = of_view[of_view.skipped == ""]
        speeds = measured.pivot(index="round", columns="way", values="images_per_s")
        compared_with = {evaluation.name: evaluation.ours for evaluation in VIEWS[view]}
        for name, own in of_view.groupby("way", sort=False):
            row = {
                "view": view,
                "way": name,
                "version": own.version.iloc[0],
                "not_measured": own.skipped.iloc[0],
            }
            if not row["not_measured"]:
                row |= measured_row(of_view, speeds, name, compared_with[name])
            rows.append(row)
    return pd.DataFrame(rows)


def measured_row(of_view: pd.DataFrame, speeds: pd.DataFrame, name: str, ours: str) -> dict:
    """Speed, ratios, accuracy and memory of one evaluation.

    Args:
        of_view: Samples of the view.
        speeds: Images per second; one row per round, one column per evaluation.
        name: The evaluation.
        ours: Our evaluation that it is compared with; empty for one of ours.
    """
    own = of_view[of_view.way == name]
    speed = speeds[name]
    ours_times_as_fast = speeds[ours or name] / speed
    of_loop = speed / speeds[LOOP]
    return {
        "images": own.images.iloc[0],
        "rounds": len(own),
        **median_and_range("images_per_s", speed),
        "ours": ours,
        **median_and_range("ours_times_as_fast", ours_times_as_fast),
        **median_and_range("of_loop", of_loop),
        "top1_error_pct": own.top1_error_pct.iloc[0],
        "same_best_class": agreement(of_view, name, ours or name),
        "peak_mib": own.peak_mib.median(),
        "process_s": own.process_s.median(),
    }


def median_and_range(column: str, values: pd.Series) -> dict[str, float]:
    """Median, smallest and largest as three columns."""
    return {
        column: values.median(),
        f"{column}_min": values.min(),
        f"{column}_max": values.max(),
    }


def agreement(of_view: pd.DataFrame, name: str, ours: str) -> int | None:
    """Number of images with the same best class as in our row; None without images."""
    our_classes, classes = (of_view[of_view.way == way].predictions.iloc[0] for way in (ours, name))
    if not our_classes:
        return None
    return sum(a == b for a, b in zip(our_classes, classes, strict=True))
