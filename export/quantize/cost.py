"""What a quantized file costs: its scores against the float32 net's, on images that were not calibrated on."""

from dataclasses import dataclass

import numpy as np

from vgg_deploy.runtimes import Scores

HIGH_PCT = 30.0  # RMS error of the scores; VGGs that quantize well stay below 10
MOST_PCT = 100.0  # with a larger one scores of zero would be nearer to the net's


@dataclass(frozen=True)
class Cost:
    """A file against the float32 net on the held-out images."""

    images: int
    score_error_pct: (
        float  # root mean square of the mean scores' differences, of the mean scores' own
    )
    agree: int  # images with the same best class
    largest_posterior_difference: float
    mean_total_variation: (
        float  # half the sum of a posterior's absolute differences, mean over the images
    )
    broken: str  # why the file is useless; empty if it is not

    @property
    def rating(self) -> str:
        """In one word: "broken", "high" or "usual"."""
        if self.broken:
            return "broken"
        return "high" if self.score_error_pct > HIGH_PCT else "usual"

    def text(self) -> str:
        """In one sentence."""
        return (
            f"on {self.images} held-out images the scores differ from the float32 net's by {self.score_error_pct:.1f} % "
            f"(root mean square), {self.agree} of {self.images} best classes agree, and posteriors differ by "
            f"{self.largest_posterior_difference:.3f} at most"
        )


def measure_cost(found: list[Scores], reference: list[Scores]) -> Cost:
    """Compare what a file and the float32 net say of the same batches."""
    scores, wanted = (
        np.concatenate([s.score_map.mean((2, 3), dtype=np.float64) for s in said])
        for said in (found, reference)
    )
    posteriors, right = (
        np.concatenate([s.posterior for s in said]).astype(np.float64)
        for said in (found, reference)
    )
    error = float(np.sqrt(np.mean((scores - wanted) ** 2) / np.mean(wanted**2)))
    moved = np.abs(posteriors - right)
    best, expected = posteriors.argmax(1), right.argmax(1)
    return Cost(
        images=len(scores),
        score_error_pct=100 * error,
        agree=int((best == expected).sum()),
        largest_posterior_difference=float(moved.max()),
        mean_total_variation=float(moved.sum(1).mean() / 2),
        broken=_fault(scores, wanted, best, expected, error),
    )


def _fault(
    scores: np.ndarray, wanted: np.ndarray, best: np.ndarray, expected: np.ndarray, error: float
) -> str:
    """Why nobody can use these scores; empty if somebody may.

    Args:
        scores: (N, classes) of the file; wanted, the same of the float32 net.
        best: (N,) the best class by each; expected, the same of the float32 net.
        error: root mean square of the scores' differences, of the scores' own.
    """
    if not np.isfinite(scores).all():
        return "some scores are not finite"
    if error > MOST_PCT / 100:
        return "scores of zero would be nearer to the float32 net's"
    spread = np.sum((wanted - wanted.mean(0)) ** 2)
    commonest = np.bincount(expected).max()
    if np.sum((scores - wanted) ** 2) >= spread and (best == expected).sum() <= commonest < len(
        expected
    ):
        return "the same scores for every image would be as near to the float32 net's, and their best class as often right"
    return ""
