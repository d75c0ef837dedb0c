"""The records of a gate: every check with its answer, and the verdict that follows."""

from dataclasses import dataclass

import numpy as np

from bench.gate.gate_limits import GateLimits
from bench.gate.method import Method
from vgg_deploy.statistics.evidence import Verdict

LISTED = 1000  # images that gate.json names per check
DATA = "data"  # in place of the model's name if a check is about the images


@dataclass(frozen=True)
class Check:
    """One question and its answer. Field names are the keys of gate.json.

    Attributes:
        model: Name of the model, or `DATA`.
        check: What is checked, such as "agreement".
        rows: Protocol, scales and flips; empty for a check of the file or of the data as a whole.
        verdict: The answer.
        message: The answer as a sentence.
        found: What was found, in the unit of the limit.
        limit: What is allowed.
        low: Lower one-sided 95 % bound, if images are counted.
        high: Upper one-sided 95 % bound, if images are counted.
        images_counted: How many images the answer rests on.
        images_to_decide: About how many images would decide; only of undecided checks.
        images: Names of images that speak against the model, at most `LISTED`.
        images_total: How many images speak against the model.
    """

    model: str
    check: str
    rows: str
    verdict: Verdict
    message: str
    found: float | None = None
    limit: float | None = None
    low: float | None = None
    high: float | None = None
    images_counted: int | None = None
    images_to_decide: int | None = None
    images: tuple[str, ...] = ()
    images_total: int = 0

    @property
    def passed(self) -> bool:
        """Whether the verdict is "pass"."""
        return self.verdict == Verdict.PASS


@dataclass(frozen=True)
class Gate:
    """All answers, and what they rest on.

    Attributes:
        reference: Name of the first model.
        limits: What was allowed.
        method: How images became verdicts.
        checks: All answers.
        warnings: Sentences about what makes the verdict doubtful.
        equal: A sentence per model that equals the reference to rounding.
        images: How many images were scored.
        images_there: How many images the data have.
        left_out: Messages about images that were not scored.
    """

    reference: str
    limits: GateLimits
    method: Method
    checks: list[Check]
    warnings: list[str]
    equal: list[str]
    images: int
    images_there: int
    left_out: list[str]

    @property
    def verdict(self) -> Verdict:
        """Fail if any check fails, else undecided if any is, else pass."""
        found = {check.verdict for check in self.checks}
        for worst in (Verdict.FAIL, Verdict.UNDECIDED):
            if worst in found:
                return worst
        return Verdict.PASS

    def count(self, verdict: Verdict) -> int:
        """Number of checks with this verdict."""
        return sum(check.verdict == verdict for check in self.checks)

    @property
    def failing(self) -> set[str]:
        """Names of models with a failed check."""
        return {check.model for check in self.checks if check.verdict == Verdict.FAIL}

    @property
    def images_to_decide(self) -> int | None:
        """About so many images would decide all checks that images can decide."""
        needed = [check.images_to_decide for check in self.checks if check.images_to_decide]
        return max(needed, default=None)


def named_images(indices: np.ndarray, files: list[str]) -> tuple[str, ...]:
    """Names of images, at most `LISTED`.

    Args:
        indices: (count,) int, among the images of the rows.
        files: Names of the images of the rows.
    """
    return tuple(files[i] for i in indices[:LISTED])
