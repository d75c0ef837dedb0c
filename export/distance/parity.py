"""Compares the distances of a file with those of its reference, and judges them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.rank_correlation import spearman

# Largest difference of a float32 file's distance, over the largest distance of the check pairs.
# Rounding in another order gives about 1e-6; a wrong pixel, border or weight gives 1e-2 and more
EXACT = 1e-4
# Root mean square of the differences over that of the distances, of the check pairs
REDUCED = {"fp16": 1e-2, "bf16": 5e-2}
SELF = 1e-6  # distance of an image from itself, over the largest distance
HIGH_PCT, MOST_PCT = 30.0, 100.0  # of the root mean square error on distorted photos
HIGH_SPEARMAN, LEAST_SPEARMAN = 0.98, 0.8
ADVICE = "calibrate on more images, keep some layers, or take another precision"


@dataclass(frozen=True)
class PairParity:
    """One batch of pairs in a file and in its reference.

    Attributes:
        pairs: Number of pairs.
        height: Of the images, pixels.
        width: Of the images, pixels.
        difference: Largest difference of any distance.
        largest: Largest distance of the reference.
        of_equal: Largest distance of two equal images; None if there were none.
    """

    pairs: int
    height: int
    width: int
    difference: float
    largest: float
    of_equal: float | None


@dataclass(frozen=True)
class DistortedParity:
    """A file and its reference on distorted photos.

    Attributes:
        photos: Number of photos.
        pairs: Number of pairs, each a photo and a distortion of it.
        spearman: Rank correlation of the distances over all pairs.
        largest_error: Largest difference of any distance.
        error_pct: Root mean square of the differences in per cent of that of the distances.
        mean_distance: Of the reference.
    """

    photos: int
    pairs: int
    spearman: float
    largest_error: float
    error_pct: float
    mean_distance: float

    @property
    def rating(self) -> str:
        """In one word: "broken", "high" or "usual"."""
        if not (self.spearman >= LEAST_SPEARMAN and self.error_pct <= MOST_PCT):
            return "broken"
        is_high = self.spearman < HIGH_SPEARMAN or self.error_pct > HIGH_PCT
        return "high" if is_high else "usual"

    def text(self) -> str:
        """In one sentence."""
        return (
            f"on {self.pairs} pairs of photos and distorted photos its distances differ from the "
            f"float32 net's by {self.error_pct:.2g} % (root mean square), by "
            f"{self.largest_error:.2g} at most, and Spearman's correlation is {self.spearman:.4f}"
        )


def compare_pairs(
    found: np.ndarray, reference: np.ndarray, first: np.ndarray, second: np.ndarray
) -> PairParity:
    """Compare the distances of one batch.

    Args:
        found: (N,) of the file.
        reference: (N,) of its reference.
        first: (N, 3, H, W) uint8, the images.
        second: The same.
    """
    equal = (first == second).all((1, 2, 3))
    return PairParity(
        pairs=len(found),
        height=first.shape[2],
        width=first.shape[3],
        difference=float(np.abs(found - reference).max()),
        largest=float(reference.max()),
        of_equal=float(np.abs(found[equal]).max()) if equal.any() else None,
    )


def compare_distorted(found: np.ndarray, reference: np.ndarray, photos: int) -> DistortedParity:
    """Compare distances of photos and their distortions.

    Args:
        found: (N,) of the file.
        reference: (N,) of its reference.
        photos: Number of photos among them.
    """
    difference = found.astype(np.float64) - reference
    power = float(np.sqrt(np.mean(reference.astype(np.float64) ** 2)))
    return DistortedParity(
        photos=photos,
        pairs=len(found),
        spearman=spearman(found, reference),
        largest_error=float(np.abs(difference).max()),
        error_pct=100 * float(np.sqrt(np.mean(difference**2))) / power if power else np.inf,
        mean_distance=float(reference.mean()),
    )


def judge_reference(distances: np.ndarray, source: Path) -> None:
    """Refuse distances that nothing can be compared with.

    Args:
        distances: Of the float32 net for the check pairs.
        source: The file of the net.

    Raises:
        InputError: If they are not finite, or all zero.
    """
    if not np.isfinite(distances).all():
        raise InputError(
            f"{source}: its distances are not finite on the built-in images; check its weights"
        )
    if not distances.any():
        raise InputError(
            f"{source}: all its distances are zero on the built-in images; check its weights"
        )


def judge_pairs(results: list[PairParity], precision: str, path: Path, by: str) -> None:
    """Check a file that is not quantized.

    Args:
        results: Of `compare_pairs`, one per batch.
        precision: Its name.
        path: Final name of the file.
        by: Name of the reference.

    Raises:
        CheckFailed: If a distance is too far from the reference's.
    """
    largest = max(result.largest for result in results)
    allowed = REDUCED.get(precision, EXACT)
    for result in results:
        if not result.difference <= allowed * largest:
            raise CheckFailed(
                f"{path.name}: differs from {by} on images of {result.height}x{result.width} "
                f"(batch {result.pairs}) by {result.difference:.1e}, the largest distance is "
                f"{largest:.1e}; allowed is {allowed:.0e} of that"
            )


def judge_equal(results: list[PairParity], path: Path) -> None:
    """Check that equal images have no distance, in every precision.

    Args:
        results: Of `compare_pairs`, one per batch.
        path: Final name of the file.

    Raises:
        CheckFailed: If they have one.
    """
    largest = max(result.largest for result in results)
    for result in results:
        if result.of_equal is not None and not result.of_equal <= SELF * largest:
            raise CheckFailed(
                f"{path.name}: two equal images of {result.height}x{result.width} have the "
                f"distance {result.of_equal:.1e}"
            )


def judge_distorted(
    result: DistortedParity, max_cost: float | None, log: Callable[[str], None], name: str
) -> None:
    """Warn of a high cost, and refuse a cost that is too high.

    Args:
        result: Of the file.
        max_cost: Largest error in per cent; None: any that is not broken.
        log: Called with the warning.
        name: Of the file.

    Raises:
        CheckFailed: If the file is broken or costs more than `max_cost`.
    """
    if result.rating == "broken":
        raise CheckFailed(f"{name}: {result.text()}; it is useless; {ADVICE}")
    if max_cost is not None and not result.error_pct <= max_cost:
        raise CheckFailed(f"{name}: {result.text()}; --max-cost allows {max_cost:g} %")
    if result.rating == "high":
        log(f"Warning: {name} has a high cost: {result.text()}; {ADVICE}")
