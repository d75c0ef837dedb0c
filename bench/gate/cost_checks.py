"""Checks of what a model costs: time beside another file, memory, and the size of its files."""

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from bench.gate.open_check import OpenCheck
from bench.gate.verdict import Check
from bench.memory.measure import Memory
from bench.models.files import ModelFile
from bench.speed.turns import Turns, size_text
from bench.statistics.mean_test import mean_evidence
from bench.statistics.sign_test import median_evidence
from vgg_deploy.statistics.evidence import Evidence, Verdict

SLOWDOWN, MEMORY, SIZE = "slowdown", "peak memory", "size"  # names of the checks
COMPARED = "compared with the earlier run"
OF_NO_IMAGES = (SLOWDOWN, MEMORY, SIZE, COMPARED)  # what no number of images decides


class Costs(NamedTuple):
    """What the gate asks about costs.

    Attributes:
        facts: Checks that have their verdict.
        questions: Checks that are judged with all others.
    """

    facts: list[Check]
    questions: list[OpenCheck]


class NotInTurn(NamedTuple):
    """A model whose calls could not be made in turn with what it is compared with.

    Attributes:
        model: Its name.
        rows: Size of the images, or empty for all.
        same: Whether there is nothing to compare, as nothing has changed.
        reason: A sentence without its subject.
        found: Slowdown by the times of two runs, per cent; None if there are none.
    """

    model: str
    rows: str
    same: bool
    reason: str
    found: float | None = None


def check_sizes(files: Sequence[ModelFile], limit: float) -> list[Check]:
    """Check the size of every model's files.

    Args:
        files: Of all models.
        limit: Largest size, 10^6 bytes.
    """
    return [
        Check(
            model=file.model,
            check=SIZE,
            rows="",
            verdict=Verdict.PASS if file.size_mb <= limit else Verdict.FAIL,
            message=f"its files have {file.size_mb:.6g} MB, allowed {limit:g} MB",
            found=file.size_mb,
            limit=limit,
        )
        for file in files
    ]


def ask_memory(measured: Sequence[Memory], limit: float) -> list[OpenCheck]:
    """Ask how much memory every model's process takes at most.

    Args:
        measured: Of all models.
        limit: Largest mean of the processes' peaks, MiB.
    """
    questions = []
    for memory in measured:
        evidence = mean_evidence(memory.peaks, limit)
        rows = size_text(memory.rows[-1].height_px, memory.rows[-1].batch)
        text = (
            f"a process that opens it and answers takes {evidence.estimate:.1f} MiB at its peak "
            f"({evidence.images} processes, 95 % bounds: {evidence.low:.1f} to "
            f"{evidence.high:.1f} MiB), allowed {limit:g} MiB"
        )
        open_text = f"{text}; the limit lies within the bounds, and another one can be decided"
        answer = partial(
            _answer, memory.model.name, MEMORY, rows, evidence, limit, (text, open_text)
        )
        questions.append(OpenCheck(evidence, answer))
    return questions


def ask_slowdowns(turns: Sequence[Turns], limit: float) -> list[OpenCheck]:
    """Ask how much longer models take than what they are compared with.

    Args:
        turns: Calls in turn.
        limit: Largest median of the rounds, per cent.
    """
    questions = []
    for one in turns:
        evidence = median_evidence(one.slowdowns, limit)
        other_ms, ms = one.medians
        bounds = f"{evidence.low:+.1f} to {evidence.high:+.1f} %"
        if math.isinf(evidence.low):
            bounds = "none"
        text = (
            f"a call takes {_longer(evidence.estimate)} than {one.against}'s ({ms:.3g} ms beside "
            f"{other_ms:.3g} ms, {evidence.images} rounds in turn, 95 % bounds: {bounds}), allowed "
            f"{limit:g} % more"
        )
        open_text = f"{text}; the times vary too much for a verdict, measure on a quieter machine"
        rows = size_text(*one.size)
        answer = partial(_answer, one.model, SLOWDOWN, rows, evidence, limit, (text, open_text))
        questions.append(OpenCheck(evidence, answer))
    return questions


def check_not_in_turn(found: Sequence[NotInTurn], limit: float) -> list[Check]:
    """Pass what has not changed; what was not called in turn stays undecided.

    Times of two runs differ by what else the machine did then, which no interval of one run shows.

    Args:
        found: The models.
        limit: Largest slowdown, per cent.
    """
    return [
        Check(
            model=one.model,
            check=SLOWDOWN,
            rows=one.rows,
            verdict=Verdict.PASS if one.same else Verdict.UNDECIDED,
            message=one.reason,
            found=0.0 if one.same else one.found,
            limit=limit,
        )
        for one in found
    ]


def _longer(per_cent: float) -> str:
    """By how much more time a call takes, in words."""
    return f"{abs(per_cent):.1f} % {'less' if per_cent < 0 else 'more'} time"


def _answer(
    model: str,
    check: str,
    rows: str,
    evidence: Evidence,
    limit: float,
    texts: tuple[str, str],
    verdict: Verdict,
) -> Check:
    """Make the check; `texts` are the message, and that of an undecided check."""
    return Check(
        model=model,
        check=check,
        rows=rows,
        verdict=verdict,
        message=texts[verdict == Verdict.UNDECIDED],
        found=evidence.estimate,
        limit=limit,
        low=evidence.low if math.isfinite(evidence.low) else None,
        high=evidence.high if math.isfinite(evidence.high) else None,
    )
