"""What people read of a gate: the verdict in a sentence, and the checks that did not pass, summarised."""

from typing import NamedTuple

from bench.accuracy.measure import Accuracy
from bench.gate.verdict import DATA, Check, Gate
from bench.report.tables import Texts
from bench.results.printable import printable
from bench.statistics.evidence import Verdict

NAMED = 5  # images that a line names; gate.json names up to a thousand
MOST_LINES = 20  # on the terminal


class Summary(NamedTuple):
    """Checks of one kind of one model that have the same verdict."""

    worst: Check
    count: int  # with this verdict
    of: int  # of this kind, of this model


def headline(gate: Gate) -> str:
    """The verdict, and what it rests on."""
    total = len(gate.checks)
    images = f"{gate.images:,} images"
    if gate.images < gate.images_there - len(gate.left_out):
        images = f"{gate.images:,} of {gate.images_there:,} images"
    failed, undecided = gate.count(Verdict.FAIL), gate.count(Verdict.UNDECIDED)
    if gate.verdict == Verdict.FAIL:
        more = f", {undecided} undecided" if undecided else ""
        return f"Gate: fail. {failed} of {total} checks failed{more}, on {images}."
    if gate.verdict == Verdict.UNDECIDED:
        return f"Gate: undecided. {undecided} of {total} checks are undecided on {images}; {_advice(gate, undecided)}."
    return f"Gate: pass. All {total} checks passed on {images}."


def _advice(gate: Gate, undecided: int) -> str:
    """How many images would decide. Args: undecided, number of undecided checks."""
    decidable = sum(
        check.verdict == Verdict.UNDECIDED and check.images_to_decide is not None
        for check in gate.checks
    )
    if not decidable:
        return "no number of images decides them, only another limit does"
    advice = f"about {gate.images_to_decide:,} would decide"
    if decidable < undecided:
        return f"{advice} {decidable} of them, and only another limit the rest"
    return advice


def summaries(gate: Gate, *wanted: Verdict) -> list[Summary]:
    """Checks with these verdicts, in this order; of several rows the worst speaks."""
    groups: dict[tuple[str, str], list[Check]] = {}
    for check in gate.checks:
        groups.setdefault((check.model, check.check), []).append(check)
    found = []
    for verdict in wanted:
        for group in groups.values():
            own = [check for check in group if check.verdict == verdict]
            if own:
                found.append(Summary(max(own, key=_badness), len(own), len(group)))
    return found


def open_checks(gate: Gate) -> list[Summary]:
    """What failed, then what is undecided. What else is undecided about a model that failed matters no more."""
    failed, undecided = summaries(gate, Verdict.FAIL), summaries(gate, Verdict.UNDECIDED)
    return failed + [one for one in undecided if one.worst.model not in gate.failing]


def _badness(check: Check) -> float:
    """How far beyond the limit, in its unit."""
    if check.found is None or check.limit is None:
        return float("inf")
    return check.limit - check.found if check.check == "agreement" else check.found - check.limit


def lines(gate: Gate) -> list[str]:
    """For the terminal: warnings, what did not pass, and the verdict last."""
    told = [f"Warning: {text}" for text in gate.warnings] + gate.equal
    shown = open_checks(gate)
    for summary in shown[:MOST_LINES]:
        told.append(f"{summary.worst.verdict.value.upper()} {sentence(summary)}")
    if len(shown) > MOST_LINES:
        told.append(f"... and {len(shown) - MOST_LINES} more; gate.json has all")
    if any(summary.of > 1 for summary in shown):
        told.append(
            f"Every row is judged; over all rows together the chance of a false fail is at most "
            f"{100 * gate.method.level:g} % (Holm's correction)."
        )
    return [printable(line) for line in [*told, headline(gate)]]


def sentence(summary: Summary) -> str:
    """One line about the worst check, with the first images."""
    check = summary.worst
    subject = "" if check.model == DATA else f"{check.model}, {check.check}"
    if summary.of > 1:
        subject += f" ({summary.count} of {summary.of} rows, the worst {check.rows})"
    elif check.rows:
        subject += f" ({check.rows})"
    return (f"{subject}: " if subject else "") + _finding(check)


def _finding(check: Check) -> str:
    named = ", ".join(check.images[:NAMED])
    if check.images_total > NAMED:
        named += f" and {check.images_total - NAMED} more"
    return check.message + (f"; on {named}" if named else "")


def gate_texts(gate: Gate) -> Texts:
    """What failed and is undecided, a line for each kind of check of each model; then what passed, in fewer lines."""
    passed = summaries(gate, Verdict.PASS)
    measured = [one for one in passed if one.worst.found is not None]
    rows = [_line(one) for one in (*open_checks(gate), *measured)]
    for model in dict.fromkeys(check.model for check in gate.checks):
        kinds = [
            one.worst.check
            for one in passed
            if one.worst.model == model and one.worst.found is None
        ]
        if kinds:
            rows.append(
                [Verdict.PASS.value, printable(model), ", ".join(kinds), "", "nothing found"]
            )
    return Texts(
        "Checks of the gate", ["verdict", "model", "check", "rows", "what was found"], rows
    )


def _line(summary: Summary) -> list[str]:
    check = summary.worst
    rows = (
        check.rows
        if summary.of == 1
        else f"{summary.count} of {summary.of}, the worst: {check.rows}"
    )
    return [
        check.verdict.value,
        printable(check.model),
        check.check,
        rows,
        printable(_finding(check)),
    ]


def fault_texts(accuracy: Accuracy) -> Texts:
    """Models without rows in the tables, and why."""
    found = {
        (fault.model, fault.what) for fault in accuracy.faults if fault.model in accuracy.broken
    }
    rows = [[printable(accuracy.models[m].name), printable(what)] for m, what in sorted(found)]
    return Texts(
        "Models with faults, which have no rows in the tables", ["model", "what was found"], rows
    )
