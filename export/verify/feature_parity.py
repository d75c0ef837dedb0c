"""Compares the features of an exported file with PyTorch's, layer by layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vgg_deploy.errors import CheckFailed

# Largest difference of a float32 file's feature, over the largest feature. Rounding in another
# order gives about 1e-6; a wrong pixel, border or weight gives 1e-2 and more
EXACT = 1e-4
# Root mean square of a float precision's differences, over that of the features
REDUCED = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2}


@dataclass(frozen=True)
class FeatureParity:
    """One layer for one batch of images, in a file and in its reference.

    Attributes:
        layer: Its name.
        batch: Number of images.
        height: Of the images, pixels.
        width: Of the images, pixels.
        shape: Of the feature of one image, (C, h, w).
        difference: Largest difference of any value.
        largest: Largest magnitude of any value of the reference.
        error: Root mean square of the differences, over that of the reference.
        cosine: Smallest cosine between an image's feature and its reference, all positions as one
            vector.
    """

    layer: str
    batch: int
    height: int
    width: int
    shape: tuple[int, int, int]
    difference: float
    largest: float
    error: float
    cosine: float


def compare_features(
    found: Mapping[str, np.ndarray],
    reference: Mapping[str, np.ndarray],
    layers: tuple[str, ...],
    batch: np.ndarray,
    by: str = "PyTorch",
) -> list[FeatureParity]:
    """Compare the features of one batch, one result per layer.

    Args:
        found: (N, C, h, w) float32 of the file, by layer.
        reference: The same of the reference.
        layers: Which to compare.
        batch: The images, (N, 3, H, W) uint8.
        by: Name of the reference.

    Raises:
        CheckFailed: If shapes differ.
    """
    results = []
    for layer in layers:
        ours, theirs = found[layer], reference[layer]
        if ours.shape != theirs.shape:
            raise CheckFailed(
                f"{layer} of a {batch.shape} batch is {ours.shape}, {by}'s is {theirs.shape}"
            )
        count, _, height, width = batch.shape
        _, channels, rows, columns = theirs.shape
        difference = ours - theirs
        squares, whole = _sum_of_squares(difference), _sum_of_squares(theirs)
        results.append(
            FeatureParity(
                layer=layer,
                batch=count,
                height=height,
                width=width,
                shape=(channels, rows, columns),
                difference=float(np.abs(difference).max()),
                largest=float(np.abs(theirs).max()),
                error=float(np.sqrt(_ratio(squares.sum(), whole.sum()))),
                cosine=float(cosines(ours, theirs).min()),
            )
        )
    return results


def cosines(found: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Cosine between each image's feature and its reference.

    Args:
        found: (N, C, h, w) float32.
        reference: The same.

    Returns:
        (N,) float64. Of two features without a value other than zero it is 1, of one 0.
    """
    count = len(found)
    products = np.einsum(
        "ij,ij->i", found.reshape(count, -1), reference.reshape(count, -1), dtype=np.float64
    )
    norms = np.sqrt(_sum_of_squares(found) * _sum_of_squares(reference))
    both_zero = (_sum_of_squares(found) == 0) & (_sum_of_squares(reference) == 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        quotients = np.where(norms == 0, np.where(both_zero, 1.0, 0.0), products / norms)
    clipped: np.ndarray = np.clip(quotients, -1, 1)
    return clipped


def judge_reference_features(reference: Mapping[str, np.ndarray], layers: tuple[str, ...]) -> str:
    """What forbids a comparison with these features; empty if nothing does.

    Args:
        reference: (N, C, h, w) float32 of the float32 net, by layer.
        layers: Which to look at.
    """
    for layer in layers:
        if not np.isfinite(reference[layer]).all():
            return f"its {layer} is not finite on the built-in images; check its weights"
        if not reference[layer].any():
            return f"its {layer} is all zero on the built-in images; check its weights"
    return ""


def judge_exact_features(results: list[FeatureParity], path: Path, by: str = "PyTorch") -> None:
    """Check a float32 file.

    Args:
        results: Of `compare_features`.
        path: Final name of the file.
        by: Name of the reference.

    Raises:
        CheckFailed: If a feature differs by more than rounding.
    """
    for r in results:
        difference = _ratio(r.difference, r.largest)
        if not difference <= EXACT:
            raise CheckFailed(
                f"{path.name}: {r.layer} differs from {by} on images of {r.height}x{r.width} "
                f"(batch {r.batch}) by {difference:.1e} of its largest value "
                f"(allowed {EXACT:.0e})"
            )


def judge_reduced_features(results: list[FeatureParity], precision: str, path: Path) -> None:
    """Check a float precision, which has no quantized convolutions.

    Args:
        results: Of `compare_features`.
        precision: Name of the precision, one of REDUCED.
        path: Final name of the file.

    Raises:
        CheckFailed: If a feature moves more than it ever should.
    """
    for r in results:
        if not r.error <= REDUCED[precision]:
            raise CheckFailed(
                f"{path.name}: {precision} moves {r.layer} of images of {r.height}x{r.width} by "
                f"{100 * r.error:.1f} % (root mean square), allowed "
                f"{100 * REDUCED[precision]:g} %; take another precision"
            )


def _sum_of_squares(values: np.ndarray) -> np.ndarray:
    """(N, ...) -> (N,) float64."""
    flat = values.reshape(len(values), -1)
    sums: np.ndarray = np.einsum("ij,ij->i", flat, flat, dtype=np.float64)
    return sums


def _ratio(difference: float, whole: float) -> float:
    """A difference over the whole; over nothing, any difference is infinitely large."""
    if whole == 0:
        return 0.0 if difference == 0 else np.inf
    return difference / whole
