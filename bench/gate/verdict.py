"""The gate of a CI build: what the limits ask, what the images show, and the verdict.

The first model is the reference. Drops, agreement and errors are judged by the number of images that
speak for or against them, and may stay undecided. Faults, posteriors and images left out are facts.
"""

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bench.accuracy.accuracy_rows import Scored
from bench.accuracy.compare import Pair, one_right
from bench.accuracy.distance import LEAST_IMAGES, rounding_limit
from bench.accuracy.faults import FAULT_KINDS, FAULT_KINDS_OF_REFERENCE, unexamined
from bench.accuracy.measure import Accuracy
from bench.accuracy.protocols import Row
from bench.gate.gate_limits import GateLimits
from bench.statistics.evidence import (
    LEVEL,
    Evidence,
    Verdict,
    images_to_decide,
    images_to_decide_proportion,
    paired_evidence,
    proportion_evidence,
    verdicts,
)
from bench.statistics.sequential import (
    SEQUENTIAL_LEVEL,
    images_to_decide_anytime,
    images_to_decide_proportion_anytime,
    paired_evidence_anytime,
    proportion_evidence_anytime,
)

LISTED = 1000  # images that gate.json names for one check
DATA = "data"  # stands for the model where a check concerns the images


class Method(NamedTuple):
    """How a number of images becomes a verdict."""

    level: float  # chance of a false pass, and of any false fail
    paired: Callable[[int, int, int, float], Evidence]
    proportion: Callable[[int, int, float], Evidence]
    paired_to_decide: Callable[[int, int, int, float], int | None]
    proportion_to_decide: Callable[[int, int, float], int | None]
    source: str


def least_images(limit: float, level: float) -> int | None:
    """Images that show a loss within the limit if not one of them speaks against the model.

    All of n images speak for a model that loses `limit` with the chance (1 - limit)^n.

    Args: limit, a fraction; level, the chance of a false pass.
    Returns: None for a limit of 0, which no number of images shows.
    """
    if limit <= 0:
        return None
    return 1 if limit >= 1 else math.ceil(math.log(level) / math.log1p(-limit))


def _paired_to_decide(
    only_reference: int, only_model: int, images: int, limit: float
) -> int | None:
    if only_reference == only_model == 0:
        return least_images(limit, LEVEL)
    return images_to_decide(only_reference, only_model, images, limit)


def _proportion_to_decide(count: int, images: int, limit: float) -> int | None:
    if count == 0:
        return least_images(limit, LEVEL)
    return images_to_decide_proportion(count, images, limit)


FIXED = Method(
    LEVEL,
    paired_evidence,
    proportion_evidence,
    _paired_to_decide,
    _proportion_to_decide,
    "exact one-sided tests at a fixed number of images (paired: unconditional, ordered by Tango's score; "
    "shares: Clopper and Pearson 1934); fails corrected over all rows by Holm 1979",
)
SEQUENTIAL = Method(
    SEQUENTIAL_LEVEL,
    paired_evidence_anytime,
    proportion_evidence_anytime,
    images_to_decide_anytime,
    images_to_decide_proportion_anytime,
    "anytime-valid tests by betting (Waudby-Smith and Ramdas 2023; Ville 1939); fails corrected over all rows "
    "by Holm 1979",
)


@dataclass(frozen=True)
class Check:
    """One question and its answer. Field names are the keys of gate.json."""

    model: str
    check: str
    rows: str  # protocol, scales and flips; empty where it concerns the file or the data as a whole
    verdict: Verdict
    message: str
    found: float | None = None  # in the unit of the limit
    limit: float | None = None
    low: float | None = None  # one-sided 95 % bounds, where images are counted
    high: float | None = None
    images_counted: int | None = None
    images_to_decide: int | None = None  # about so many would decide; only of undecided checks
    images: tuple[str, ...] = ()  # names of those that speak against the model
    images_total: int = 0

    @property
    def passed(self) -> bool:
        """Whether the verdict is "pass"."""
        return self.verdict == Verdict.PASS


@dataclass(frozen=True)
class Gate:
    """All answers, and what they rest on."""

    reference: str
    limits: GateLimits
    method: Method
    checks: list[Check]
    warnings: list[str]
    equal: list[str]  # what is known of models that equal the reference to rounding
    images: int  # scored
    images_there: int  # in the data
    left_out: list[str]  # what was wrong with images that were not scored

    @property
    def verdict(self) -> Verdict:
        """Fail if any check fails, else undecided if any is, else pass."""
        found = {check.verdict for check in self.checks}
        for worst in (Verdict.FAIL, Verdict.UNDECIDED):
            if worst in found:
                return worst
        return Verdict.PASS

    def count(self, verdict: Verdict) -> int:
        """Checks with this verdict."""
        return sum(check.verdict == verdict for check in self.checks)

    @property
    def failing(self) -> set[str]:
        """Names of models with a failed check."""
        return {check.model for check in self.checks if check.verdict == Verdict.FAIL}

    @property
    def images_to_decide(self) -> int | None:
        """About so many images would decide all checks that any number decides."""
        wanted = [check.images_to_decide for check in self.checks if check.images_to_decide]
        return max(wanted, default=None)


class _Counted(NamedTuple):
    """A question that a number of images answers."""

    model: str
    check: str
    rows: str
    evidence: Evidence  # of the loss, as a fraction
    to_decide: int | None
    limit: float  # as the option has it, per cent or points
    found: float  # in the unit of the limit
    bounds: tuple[float, float]  # in the unit of the limit
    text: str
    against: np.ndarray  # positions of the images that speak against the model


class Judge(NamedTuple):
    """What is asked of the models; answers come from `judge`."""

    limits: GateLimits
    rows: set[Row]  # those that count
    cell_type: str  # of the stored posteriors
    method: Method


def judge(asked: Judge, accuracy: Accuracy, left_out: list[str]) -> Gate:
    """Judge every row that counts, of every model.

    Args:
        asked: Limits, rows and method.
        accuracy: What was measured.
        left_out: Messages about images that were not scored.
    """
    models = accuracy.models
    pairs = [pair for pair in accuracy.pairs if pair.other.row in asked.rows]
    scored = [one for one in accuracy.scored if one.row in asked.rows]
    checks = [_left_out(asked.limits, left_out), *_of_faults(accuracy)]
    counted, equal, pairs_of = [], defaultdict(list), defaultdict(list)
    for pair in pairs:
        pairs_of[pair.comparison.model].append(pair)
        rounding = rounding_limit(models, pair.reference.row, pair.other.row, asked.cell_type)
        checks += _of_distance(pair, asked.limits, rounding, accuracy.files)
        if _equal(pair, rounding):
            equal[pair.comparison.model].append(pair)
            checks += _passed_by_equality(pair, asked.limits)
        else:
            counted += _drops(pair, asked) + _agreement(pair, asked)
    counted += [_error(one, asked) for one in scored if asked.limits.top1_error is not None]
    answers = verdicts([question.evidence for question in counted], asked.method.level)
    checks += [_answered(*both, accuracy.files) for both in zip(counted, answers, strict=True)]
    if asked.limits.compares:
        checks += _uncompared(accuracy, pairs)
    return Gate(
        models[0].name, asked.limits, asked.method, checks, _at_chance(scored, accuracy),
        [_of_equal(own, len(pairs_of[name])) for name, own in equal.items()], len(accuracy.files),
        len(accuracy.measured.kept), left_out,
    )  # fmt: skip


def _left_out(limits: GateLimits, messages: list[str]) -> Check:
    allowed, count = limits.left_out or 0, len(messages)
    verdict = Verdict.PASS if count <= allowed else Verdict.FAIL
    text = f"{count} image{'' if count == 1 else 's'} left out, allowed {allowed}"
    return Check(
        DATA, "images left out", "", verdict, text, count, allowed,
        images=tuple(messages[:LISTED]), images_total=count,
    )  # fmt: skip


def _of_faults(accuracy: Accuracy) -> list[Check]:
    """One check for every kind of fault of every model that was looked for; what was found is said once."""
    checks = []
    unknown = unexamined(accuracy.models, accuracy.measured, accuracy.broken)
    for m, model in enumerate(accuracy.models):
        for kind in FAULT_KINDS if m else FAULT_KINDS_OF_REFERENCE:
            own = [fault for fault in accuracy.faults if (fault.model, fault.check) == (m, kind)]
            if not own:
                if (m, kind) not in unknown:
                    checks.append(Check(model.name, kind, "", Verdict.PASS, "nothing found"))
                continue
            texts = list(dict.fromkeys(fault.what for fault in own))
            text = texts[0] + (f" (and {len(texts) - 1} more like it)" if len(texts) > 1 else "")
            images = list(dict.fromkeys(image for fault in own for image in fault.images))
            checks.append(
                Check(
                    model.name,
                    kind,
                    "",
                    Verdict.FAIL,
                    text,
                    images=tuple(images[:LISTED]),
                    images_total=len(images),
                )  # fmt: skip
            )
    return checks


def _of_distance(
    pair: Pair, limits: GateLimits, rounding: float | None, files: list[str]
) -> list[Check]:
    """The limit of the option, else that of pairs that must be equal, on every image scored."""
    limit = rounding if limits.posterior_difference is None else limits.posterior_difference
    if limit is None:
        return []
    c, name, where = pair.comparison, "posterior difference", pair.other.row.label
    if pair.distance is None:
        text = f"its posteriors cannot be compared with {c.reference}'s, which has other classes"
        return [
            Check(c.model, name, where, Verdict.FAIL, text, None, limit, images_counted=c.images)
        ]
    found = c.largest_posterior_difference
    beyond = np.flatnonzero(pair.distance.largest > limit)
    beyond = beyond[np.argsort(-pair.distance.largest[beyond], kind="stable")]
    text = f"its posteriors differ from {c.reference}'s by up to {found:.2g} on {c.images} images, allowed {limit:g}"
    if limits.posterior_difference is None:
        text += ", for float32 files of the same weights differ by rounding only"
    return [
        Check(
            c.model,
            name,
            where,
            Verdict.FAIL if len(beyond) else Verdict.PASS,
            text,
            found,
            limit,
            images_counted=c.images,
            images=_names(beyond, files),
            images_total=len(beyond),
        )  # fmt: skip
    ]


def _equal(pair: Pair, rounding: float | None) -> bool:
    """Whether a row is shown equal to the reference's but for rounding."""
    if rounding is None or pair.distance is None:
        return False
    enough = pair.comparison.images >= LEAST_IMAGES
    return enough and pair.comparison.largest_posterior_difference <= rounding


def _could_flip(pair: Pair) -> int:
    """Images whose best class could change: a margin below twice the largest difference."""
    return int((pair.reference.margin < 2 * pair.comparison.largest_posterior_difference).sum())


def _of_equal(pairs: list[Pair], rows: int) -> str:
    """One line for a model. Args: pairs, its rows that are equal; rows, how many it has in all."""
    name = pairs[0].comparison.model
    where = "" if len(pairs) == rows else f" in {len(pairs)} of {rows} rows, not in the others"
    reference, images = pairs[0].comparison.reference, pairs[0].comparison.images
    largest = max(pair.comparison.largest_posterior_difference for pair in pairs)
    flips = max(_could_flip(pair) for pair in pairs)
    return (
        f"{name} equals {reference} to rounding{where}: on {images} images its posteriors differ by at most "
        f"{largest:.2g}, so it passes the limits of drop and agreement. {flips} images have a margin below "
        f"{2 * largest:.2g} and could change their best class."
    )


def _passed_by_equality(pair: Pair, limits: GateLimits) -> list[Check]:
    c, checks = pair.comparison, []
    reason = (
        f"equal to {c.reference} to rounding on {c.images} images (posteriors differ by at most "
        f"{c.largest_posterior_difference:.2g}; {_could_flip(pair)} images have a margin below twice that)"
    )
    asked = (
        ("top-1 drop", c.top1_difference_pct, limits.top1_drop),
        ("top-5 drop", c.top5_difference_pct, limits.top5_drop),
        ("agreement", c.agreement_pct, limits.agreement),
    )
    for name, found, limit in asked:
        if limit is not None:
            checks.append(
                Check(
                    c.model,
                    name,
                    pair.other.row.label,
                    Verdict.PASS,
                    reason,
                    found,
                    limit,
                    images_counted=c.images,
                )
            )
    return checks


def _drops(pair: Pair, asked: Judge) -> list[_Counted]:
    c, questions = pair.comparison, []
    for k, limit in ((1, asked.limits.top1_drop), (5, asked.limits.top5_drop)):
        if limit is None:
            continue
        split = one_right(pair.reference, pair.other, k)
        evidence = asked.method.paired(*split, c.images, limit / 100)
        bounds = 100 * evidence.low, 100 * evidence.high
        found = 100 * evidence.estimate
        text = (
            f"top-{k} accuracy is {_compared(found)} {c.reference}'s on {c.images} images "
            f"(loss, 95 % bounds: {bounds[0]:+.2f} to {bounds[1]:+.2f} points), allowed loss {limit:g}"
        )
        lost = np.flatnonzero((pair.reference.ranks < k) & (pair.other.ranks >= k))
        wanted = asked.method.paired_to_decide(*split, c.images, limit / 100)
        questions.append(
            _Counted(
                c.model,
                f"top-{k} drop",
                pair.other.row.label,
                evidence,
                wanted,
                limit,
                found,
                bounds,
                text,
                lost,
            )
        )
    return questions


def _compared(loss: float) -> str:
    """In points of accuracy."""
    if loss == 0:
        return "the same as"
    return f"{abs(loss):.2f} points {'lower' if loss > 0 else 'higher'} than"


def _agreement(pair: Pair, asked: Judge) -> list[_Counted]:
    limit, c = asked.limits.agreement, pair.comparison
    if limit is None:
        return []
    differ = np.flatnonzero(pair.reference.best != pair.other.best)
    allowed = round(1 - limit / 100, 12)
    evidence = asked.method.proportion(len(differ), c.images, allowed)
    bounds = 100 - 100 * evidence.high, 100 - 100 * evidence.low
    text = (
        f"agrees with {c.reference} on {c.agreement_pct:.2f} % of {c.images} images "
        f"(95 % bounds: {bounds[0]:.2f} to {bounds[1]:.2f} %), wanted {limit:g} %"
    )
    wanted = asked.method.proportion_to_decide(len(differ), c.images, allowed)
    where = pair.other.row.label
    return [
        _Counted(
            c.model,
            "agreement",
            where,
            evidence,
            wanted,
            limit,
            c.agreement_pct,
            bounds,
            text,
            differ,
        )
    ]


def _error(one: Scored, asked: Judge) -> _Counted:
    limit, r = float(asked.limits.top1_error or 0), one.record
    wrong = np.flatnonzero(one.ranks >= 1)
    evidence = asked.method.proportion(len(wrong), r.images, limit / 100)
    bounds = 100 * evidence.low, 100 * evidence.high
    text = (
        f"top-1 error is {r.top1_error_pct:.2f} % on {r.images} images "
        f"(95 % bounds: {bounds[0]:.2f} to {bounds[1]:.2f} %), allowed {limit:g} %"
    )
    wanted = asked.method.proportion_to_decide(len(wrong), r.images, limit / 100)
    return _Counted(
        r.model,
        "top-1 error",
        one.row.label,
        evidence,
        wanted,
        limit,
        r.top1_error_pct,
        bounds,
        text,
        wrong,
    )


def _answered(question: _Counted, verdict: Verdict, files: list[str]) -> Check:
    q, text, wanted = question, question.text, None
    if verdict == Verdict.UNDECIDED:
        wanted = q.to_decide
        text += f"; {_needed(wanted, q)}"
    return Check(
        q.model, q.check, q.rows, verdict, text, q.found, q.limit, *q.bounds, q.evidence.images, wanted,
        _names(q.against, files), len(q.against),
    )  # fmt: skip


def _needed(images: int | None, question: _Counted) -> str:
    if images is not None:
        about = "at least" if not len(question.against) else "about"
        return f"too few images for a verdict, {about} {images:,} are needed"
    if question.check == "agreement" and question.limit == 100:
        return "no number of images can show that all agree; a limit below 100 can be decided"
    if question.limit == 0:
        return "no number of images can show that nothing is lost; a limit above 0 can be decided"
    return "no number of images decides a limit that equals what was seen"


def _uncompared(accuracy: Accuracy, pairs: list[Pair]) -> list[Check]:
    """Models without a fault that no row compares with the reference would pass unseen."""
    seen = {member.model for pair in pairs for member in pair.other.row.members}
    broken = accuracy.broken
    if 0 in broken:
        return []
    text = f"no row of it has the protocol and scales of a row of {accuracy.models[0].name}; give --scales"
    return [
        Check(model.name, "compared", "", Verdict.FAIL, text)
        for m, model in enumerate(accuracy.models)
        if m and m not in broken and m not in seen
    ]


def _at_chance(scored: list[Scored], accuracy: Accuracy) -> list[str]:
    """Where the reference may be guessing, agreement with it means nothing."""
    for one in scored:
        if [member.model for member in one.row.members] != [0] or not one.labelled:
            continue
        classes = len(accuracy.classes.of_model[0])
        guessing = 100 * (1 - 1 / classes)
        r = one.record
        reason = "Most often its classes are in another order than the labels."
        if r.images < LEAST_IMAGES:
            reason = "So few images cannot tell."
        if classes > 1 and r.top1_high_pct >= guessing:
            return [
                f"{r.model} may be guessing ({one.row.label}): its top-1 error is {r.top1_error_pct:.2f} % "
                f"(95 %: {r.top1_low_pct:.1f} to {r.top1_high_pct:.1f}), that of guessing among {classes} classes "
                f"{guessing:.1f} %. {reason}"
            ]
    return []


def _names(at: np.ndarray, files: list[str]) -> tuple[str, ...]:
    return tuple(files[i] for i in at[:LISTED])
