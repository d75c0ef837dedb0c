"""An exported file against PyTorch, on built-in images of many sizes.

A float32 file must be exact, one of half precision near it. Of a quantized file only the shapes and the consistency of its
outputs are judged here: what it holds is for `twin` to check, and what it costs only photos can show (`cost`).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from export.quantize.convolve import convolve
from vgg_deploy.data.built_in import render
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.net.model import VGG, posterior
from vgg_deploy.runtimes import Scores

# Largest difference of a float32 file's score, as a part of the largest: rounding in another order gives about 1e-6,
# a wrong pixel, border or weight gives 1e-2 and more
EXACT = 1e-4
# Root mean square of a float precision's score differences, as a part of the scores' own: some three times what is usual
REDUCED = {"fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2}
OWN_POSTERIOR = 1e-5  # posterior against the softmax of the file's own mean score
TIE = 1e-6  # posteriors this close have no order


@dataclass(frozen=True)
class ParityResult:
    """One batch of pictures through both."""

    batch: int
    height: int
    width: int
    map: tuple[int, int]
    score_difference: float  # largest, of any score of the map
    largest_score: float
    posterior_difference: float  # largest, of any posterior
    score_error: float  # root mean square of the score differences, as a part of the scores' own
    inconsistency: (
        float  # largest difference of the posterior from the softmax of the file's own mean score
    )
    agree: int  # pictures with the same best class


def check_sizes(crop: int) -> list[tuple[int, int, int]]:
    """(batch, height, width): the crop itself, square and not, multiples of 32 and not, always 224 where it fits."""
    c = crop
    sizes = [
        (3, c, c),
        (1, c + 32, c + 32),
        (2, c, c + 96),
        (2, c + 75, c + 13),
        (1, c + 64, c + 33),
        (4, c + 31, c + 1),
    ]
    if crop < 224:
        sizes += [(2, 224, 224), (1, 224, 299)]
    return sizes


def check_images(crop: int) -> list[np.ndarray]:
    """Batches (N, 3, H, W) uint8 of built-in pictures, stretched to the sizes of `check_sizes`."""
    sizes = enumerate(check_sizes(crop))
    return [
        np.stack(
            [
                np.asarray(render("val", 8 * s + i).resize((w, h))).transpose(2, 0, 1)
                for i in range(n)
            ]
        )
        for s, (n, h, w) in sizes
    ]


@torch.inference_mode()
def reference_scores(net: VGG, pictures: list[np.ndarray]) -> list[Scores]:
    """What PyTorch says, straight from the net, of one picture after the other: only weights need much memory then."""
    mean = torch.tensor(net.spec.preprocessing.mean).view(1, 3, 1, 1)
    maps = [
        torch.cat(
            [_score_map(net, torch.from_numpy(picture[None]).float() - mean) for picture in batch]
        )
        for batch in pictures
    ]
    return [Scores(posterior(m).numpy(), m.numpy()) for m in maps]


def judge_reference(reference: list[Scores], source: Path) -> str:
    """What is doubtful about the float32 net's own scores of the check images, a sentence or nothing.

    Args:
        reference: By batch, of `reference_scores`.
        source: The file of the net, for messages.

    Raises:
        InputError: If scores are not finite, or all are zero, so that nothing can be compared.
    """
    scores = np.concatenate([s.score_map.mean((2, 3), dtype=np.float64) for s in reference])
    if not np.isfinite(scores).all():
        raise InputError(
            f"{source}: its scores are not finite on the built-in images; check its weights and its input"
        )
    if not scores.any():
        raise InputError(
            f"{source}: all its scores are zero on the built-in images; check its weights"
        )
    if float(np.ptp(scores, axis=0).max()) <= EXACT * float(np.abs(scores).max()):
        return f"Warning: {source}: gives the same scores for each of {len(scores)} built-in images; check its weights and its input"
    return ""


def _score_map(net: VGG, images: Tensor) -> Tensor:
    for layer in net.children():
        images = (
            convolve(images, layer.weight, layer.bias, layer.padding)
            if isinstance(layer, nn.Conv2d)
            else layer(images)
        )
    return images


def compare(
    found: list[Scores], reference: list[Scores], pictures: list[np.ndarray], by: str = "PyTorch"
) -> list[ParityResult]:
    """What a file says of the pictures, against a reference. Args: by, who said that."""
    return [_compare(*each, by) for each in zip(found, reference, pictures, strict=True)]


def _compare(found: Scores, wanted: Scores, batch: np.ndarray, by: str) -> ParityResult:
    if found.score_map.shape != wanted.score_map.shape:
        raise CheckFailed(
            f"score map of a {batch.shape} batch is {found.score_map.shape}, {by}'s is {wanted.score_map.shape}"
        )
    return ParityResult(
        *(batch.shape[0], *batch.shape[2:]),
        map=wanted.score_map.shape[2:],
        score_difference=_largest(found.score_map - wanted.score_map),
        largest_score=_largest(wanted.score_map),
        posterior_difference=_largest(found.posterior - wanted.posterior),
        score_error=_part(
            _root_mean_square(found.score_map - wanted.score_map),
            _root_mean_square(wanted.score_map),
        ),
        inconsistency=_largest(
            found.posterior - posterior(torch.from_numpy(found.score_map)).numpy()
        ),
        agree=_agreeing(found.posterior, wanted.posterior),
    )


def _agreeing(found: np.ndarray, wanted: np.ndarray) -> int:
    """Rows whose best class is PyTorch's, or tied with it to within rounding."""
    chosen = np.take_along_axis(wanted, found.argmax(1)[:, None], axis=1)[:, 0]
    return int((chosen >= wanted.max(1) - TIE).sum())


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values.astype(np.float64) ** 2)))


def _part(difference: float, whole: float) -> float:
    """A difference as a part of the whole; of nothing, any difference is infinitely much."""
    if whole == 0:
        return 0.0 if difference == 0 else np.inf
    return difference / whole


def _largest(values: np.ndarray) -> float:
    """Largest magnitude; NaN anywhere gives NaN, which passes no tolerance."""
    return float(np.abs(values).max())


def judge_exact(comparisons: list[ParityResult], path: Path, by: str = "PyTorch") -> None:
    """Raises: CheckFailed with the worst case if a float32 file differs by more than rounding."""
    for c in comparisons:
        of_largest = _part(c.score_difference, c.largest_score)
        if of_largest <= EXACT and c.inconsistency <= OWN_POSTERIOR:
            continue
        raise CheckFailed(
            f"{path.name}: differs from {by} on images of {c.height}x{c.width} (batch {c.batch}): scores by {of_largest:.1e} of the largest "
            f"(allowed {EXACT:.0e}), posteriors by {c.inconsistency:.1e} from the softmax of their own mean scores, "
            f"{c.agree} of {c.batch} best classes agree"
        )


def judge_consistent(comparisons: list[ParityResult], path: Path) -> None:
    """Raises: CheckFailed if posteriors are not what the file's own scores say, or something is no number."""
    for c in comparisons:
        if not c.inconsistency <= OWN_POSTERIOR:
            raise CheckFailed(
                f"{path.name}: posteriors of pictures of {c.height}x{c.width} differ by {c.inconsistency:.1e} from the softmax of the file's own "
                "mean scores, which PyTorch takes"
            )


def judge_reduced(comparisons: list[ParityResult], precision: str, path: Path) -> None:
    """Raises: CheckFailed if a float precision costs more than it ever should."""
    worst = max(comparisons, key=lambda c: np.inf if np.isnan(c.score_error) else c.score_error)
    if not worst.score_error <= REDUCED[precision]:
        raise CheckFailed(
            f"{path.name}: {precision} moves the scores of pictures of {worst.height}x{worst.width} by {100 * worst.score_error:.1f} % (root mean square), "
            f"allowed {100 * REDUCED[precision]:g} %; take another precision"
        )
