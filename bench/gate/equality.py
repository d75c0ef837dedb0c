"""Rows that equal the reference's to rounding: they pass the limits of drop and agreement."""

from bench.accuracy.compare import Pair
from bench.accuracy.distance import LEAST_IMAGES
from bench.gate.gate_limits import GateLimits
from bench.gate.verdict import Check
from vgg_deploy.statistics.evidence import Verdict


def is_equal(pair: Pair, rounding: float | None) -> bool:
    """Whether a row equals the reference's but for rounding.

    Args:
        pair: A row beside the reference's.
        rounding: Largest difference that rounding explains; None for rows that may differ.
    """
    if rounding is None or pair.distance is None:
        return False
    enough = pair.comparison.images >= LEAST_IMAGES
    return enough and pair.comparison.largest_posterior_difference <= rounding


def could_flip(pair: Pair) -> int:
    """Count the images whose best class could change.

    Their margin is below twice the largest difference of posteriors.

    Args:
        pair: A row beside the reference's.
    """
    largest = pair.comparison.largest_posterior_difference
    return int((pair.reference.margin < 2 * largest).sum())


def passed_by_equality(pair: Pair, limits: GateLimits) -> list[Check]:
    """One passed check per limit of drop or agreement.

    Args:
        pair: A row that equals the reference's to rounding.
        limits: What is allowed.
    """
    comparison = pair.comparison
    message = (
        f"equal to {comparison.reference} to rounding on {comparison.images} images (posteriors "
        f"differ by at most {comparison.largest_posterior_difference:.2g}; {could_flip(pair)} "
        "images have a margin below twice that)"
    )
    questions = (
        ("top-1 drop", comparison.top1_difference_pct, limits.top1_drop),
        ("top-5 drop", comparison.top5_difference_pct, limits.top5_drop),
        ("agreement", comparison.agreement_pct, limits.agreement),
    )
    return [
        Check(
            model=comparison.model,
            check=name,
            rows=pair.other.row.label,
            verdict=Verdict.PASS,
            message=message,
            found=found,
            limit=limit,
            images_counted=comparison.images,
        )
        for name, found, limit in questions
        if limit is not None
    ]


def describe_equality(pairs: list[Pair], rows: int) -> str:
    """One sentence about a model.

    Args:
        pairs: Its rows that equal the reference's to rounding, at least one.
        rows: How many rows of the model are judged.
    """
    first = pairs[0].comparison
    where = "" if len(pairs) == rows else f" in {len(pairs)} of {rows} rows, not in the others"
    largest = max(pair.comparison.largest_posterior_difference for pair in pairs)
    flips = max(could_flip(pair) for pair in pairs)
    return (
        f"{first.model} equals {first.reference} to rounding{where}: on {first.images} images its "
        f"posteriors differ by at most {largest:.2g}, so it passes the limits of drop and "
        f"agreement. {flips} images have a margin below {2 * largest:.2g} and could change their "
        "best class."
    )
