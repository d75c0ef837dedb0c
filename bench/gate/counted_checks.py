"""Checks decided by counting images, which may stay undecided: drops, agreement, error."""

from typing import NamedTuple

import numpy as np

from bench.accuracy.accuracy_rows import Scored
from bench.accuracy.compare import Pair, one_right
from bench.gate.gate_limits import GateLimits
from bench.gate.method import Method
from bench.gate.verdict import Check, named_images
from vgg_deploy.statistics.evidence import Evidence, Verdict


class Question(NamedTuple):
    """A question that is answered by counting images.

    Attributes:
        model: Name of the model.
        check: What is asked, such as "agreement".
        rows: Protocol, scales and flips.
        evidence: About the loss, as a fraction of the images.
        to_decide: About how many images would decide; None if no number does.
        limit: As in the option: per cent, or percentage points.
        found: In the unit of the limit.
        bounds: One-sided 95 % bounds in the unit of the limit.
        text: What was found, as a sentence.
        against: (count,) int, indices of the images that speak against the model.
    """

    model: str
    check: str
    rows: str
    evidence: Evidence
    to_decide: int | None
    limit: float
    found: float
    bounds: tuple[float, float]
    text: str
    against: np.ndarray


def ask_drops(pair: Pair, limits: GateLimits, method: Method) -> list[Question]:
    """Ask how much top-1 and top-5 accuracy a model loses against the reference.

    Args:
        pair: A row beside the reference's.
        limits: What is allowed.
        method: How images become verdicts.

    Returns:
        One question per limit.
    """
    questions = []
    for k, limit in ((1, limits.top1_drop), (5, limits.top5_drop)):
        if limit is not None:
            questions.append(_ask_drop(pair, k, limit, method))
    return questions


def _ask_drop(pair: Pair, k: int, limit: float, method: Method) -> Question:
    """About top-k accuracy; the limit is in percentage points."""
    comparison = pair.comparison
    only_reference, only_model = one_right(pair.reference, pair.other, k)
    images, allowed = comparison.images, limit / 100
    evidence = method.paired(only_reference, only_model, images, allowed)
    low, high = 100 * evidence.low, 100 * evidence.high
    found = 100 * evidence.estimate
    return Question(
        model=comparison.model,
        check=f"top-{k} drop",
        rows=pair.other.row.label,
        evidence=evidence,
        to_decide=method.paired_to_decide(only_reference, only_model, images, allowed),
        limit=limit,
        found=found,
        bounds=(low, high),
        text=f"top-{k} accuracy is {loss_in_words(found)} {comparison.reference}'s on {images} "
        f"images (loss, 95 % bounds: {low:+.2f} to {high:+.2f} points), allowed loss {limit:g}",
        against=np.flatnonzero((pair.reference.ranks < k) & (pair.other.ranks >= k)),
    )


def loss_in_words(loss: float) -> str:
    """Describe a loss of accuracy in words.

    Example:
        >>> loss_in_words(1.5)
        '1.50 points lower than'

    Args:
        loss: Percentage points.
    """
    if loss == 0:
        return "the same as"
    return f"{abs(loss):.2f} points {'lower' if loss > 0 else 'higher'} than"


def ask_agreement(pair: Pair, limits: GateLimits, method: Method) -> list[Question]:
    """Ask how often a model has the reference's best class.

    Args:
        pair: A row beside the reference's.
        limits: What is allowed.
        method: How images become verdicts.

    Returns:
        One question, or none without a limit.
    """
    limit, comparison = limits.agreement, pair.comparison
    if limit is None:
        return []
    differing = np.flatnonzero(pair.reference.best != pair.other.best)
    count, images, allowed = len(differing), comparison.images, round(1 - limit / 100, 12)
    evidence = method.proportion(count, images, allowed)
    low, high = 100 - 100 * evidence.high, 100 - 100 * evidence.low
    question = Question(
        model=comparison.model,
        check="agreement",
        rows=pair.other.row.label,
        evidence=evidence,
        to_decide=method.proportion_to_decide(count, images, allowed),
        limit=limit,
        found=comparison.agreement_pct,
        bounds=(low, high),
        text=f"agrees with {comparison.reference} on {comparison.agreement_pct:.2f} % of {images} "
        f"images (95 % bounds: {low:.2f} to {high:.2f} %), required {limit:g} %",
        against=differing,
    )
    return [question]


def ask_error(scored: Scored, limits: GateLimits, method: Method) -> list[Question]:
    """Ask how high the top-1 error of a row is.

    Args:
        scored: A row of any model, also of the reference.
        limits: What is allowed.
        method: How images become verdicts.

    Returns:
        One question, or none without a limit.
    """
    limit, record = limits.top1_error, scored.record
    if limit is None:
        return []
    wrong = np.flatnonzero(scored.ranks >= 1)
    count, images, allowed = len(wrong), record.images, float(limit) / 100
    evidence = method.proportion(count, images, allowed)
    low, high = 100 * evidence.low, 100 * evidence.high
    question = Question(
        model=record.model,
        check="top-1 error",
        rows=scored.row.label,
        evidence=evidence,
        to_decide=method.proportion_to_decide(count, images, allowed),
        limit=float(limit),
        found=record.top1_error_pct,
        bounds=(low, high),
        text=f"top-1 error is {record.top1_error_pct:.2f} % on {images} images "
        f"(95 % bounds: {low:.2f} to {high:.2f} %), allowed {limit:g} %",
        against=wrong,
    )
    return [question]


def answer(question: Question, verdict: Verdict, files: list[str]) -> Check:
    """Make the check of a question that has its verdict.

    Args:
        question: The question.
        verdict: The answer, corrected over all questions.
        files: Names of the images of the rows.
    """
    undecided = verdict == Verdict.UNDECIDED
    low, high = question.bounds
    return Check(
        model=question.model,
        check=question.check,
        rows=question.rows,
        verdict=verdict,
        message=f"{question.text}; {what_decides(question)}" if undecided else question.text,
        found=question.found,
        limit=question.limit,
        low=low,
        high=high,
        images_counted=question.evidence.images,
        images_to_decide=question.to_decide if undecided else None,
        images=named_images(question.against, files),
        images_total=len(question.against),
    )


def what_decides(question: Question) -> str:
    """What would decide an undecided question, as part of a sentence.

    Args:
        question: An undecided question.
    """
    if question.to_decide is not None:
        about = "about" if len(question.against) else "at least"
        return f"too few images for a verdict, {about} {question.to_decide:,} are needed"
    if question.check == "agreement" and question.limit == 100:
        return "no number of images can show that all agree; a limit below 100 can be decided"
    if question.limit == 0:
        return "no number of images can show that nothing is lost; a limit above 0 can be decided"
    return "no number of images decides a limit that equals what was seen"
