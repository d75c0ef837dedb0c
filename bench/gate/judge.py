"""Judges the models: asks all checks of the limits, and collects the answers.

The first model is the reference. Drops, agreement and errors are judged by the number of images
that speak for or against them, and may stay undecided. Faults, posteriors and images left out are
facts.
"""

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from bench.accuracy.accuracy_rows import Scored
from bench.accuracy.compare import Pair
from bench.accuracy.distance import LEAST_IMAGES, rounding_limit
from bench.accuracy.measure import Accuracy
from bench.accuracy.protocols import Row
from bench.gate.counted_checks import Question, answer, ask_agreement, ask_drops, ask_error
from bench.gate.equality import describe_equality, is_equal, passed_by_equality
from bench.gate.fact_checks import check_compared, check_faults, check_left_out, check_posteriors
from bench.gate.gate_limits import GateLimits
from bench.gate.method import Method
from bench.gate.open_check import OpenCheck
from bench.gate.verdict import Check, Gate
from vgg_deploy.statistics.evidence import verdicts


class Judge(NamedTuple):
    """What is asked of the models; `judge` answers.

    Attributes:
        limits: What is allowed.
        rows: The rows that count.
        cell_type: Of the stored posteriors, "float32" or "float16".
        method: How images become verdicts.
    """

    limits: GateLimits
    rows: set[Row]
    cell_type: str
    method: Method


class Others(NamedTuple):
    """What is judged beside the rows of the accuracy table.

    Attributes:
        facts: Checks that have their verdict.
        questions: Checks that are judged together with those of the table.
        warnings: Sentences about what makes their verdicts doubtful.
    """

    facts: Sequence[Check] = ()
    questions: Sequence[OpenCheck] = ()
    warnings: Sequence[str] = ()


NO_OTHERS = Others()


def asked_of_images(questions: Sequence[Question], files: list[str]) -> list[OpenCheck]:
    """Questions that count images, to be judged.

    Args:
        questions: The questions.
        files: Names of the images that they count.
    """
    return [
        OpenCheck(question.evidence, partial(answer, question, files=files))
        for question in questions
    ]


def judge(
    asked: Judge,
    accuracy: Accuracy,
    left_out: list[str],
    others: Others = NO_OTHERS,
) -> Gate:
    """Judge every row that counts, of every model.

    Args:
        asked: Limits, rows and method.
        accuracy: What was measured.
        left_out: Messages about images that were not scored.
        others: What is judged beside the rows.
    """
    limits, method = asked.limits, asked.method
    pairs = [pair for pair in accuracy.pairs if pair.other.row in asked.rows]
    scored = [one for one in accuracy.scored if one.row in asked.rows]
    compared = _Compared(asked, accuracy)
    for pair in pairs:
        compared.add(pair)
    questions = compared.questions
    for one in scored:
        questions += ask_error(one, limits, method)
    listed = [*asked_of_images(questions, accuracy.files), *others.questions]
    checks = [
        check_left_out(limits, left_out),
        *check_faults(accuracy),
        *compared.checks,
        *others.facts,
        *answered(listed, method),
    ]
    if limits.compares:
        checks += check_compared(accuracy, pairs)
    return Gate(
        reference=accuracy.models[0].name,
        limits=limits,
        method=method,
        checks=checks,
        warnings=[*warn_of_guessing(scored, accuracy), *others.warnings],
        equal=compared.equal_lines(),
        images=len(accuracy.files),
        images_there=len(accuracy.measured.kept),
        left_out=left_out,
    )


def judge_others(asked: Judge, reference: str, others: Others) -> Gate:
    """Judge what needs no images.

    Args:
        asked: Limits and method.
        reference: Name of the first model.
        others: What is judged.
    """
    return Gate(
        reference=reference,
        limits=asked.limits,
        method=asked.method,
        checks=[*others.facts, *answered(others.questions, asked.method)],
        warnings=[*others.warnings],
        equal=[],
        images=0,
        images_there=0,
        left_out=[],
    )


def answered(questions: Sequence[OpenCheck], method: Method) -> list[Check]:
    """Judge questions together.

    Args:
        questions: Of all rows and models.
        method: Gives the level.
    """
    answers = verdicts([question.evidence for question in questions], method.level)
    return [question.answer(verdict) for question, verdict in zip(questions, answers, strict=True)]


class _Compared:
    """What the rows beside the reference's come to."""

    def __init__(self, asked: Judge, accuracy: Accuracy):
        self.asked, self.accuracy = asked, accuracy
        self.checks: list[Check] = []
        self.questions: list[Question] = []
        self.rows: defaultdict[str, int] = defaultdict(int)  # by model
        self.equal: defaultdict[str, list[Pair]] = defaultdict(list)  # by model

    def add(self, pair: Pair) -> None:
        """Take a row beside the reference's into account."""
        asked, limits, method = self.asked, self.asked.limits, self.asked.method
        name = pair.comparison.model
        rounding = rounding_limit(
            self.accuracy.models, pair.reference.row, pair.other.row, asked.cell_type
        )
        self.rows[name] += 1
        self.checks += check_posteriors(pair, limits, rounding, self.accuracy.files)
        if is_equal(pair, rounding):
            self.equal[name].append(pair)
            self.checks += passed_by_equality(pair, limits)
        else:
            self.questions += ask_drops(pair, limits, method)
            self.questions += ask_agreement(pair, limits, method)

    def equal_lines(self) -> list[str]:
        """A sentence per model that equals the reference to rounding."""
        return [describe_equality(pairs, self.rows[name]) for name, pairs in self.equal.items()]


def warn_of_guessing(scored: list[Scored], accuracy: Accuracy) -> list[str]:
    """Warn if the reference may be guessing: agreement with it would mean nothing.

    Args:
        scored: The rows that count.
        accuracy: What was measured.

    Returns:
        One sentence, or none.
    """
    for one in scored:
        if [member.model for member in one.row.members] != [0] or not one.labelled:
            continue
        classes = len(accuracy.classes.of_model[0])
        guessing = 100 * (1 - 1 / classes)
        if classes > 1 and one.record.top1_high_pct >= guessing:
            return [_guessing(one, classes, guessing)]
    return []


def _guessing(scored: Scored, classes: int, guessing: float) -> str:
    record = scored.record
    reason = "Most often its classes are in another order than the labels."
    if record.images < LEAST_IMAGES:
        reason = "So few images cannot tell."
    return (
        f"{record.model} may be guessing ({scored.row.label}): its top-1 error is "
        f"{record.top1_error_pct:.2f} % (95 %: {record.top1_low_pct:.1f} to "
        f"{record.top1_high_pct:.1f}), that of guessing among {classes} classes {guessing:.1f} %. "
        f"{reason}"
    )
