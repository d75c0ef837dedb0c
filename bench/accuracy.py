"""Rows of the accuracy table: averages over cells, scored."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bench.cells import Cell, Measured
from vgg_deploy.scoring import average, error_pct, ranks, wilson_pct


@dataclass(frozen=True)
class AccuracyRow:
    """One protocol of one model; field names are the columns of accuracy.csv."""

    model: str
    runtime: str
    precision: str
    protocol: str  # "dense"
    scales: str  # Q in pixels, joined by +
    flips: bool
    images: int
    top1_error_pct: float
    top1_low_pct: float  # 95 % interval
    top1_high_pct: float
    top5_error_pct: float
    top5_low_pct: float
    top5_high_pct: float
    agreement_pct: float  # images whose best class is the first model's in the same protocol


def accuracy_rows(models: list[dict], measured: Measured, labels: list[np.ndarray]) -> list[AccuracyRow]:
    """Every scale alone and all together, without and with flips.

    Args: models, fields `model`, `runtime`, `precision` of each; labels, (images,) in each model's own class order.
    """
    rows, best_of_first = [], {}
    for m, described in enumerate(models):
        for scales, flips, posteriors in _protocols(m, measured):
            best = posteriors.argmax(1)
            first = best_of_first.setdefault((scales, flips), best)
            places = ranks(posteriors, labels[m])
            top1, top5 = error_pct(places, 1), error_pct(places, 5)
            rows.append(
                AccuracyRow(
                    **described, protocol="dense", scales="+".join(map(str, scales)), flips=flips, images=len(places),
                    top1_error_pct=top1, top1_low_pct=wilson_pct(top1, len(places)).low, top1_high_pct=wilson_pct(top1, len(places)).high,
                    top5_error_pct=top5, top5_low_pct=wilson_pct(top5, len(places)).low, top5_high_pct=wilson_pct(top5, len(places)).high,
                    agreement_pct=float(100 * np.mean(best == first)),
                )  # fmt: skip
            )
    return rows


def _protocols(model: int, measured: Measured) -> Iterator[tuple[tuple[int, ...], bool, np.ndarray]]:
    """(scales, flips, posteriors) of one model."""
    sides = sorted({cell.side for cell in measured.cells})
    flips = sorted({cell.mirrored for cell in measured.cells})
    together = [tuple(sides)] if len(sides) > 1 else []
    for scales in [*((side,) for side in sides), *together]:
        for flip in flips:
            views = (False, True) if flip else (False,)
            yield scales, flip, average([measured.cells[Cell(model, side, mirrored)] for side in scales for mirrored in views])
