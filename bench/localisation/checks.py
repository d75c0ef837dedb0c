"""Asks whether boxes are right on fewer images than those of the first box net."""

import numpy as np

from bench.gate.counted_checks import Question, loss_in_words
from bench.gate.method import Method
from bench.localisation.findings import LocalisationFindings
from bench.localisation.measure import Judged
from bench.localisation.rows import LocalisationRow
from vgg_deploy.boxes.localisation_error import LEAST_OVERLAP


def ask_box_drops(
    found: LocalisationFindings, limit: float | None, method: Method
) -> list[Question]:
    """Ask how many images a box net loses against the first one, by the box of the true class.

    The box of the true class needs no label, but at several scales the classifier's scores rate the
    boxes that are merged. So a row is compared with that of the same classifier.

    Args:
        found: What was measured.
        limit: Largest loss, percentage points; None asks nothing.
        method: How images become verdicts.

    Returns:
        One question for every row of one box net that the first net and classifier have too.
    """
    if limit is None:
        return []
    localised = found.localised
    rows = list(zip(localised.rows, localised.judged, strict=True))
    first = {_kind(row): judged for row, judged in rows if _is_of(row, 0)}
    return [
        _ask(found, row, judged, first[_kind(row)], limit, method)
        for row, judged in rows
        if len(row.members) == 1 and not _is_of(row, 0) and _kind(row) in first
    ]


def _is_of(row: LocalisationRow, number: int) -> bool:
    """Whether a row is of one box net alone."""
    return [member for member, _ in row.members] == [number]


def _kind(row: LocalisationRow) -> tuple[int, str, str]:
    return row.classifier, row.protocol, row.scales


def _ask(
    found: LocalisationFindings,
    row: LocalisationRow,
    judged: Judged,
    reference: Judged,
    limit: float,
    method: Method,
) -> Question:
    classifier, ((number, _),) = row.classifier, row.members
    names = [net.name for net in found.nets.box_nets]
    model = found.nets.classifiers[classifier].name
    right, was_right = judged.overlap > LEAST_OVERLAP, reference.overlap > LEAST_OVERLAP
    lost, gained = was_right & ~right, right & ~was_right
    only_reference, only_model = int(lost.sum()), int(gained.sum())
    images, allowed = len(right), limit / 100
    evidence = method.paired(only_reference, only_model, images, allowed)
    low, high, loss = (100 * v for v in (evidence.low, evidence.high, evidence.estimate))
    share = loss_in_words(loss)
    return Question(
        model=f"{model}, {names[number]}",
        check="box drop",
        rows=f"{row.protocol}, Q {row.scales}",
        evidence=evidence,
        to_decide=method.paired_to_decide(only_reference, only_model, images, allowed),
        limit=limit,
        found=loss,
        bounds=(low, high),
        text=f"the share of right boxes is {share} {names[0]}'s on {images} images (loss, 95 % "
        f"bounds: {low:+.2f} to {high:+.2f} points), allowed loss {limit:g}",
        against=np.flatnonzero(lost),
    )
