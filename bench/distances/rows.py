"""Computes the rows of the distance table."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.distances.measure import Measured, Photos, photo_of_pairs
from bench.distances.models import are_comparable
from bench.report.tables import HeadAndCells, Texts
from bench.statistics.rank_interval import RankCorrelation, rank_correlation
from vgg_deploy.images.distortions import DISTORTIONS

TWO_SIDED = 0.025  # each end of a 95 % interval


@dataclass(frozen=True)
class DistanceRow:
    """One model at one scale, beside the first model. Field names are columns of distances.csv."""

    model: str
    runtime: str
    precision: str
    reference: str
    distance: str
    side_px: int
    photos: int
    pairs: int
    spearman: float | None
    spearman_low: float | None
    spearman_high: float | None
    largest_error: float | None
    rms_error_pct: float | None
    mean_distance: float
    ms_per_pair: float


@dataclass(frozen=True, eq=False)
class Judged:
    """A row, and what it is judged by.

    Attributes:
        row: Of the table.
        is_reference: Whether it is the first model's.
        correlation: With the first model; None for the first model.
        errors: (pairs,) float64, differences from the first model; None where the two measure
            other distances, and for the first model.
        is_finite: Whether all distances are finite.
    """

    row: DistanceRow
    is_reference: bool
    correlation: RankCorrelation | None
    errors: np.ndarray | None
    is_finite: bool


def distance_rows(measured: Sequence[Measured], photos: Photos) -> list[Judged]:
    """Compare every model with the first, scale by scale.

    Args:
        measured: Of `measure_distances`.
        photos: Of `measure_distances`.
    """
    first = measured[0].model
    references = {one.side: one for one in measured if one.model is first}
    return [_judged(one, references[one.side], photos) for one in measured]


def _judged(one: Measured, reference: Measured, photos: Photos) -> Judged:
    is_reference = one is reference
    distances = one.distances.astype(np.float64)
    expected = reference.distances.astype(np.float64)
    finite = bool(np.isfinite(distances).all() and np.isfinite(expected).all())
    artifact = one.model.runtime.artifact
    correlation = errors = None
    if not is_reference:
        correlation = rank_correlation(distances, expected, photo_of_pairs(len(photos.names)))
        if are_comparable(artifact, reference.model.runtime.artifact):
            errors = distances - expected
    low, high = (
        correlation.bounds(TWO_SIDED)
        if correlation is not None and correlation.centre is not None
        else (None, None)
    )
    power = float(np.sqrt(np.mean(expected**2)))
    row = DistanceRow(
        **one.model.described,
        reference=reference.model.name,
        distance=artifact.kind,
        side_px=one.side,
        photos=len(photos.names),
        pairs=len(distances),
        spearman=correlation.value if correlation is not None else None,
        spearman_low=low,
        spearman_high=high,
        largest_error=None if errors is None else float(np.abs(errors).max()),
        rms_error_pct=(
            None
            if errors is None or power == 0
            else 100 * float(np.sqrt(np.mean(errors**2))) / power
        ),
        mean_distance=float(distances.mean()),
        ms_per_pair=float(np.median(one.ms)),
    )
    return Judged(row, is_reference, correlation, errors, finite)


def pair_frame(measured: Sequence[Measured], photos: Photos) -> pd.DataFrame:
    """One row per model, scale and pair, the columns of distance_pairs.csv."""
    frames = []
    count = len(photos.names)
    for one in measured:
        frames.append(
            pd.DataFrame(
                {
                    **one.model.described,
                    "side_px": one.side,
                    "photo": np.repeat(photos.names, len(DISTORTIONS)),
                    "distortion": [d.kind for d in DISTORTIONS] * count,
                    "strength": [d.strength for d in DISTORTIONS] * count,
                    "distance": one.distances,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def distance_texts(rows: Sequence[DistanceRow]) -> Texts:
    """The table for people.

    Args:
        rows: At least one.
    """
    columns: list[HeadAndCells] = [
        ("model", [r.model for r in rows]),
        ("runtime", [f"{r.runtime} {r.precision}" for r in rows]),
        ("Q", [str(r.side_px) for r in rows]),
        ("pairs", [f"{r.pairs:,}" for r in rows]),
        ("Spearman", [_number(r.spearman, ".5f") for r in rows]),
        ("95 %", [_interval(r) for r in rows]),
        ("largest error", [_number(r.largest_error, ".2g") for r in rows]),
        ("RMS error %", [_number(r.rms_error_pct, ".2g") for r in rows]),
        ("mean distance", [f"{r.mean_distance:.4g}" for r in rows]),
        ("ms/pair", [f"{r.ms_per_pair:.1f}" for r in rows]),
    ]
    first = rows[0]
    title = (
        f"Distances, {first.photos} photos beside 15 distortions of each, against {first.reference}"
    )
    return Texts.of_columns(title, columns).without_empty_columns()


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _interval(row: DistanceRow) -> str:
    if row.spearman_low is None or row.spearman_high is None:
        return "-"
    return f"{row.spearman_low:.5f} to {row.spearman_high:.5f}"
