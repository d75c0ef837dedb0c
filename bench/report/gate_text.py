"""Summarises a gate for people: the verdict in a sentence, and the checks that did not pass."""

from typing import NamedTuple

from bench.accuracy.measure import Accuracy
from bench.gate.cost_checks import OF_NO_IMAGES
from bench.gate.verdict import DATA, Check, Gate
from bench.report.tables import Texts
from vgg_deploy.printable import printable
from vgg_deploy.statistics.evidence import Verdict

NAMED = 5  # images that a line names; gate.json names up to a thousand
MOST_LINES = 20  # on the terminal


class Summary(NamedTuple):
    """Checks of one kind of one model that have the same verdict.

    Attributes:
        worst: The check that lies farthest beyond its limit.
        matching: How many checks have this verdict.
        total: How many checks of this kind the model has.
    """

    worst: Check
    matching: int
    total: int


def headline(gate: Gate) -> str:
    """The verdict, and what it rests on.

    Args:
        gate: The gate.
    """
    total = len(gate.checks)
    images = f" on {gate.images:,} images" if gate.images else ""
    if gate.images < gate.images_there - len(gate.left_out):
        images = f" on {gate.images:,} of {gate.images_there:,} images"
    failed, undecided = gate.count(Verdict.FAIL), gate.count(Verdict.UNDECIDED)
    if gate.verdict == Verdict.FAIL:
        more = f", {undecided} undecided" if undecided else ""
        return (
            f"Gate: fail. {failed} of {total} checks failed{more}{',' if images else ''}{images}."
        )
    if gate.verdict == Verdict.UNDECIDED:
        return (
            f"Gate: undecided. {undecided} of {total} checks are undecided{images}; "
            f"{_advice(gate)}."
        )
    checks = f"All {total} checks" if total > 1 else "Its only check"
    return f"Gate: pass. {checks} passed{images}."


def _advice(gate: Gate) -> str:
    """What would decide the undecided checks."""
    undecided = [check for check in gate.checks if check.verdict == Verdict.UNDECIDED]
    of_images = [check for check in undecided if check.check not in OF_NO_IMAGES]
    if not of_images:
        return "each says what would decide it"
    decidable = sum(check.images_to_decide is not None for check in of_images)
    others = "" if len(of_images) == len(undecided) else "; the others say what would"
    if not decidable:
        return f"no number of images decides them, only another limit does{others}"
    advice = f"about {gate.images_to_decide:,} would decide"
    if decidable < len(of_images):
        return f"{advice} {decidable} of them, and only another limit the rest{others}"
    return f"{advice}{others}"


def summaries(gate: Gate, verdict: Verdict) -> list[Summary]:
    """Summarise the checks with a verdict, by model and kind of check.

    Args:
        gate: The gate.
        verdict: Of the checks.
    """
    groups: dict[tuple[str, str], list[Check]] = {}
    for check in gate.checks:
        groups.setdefault((check.model, check.check), []).append(check)
    found = []
    for group in groups.values():
        own = [check for check in group if check.verdict == verdict]
        if own:
            found.append(Summary(max(own, key=_beyond), len(own), len(group)))
    return found


def open_checks(gate: Gate) -> list[Summary]:
    """Summarise what failed, then what is undecided.

    Undecided checks of a model that failed are left out.

    Args:
        gate: The gate.
    """
    undecided = summaries(gate, Verdict.UNDECIDED)
    failing = gate.failing
    rest = [summary for summary in undecided if summary.worst.model not in failing]
    return summaries(gate, Verdict.FAIL) + rest


def _beyond(check: Check) -> float:
    """How far a check lies beyond its limit, in the limit's unit."""
    if check.found is None or check.limit is None:
        return float("inf")
    return check.limit - check.found if check.check == "agreement" else check.found - check.limit


def lines(gate: Gate) -> list[str]:
    """Lines for the terminal: warnings, what did not pass, and the verdict last.

    Args:
        gate: The gate.
    """
    report = [f"Warning: {text}" for text in gate.warnings] + gate.equal
    shown = open_checks(gate)
    for summary in shown[:MOST_LINES]:
        report.append(f"{summary.worst.verdict.value.upper()} {sentence(summary)}")
    if len(shown) > MOST_LINES:
        report.append(f"... and {len(shown) - MOST_LINES} more; gate.json has all")
    if any(summary.total > 1 for summary in shown):
        report.append(
            f"Every row is judged; over all rows together the chance of a false fail is at most "
            f"{100 * gate.method.level:g} % (Holm's correction)."
        )
    return [printable(line) for line in [*report, headline(gate)]]


def sentence(summary: Summary) -> str:
    """A line about the worst check of a summary, with the first images.

    Args:
        summary: The checks.
    """
    check = summary.worst
    subject = "" if check.model == DATA else f"{check.model}, {check.check}"
    if summary.total > 1:
        subject += f" ({summary.matching} of {summary.total} rows, the worst {check.rows})"
    elif check.rows:
        subject += f" ({check.rows})"
    return f"{subject}: {_finding(check)}" if subject else _finding(check)


def _finding(check: Check) -> str:
    named = ", ".join(check.images[:NAMED])
    if check.images_total > NAMED:
        named += f" and {check.images_total - NAMED} more"
    return f"{check.message}; on {named}" if named else check.message


def gate_texts(gate: Gate) -> Texts:
    """The table of checks: what failed and what is undecided, then what passed.

    What failed or is undecided has one line per model and kind of check.

    Args:
        gate: The gate.
    """
    passed = summaries(gate, Verdict.PASS)
    measured = [summary for summary in passed if summary.worst.found is not None]
    rows = [_table_row(summary) for summary in (*open_checks(gate), *measured)]
    for model in dict.fromkeys(check.model for check in gate.checks):
        kinds = [
            summary.worst.check
            for summary in passed
            if summary.worst.model == model and summary.worst.found is None
        ]
        if kinds:
            verdict = Verdict.PASS.value
            rows.append([verdict, printable(model), ", ".join(kinds), "", "nothing found"])
    heads = ["verdict", "model", "check", "rows", "finding"]
    return Texts("Checks of the gate", heads, rows)


def _table_row(summary: Summary) -> list[str]:
    check, rows = summary.worst, summary.worst.rows
    if summary.total > 1:
        rows = f"{summary.matching} of {summary.total}, the worst: {check.rows}"
    finding = printable(_finding(check))
    return [check.verdict.value, printable(check.model), check.check, rows, finding]


def fault_texts(accuracy: Accuracy) -> Texts:
    """The table of models without rows, and why they have none: one line per model.

    Args:
        accuracy: What was measured.
    """
    rows = []
    for index in sorted(accuracy.broken):
        found = dict.fromkeys(fault.what for fault in accuracy.faults if fault.model == index)
        first = next(iter(found))
        more = f" (and {len(found) - 1} more findings like it)" if len(found) > 1 else ""
        rows.append([printable(accuracy.models[index].name), printable(first + more)])
    title = "Models with faults, which have no rows in the tables"
    return Texts(title, ["model", "finding"], rows)
