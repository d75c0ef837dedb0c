"""An exported file against the PyTorch net it came from, on pictures of many sizes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vgg_deploy.errors import CheckFailed
from vgg_deploy.model import VGG, posterior
from vgg_deploy.runtimes import Runtime, Scores
from vgg_deploy.scenes import render

# Largest difference allowed, as a part of the largest absolute score: rounding in another order gives about 1e-6,
# a wrong pixel, border or weight gives 1e-2 and more.
TOLERANCE = {"fp32": 1e-4}
TIE = 1e-6  # posteriors this close have no order


@dataclass(frozen=True)
class Comparison:
    """One batch of pictures through both."""

    batch: int
    height: int
    width: int
    map: tuple[int, int]
    score_difference: float  # largest, of any score of the map
    largest_score: float
    posterior_difference: float  # largest, of any posterior
    agree: int  # pictures with the same best class


def check_sizes(crop: int) -> list[tuple[int, int, int]]:
    """(batch, height, width): the crop itself, square and not, multiples of 32 and not, always 224 where it fits."""
    c = crop
    sizes = [(3, c, c), (1, c + 32, c + 32), (2, c, c + 96), (2, c + 75, c + 13), (1, c + 64, c + 33), (4, c + 31, c + 1)]
    if crop < 224:
        sizes += [(2, 224, 224), (1, 224, 299)]
    return sizes


def check_pictures(crop: int) -> list[np.ndarray]:
    """Batches (N, 3, H, W) uint8 of built-in pictures, stretched to the sizes of `check_sizes`."""
    sizes = enumerate(check_sizes(crop))
    return [np.stack([np.asarray(render("val", 8 * s + i).resize((w, h))).transpose(2, 0, 1) for i in range(n)]) for s, (n, h, w) in sizes]


@torch.inference_mode()
def reference_scores(net: VGG, pictures: list[np.ndarray]) -> list[Scores]:
    """What PyTorch says, straight from the net."""
    mean = torch.tensor(net.spec.preprocessing.mean).view(1, 3, 1, 1)
    maps = (net(torch.from_numpy(batch).float() - mean) for batch in pictures)
    return [Scores(posterior(m).numpy(), m.numpy()) for m in maps]


def compare(runtime: Runtime, pictures: list[np.ndarray], reference: list[Scores]) -> list[Comparison]:
    """Run the file on the same pictures."""
    return [_compare(runtime(batch), wanted, batch) for batch, wanted in zip(pictures, reference, strict=True)]


def _compare(found: Scores, wanted: Scores, batch: np.ndarray) -> Comparison:
    if found.score_map.shape != wanted.score_map.shape:
        raise CheckFailed(f"score map of a {batch.shape} batch is {found.score_map.shape}, PyTorch's is {wanted.score_map.shape}")
    return Comparison(
        *(batch.shape[0], *batch.shape[2:]),
        map=wanted.score_map.shape[2:],
        score_difference=_largest(found.score_map - wanted.score_map),
        largest_score=_largest(wanted.score_map),
        posterior_difference=_largest(found.posterior - wanted.posterior),
        agree=_agreeing(found.posterior, wanted.posterior),
    )


def _agreeing(found: np.ndarray, wanted: np.ndarray) -> int:
    """Rows whose best class is PyTorch's, or tied with it to within rounding."""
    chosen = np.take_along_axis(wanted, found.argmax(1)[:, None], axis=1)[:, 0]
    return int((chosen >= wanted.max(1) - TIE).sum())


def _largest(values: np.ndarray) -> float:
    """Largest magnitude; NaN anywhere gives NaN, which passes no tolerance."""
    return float(np.abs(values).max())


def judge(comparisons: list[Comparison], precision: str, path: Path) -> None:
    """Raises: CheckFailed with the worst case if scores, posteriors or best classes differ by more than rounding."""
    allowed = TOLERANCE[precision]
    for c in comparisons:
        of_largest = c.score_difference / c.largest_score
        if of_largest <= allowed and c.posterior_difference <= allowed and c.agree == c.batch:
            continue
        raise CheckFailed(
            f"{path.name} differs from PyTorch on pictures of {c.height}x{c.width} (batch {c.batch}): scores by {of_largest:.1e} of the largest, "
            f"posteriors by {c.posterior_difference:.1e} (allowed {allowed:.0e}), {c.agree} of {c.batch} best classes agree. Nothing was written"
        )
