"""Checks of facts, which are never undecided: faults, posteriors, and images left out."""

import numpy as np

from bench.accuracy.compare import Pair
from bench.accuracy.faults import FAULT_KINDS, FAULT_KINDS_OF_REFERENCE, Fault, unexamined
from bench.accuracy.measure import Accuracy
from bench.gate.gate_limits import GateLimits
from bench.gate.verdict import DATA, LISTED, Check, named_images
from vgg_deploy.statistics.evidence import Verdict


def check_left_out(limits: GateLimits, messages: list[str]) -> Check:
    """Check that not too many images were left out.

    Args:
        limits: What is allowed; without a limit no image may be left out.
        messages: One per image that was not scored.
    """
    allowed, count = limits.left_out or 0, len(messages)
    return Check(
        model=DATA,
        check="images left out",
        rows="",
        verdict=_pass_if(count <= allowed),
        message=f"{count} image{'' if count == 1 else 's'} left out, allowed {allowed}",
        found=count,
        limit=allowed,
        images=tuple(messages[:LISTED]),
        images_total=count,
    )


def check_faults(accuracy: Accuracy) -> list[Check]:
    """One check per model and kind of fault that this run could look for.

    Args:
        accuracy: What was measured.
    """
    checks = []
    unknown = unexamined(accuracy.models, accuracy.measured, accuracy.broken)
    for index, model in enumerate(accuracy.models):
        for kind in FAULT_KINDS if index else FAULT_KINDS_OF_REFERENCE:
            own = [f for f in accuracy.faults if (f.model, f.check) == (index, kind)]
            if own:
                checks.append(_failed(model.name, kind, own))
            elif (index, kind) not in unknown:
                checks.append(Check(model.name, kind, "", Verdict.PASS, "nothing found"))
    return checks


def _failed(model: str, kind: str, faults: list[Fault]) -> Check:
    """One check for all faults of a kind; repeated findings are listed once."""
    texts = list(dict.fromkeys(fault.what for fault in faults))
    more = f" (and {len(texts) - 1} more like it)" if len(texts) > 1 else ""
    images = list(dict.fromkeys(image for fault in faults for image in fault.images))
    return Check(
        model=model,
        check=kind,
        rows="",
        verdict=Verdict.FAIL,
        message=texts[0] + more,
        images=tuple(images[:LISTED]),
        images_total=len(images),
    )


def check_posteriors(
    pair: Pair, limits: GateLimits, rounding: float | None, files: list[str]
) -> list[Check]:
    """Check how far posteriors lie from the reference's, on every image that was scored.

    Args:
        pair: A row beside the reference's.
        limits: What is allowed.
        rounding: The limit if the options give none; None for rows that may differ.
        files: Names of the images of the rows.

    Returns:
        One check, or none without a limit.
    """
    given = limits.posterior_difference
    limit = rounding if given is None else given
    if limit is None:
        return []
    if pair.distance is None:
        return [_not_comparable(pair, limit)]
    comparison = pair.comparison
    largest = pair.distance.largest
    found = comparison.largest_posterior_difference
    beyond = np.flatnonzero(largest > limit)
    beyond = beyond[np.argsort(-largest[beyond], kind="stable")]  # the farthest first
    message = (
        f"its posteriors differ from {comparison.reference}'s by up to {found:.2g} on "
        f"{comparison.images} images, allowed {limit:g}"
    )
    if given is None:
        message += ", for float32 files of the same weights differ by rounding only"
    check = Check(
        model=comparison.model,
        check="posterior difference",
        rows=pair.other.row.label,
        verdict=_pass_if(len(beyond) == 0),
        message=message,
        found=found,
        limit=limit,
        images_counted=comparison.images,
        images=named_images(beyond, files),
        images_total=len(beyond),
    )
    return [check]


def _not_comparable(pair: Pair, limit: float) -> Check:
    comparison = pair.comparison
    return Check(
        model=comparison.model,
        check="posterior difference",
        rows=pair.other.row.label,
        verdict=Verdict.FAIL,
        message=f"its posteriors cannot be compared with {comparison.reference}'s, which has other "
        "classes",
        limit=limit,
        images_counted=comparison.images,
    )


def check_compared(accuracy: Accuracy, pairs: list[Pair]) -> list[Check]:
    """Fail models that no row compares with the reference: they would pass unseen.

    Args:
        accuracy: What was measured.
        pairs: The rows that are judged beside the reference's.
    """
    if 0 in accuracy.broken:
        return []
    compared = {member.model for pair in pairs for member in pair.other.row.members}
    message = (
        f"no row of it has the protocol and scales of a row of {accuracy.models[0].name}; "
        "give --scales"
    )
    return [
        Check(model.name, "compared", "", Verdict.FAIL, message)
        for index, model in enumerate(accuracy.models)
        if index and index not in accuracy.broken and index not in compared
    ]


def _pass_if(sound: bool) -> Verdict:
    return Verdict.PASS if sound else Verdict.FAIL
