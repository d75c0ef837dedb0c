"""Measures and judges what a quantized file costs: its scores against the float32 net's."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np

from vgg_deploy.errors import CheckFailed
from vgg_deploy.runtimes.contract import Scores

HIGH_PCT = 30.0  # RMS error of the scores; VGGs that quantize well stay below 10
MOST_PCT = 100.0  # with a larger one scores of zero would be nearer to the net's
ADVICE = (
    "calibrate on more images, keep the layers that --sensitivity names, or take another precision"
)


@dataclass(frozen=True)
class Cost:
    """A file against the float32 net on the held-out images.

    Attributes:
        images: Number of held-out images.
        score_error_pct: Root mean square of the mean scores' differences, in per cent of the root
            mean square of the mean scores.
        agree: Number of images with the same best class.
        largest_posterior_difference: Of any class of any image.
        mean_total_variation: Half the sum of a posterior's absolute differences, mean over the
            images.
        broken: Why the file is useless; empty if it is not.
    """

    images: int
    score_error_pct: float
    agree: int
    largest_posterior_difference: float
    mean_total_variation: float
    broken: str

    @property
    def rating(self) -> str:
        """In one word: "broken", "high" or "usual"."""
        if self.broken:
            return "broken"
        return "high" if self.score_error_pct > HIGH_PCT else "usual"

    def text(self) -> str:
        """In one sentence."""
        return (
            f"on {self.images} held-out images the scores differ from the float32 net's by "
            f"{self.score_error_pct:.1f} % (root mean square), {self.agree} of {self.images} best "
            "classes agree, and posteriors differ by "
            f"{self.largest_posterior_difference:.3f} at most"
        )

    def figures(self) -> dict[str, float]:
        """The figures by name, without the judgement."""
        figures = asdict(self)
        del figures["broken"]
        return figures


def measure_cost(found: list[Scores], reference: list[Scores]) -> Cost:
    """Compare the scores of a file with those of the float32 net on the same images.

    Args:
        found: Scores of the file, by batch.
        reference: Scores of the float32 net, by batch.
    """
    scores, reference_scores = _mean_scores(found), _mean_scores(reference)
    posteriors, reference_posteriors = _posteriors(found), _posteriors(reference)
    error = float(np.sqrt(np.mean((scores - reference_scores) ** 2) / np.mean(reference_scores**2)))
    differences = np.abs(posteriors - reference_posteriors)
    best, reference_best = posteriors.argmax(1), reference_posteriors.argmax(1)
    return Cost(
        images=len(scores),
        score_error_pct=100 * error,
        agree=int((best == reference_best).sum()),
        largest_posterior_difference=float(differences.max()),
        mean_total_variation=float(differences.sum(1).mean() / 2),
        broken=_why_broken(scores, reference_scores, best, reference_best, error),
    )


def judge_cost(cost: Cost, max_cost: float | None, log: Callable[[str], None], name: str) -> None:
    """Warn of a high cost, and refuse a cost that is too high.

    Args:
        cost: Of the file.
        max_cost: Largest score error in per cent; None: any that is not broken.
        log: Called with the warning.
        name: Of the file.

    Raises:
        CheckFailed: If the file is broken or costs more than `max_cost`.
    """
    if cost.broken:
        raise CheckFailed(f"{cost.text()}; it is useless, because {cost.broken}; {ADVICE}")
    if max_cost is not None and not cost.score_error_pct <= max_cost:
        raise CheckFailed(f"{cost.text()}; --max-cost allows {max_cost:g} %")
    if cost.rating == "high":
        log(f"Warning: {name} has a high cost: {cost.text()}; {ADVICE}")


def _mean_scores(batches: list[Scores]) -> np.ndarray:
    """(images, classes) float64, spatial mean of the score maps."""
    return np.concatenate([s.score_map.mean((2, 3), dtype=np.float64) for s in batches])


def _posteriors(batches: list[Scores]) -> np.ndarray:
    """(images, classes) float64."""
    return np.concatenate([s.posterior for s in batches]).astype(np.float64)


def _why_broken(
    scores: np.ndarray,
    reference: np.ndarray,
    best: np.ndarray,
    reference_best: np.ndarray,
    error: float,
) -> str:
    """Why these scores are useless; empty if they are not.

    Args:
        scores: (N, classes) of the file.
        reference: (N, classes) of the float32 net.
        best: (N,) best class by the file.
        reference_best: (N,) best class by the float32 net.
        error: Root mean square of the scores' differences over that of the reference.
    """
    if not np.isfinite(scores).all():
        return "some scores are not finite"
    if error > MOST_PCT / 100:
        return "scores of zero would be nearer to the float32 net's"
    spread = np.sum((reference - reference.mean(0)) ** 2)
    is_far = np.sum((scores - reference) ** 2) >= spread
    commonest = np.bincount(reference_best).max()
    has_several_classes = commonest < len(reference_best)
    if is_far and has_several_classes and (best == reference_best).sum() <= commonest:
        return (
            "the same scores for every image would be as near to the float32 net's, and their best "
            "class as often right"
        )
    return ""
