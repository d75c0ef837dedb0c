"""Judges distance files by limits: Spearman's correlation and the largest error."""

from collections.abc import Sequence

import numpy as np

from bench.distances.rows import Judged
from bench.gate.fact_checks import check_left_out
from bench.gate.gate_limits import GateLimits
from bench.gate.method import FIXED, Method
from bench.gate.verdict import LISTED, Check, Gate
from bench.statistics.rank_interval import LEAST_PHOTOS, RankCorrelation
from vgg_deploy.images.distortions import DISTORTIONS
from vgg_deploy.statistics.evidence import Verdict, verdicts

JACKKNIFE = FIXED._replace(
    source="jackknife over photos of Fisher's transform of the rank correlation, Student's t, one-"
    "sided, approximate (Miller 1974); fails corrected over all rows by Holm 1979"
)


def judge_distances(
    judged: Sequence[Judged],
    limits: GateLimits,
    names: list[str],
    left_out: list[str],
) -> Gate:
    """Judge every row but the first model's.

    Args:
        judged: Of `distance_rows`.
        limits: What is allowed.
        names: Of the photos.
        left_out: One message per photo that was not measured.
    """
    method: Method = JACKKNIFE
    checks = [check_left_out(limits, left_out), *(_finite(one) for one in judged)]
    others = [one for one in judged if not one.is_reference]
    if limits.distance_error is not None:
        checks += [_largest_error(one, limits.distance_error, names) for one in others]
    if limits.spearman is not None:
        checks += _correlations(others, limits.spearman)
    return Gate(
        reference=judged[0].row.reference,
        limits=limits,
        method=method,
        checks=checks,
        warnings=[],
        equal=[],
        images=len(names),
        images_there=len(names) + len(left_out),
        left_out=left_out,
    )


def _finite(one: Judged) -> Check:
    """Distances that are not finite are a fault."""
    verdict = Verdict.PASS if one.is_finite else Verdict.FAIL
    message = "nothing found" if one.is_finite else "gives distances that are not finite"
    return Check(one.row.model, "finite distances", _label(one), verdict, message)


def _largest_error(one: Judged, limit: float, names: list[str]) -> Check:
    """A fact about the pairs that were measured."""
    row = one.row
    if one.errors is None:
        return Check(
            row.model,
            "distance error",
            _label(one),
            Verdict.FAIL,
            f"measures another distance than {row.reference}, so its errors mean nothing",
            limit=limit,
        )
    errors = np.abs(one.errors)
    beyond = np.flatnonzero(~(errors <= limit))
    beyond = beyond[np.argsort(-errors[beyond], kind="stable")]  # the farthest first
    pairs = [
        f"{names[i // len(DISTORTIONS)]} ({DISTORTIONS[i % len(DISTORTIONS)].kind} "
        f"{DISTORTIONS[i % len(DISTORTIONS)].strength})"
        for i in beyond[:LISTED]
    ]
    if not one.is_finite:
        message = "its distances are not finite, so its errors mean nothing"
        return Check(row.model, "distance error", _label(one), Verdict.FAIL, message, limit=limit)
    found = float(errors.max())
    return Check(
        model=row.model,
        check="distance error",
        rows=_label(one),
        verdict=Verdict.FAIL if len(beyond) else Verdict.PASS,
        message=f"its distances differ from {row.reference}'s by up to {found:.2g} on {row.pairs} "
        f"pairs, allowed {limit:g}",
        found=found,
        limit=limit,
        images_counted=row.photos,
        images=tuple(pairs),
        images_total=len(beyond),
    )


def _correlations(others: Sequence[Judged], limit: float) -> list[Check]:
    """Decided by the interval, and undecided if the limit lies in it."""
    compared = [(one, one.correlation) for one in others if one.correlation is not None]
    evidence = [correlation.evidence(limit) for _, correlation in compared]
    answers = verdicts(evidence, JACKKNIFE.level)
    return [
        _correlation(one, correlation, limit, verdict)
        for (one, correlation), verdict in zip(compared, answers, strict=True)
    ]


def _correlation(
    one: Judged, correlation: RankCorrelation, limit: float, verdict: Verdict
) -> Check:
    row = one.row
    if np.isnan(correlation.value):
        return Check(
            row.model,
            "rank correlation",
            _label(one),
            Verdict.FAIL,
            "its distances cannot be ranked, as they are all the same or not finite",
            limit=limit,
        )
    low, high = correlation.bounds(JACKKNIFE.level)
    text = (
        f"Spearman's correlation with {row.reference} is {correlation.value:.5f} on {row.pairs} "
        f"pairs of {row.photos} photos (95 % bounds: {low:.5f} to {high:.5f}), required {limit:g}"
    )
    undecided = verdict == Verdict.UNDECIDED
    needed = correlation.photos_to_decide(limit) if undecided else None
    if undecided and correlation.centre is None:
        text += f"; too few photos for a verdict, at least {LEAST_PHOTOS} are needed"
    elif undecided and needed:
        text += f"; too few photos for a verdict, about {needed:,} are needed"
    elif undecided:
        text += "; no number of photos decides a limit that equals what was seen"
    return Check(
        model=row.model,
        check="rank correlation",
        rows=_label(one),
        verdict=verdict,
        message=text,
        found=correlation.value,
        limit=limit,
        low=low,
        high=high,
        images_counted=row.photos,
        images_to_decide=needed,
    )


def _label(one: Judged) -> str:
    return f"Q {one.row.side_px}"
