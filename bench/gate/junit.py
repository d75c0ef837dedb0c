"""Checks of a gate as a JUnit report, which CI servers show."""

from collections import Counter
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from bench.gate.verdict import Check
from vgg_deploy.files import whole_file
from vgg_deploy.printable import printable
from vgg_deploy.statistics.evidence import Verdict


def suites_of(checks: list[Check], accepted: bool) -> Element:
    """One suite per model, one test case per check. Names of cases are unique.

    Args:
        checks: All checks of the gate.
        accepted: Whether undecided checks are skipped; they fail otherwise.
    """
    suites = Element("testsuites", _counts(checks, accepted))
    uses: Counter[tuple[str, str]] = Counter()
    for model in dict.fromkeys(check.model for check in checks):
        own = [check for check in checks if check.model == model]
        shown = printable(model)
        attributes = {"name": f"vgg-bench {shown}", **_counts(own, accepted)}
        suite = SubElement(suites, "testsuite", attributes)
        for check in own:
            name = printable(" ".join(part for part in (check.check, check.rows) if part))
            uses[shown, name] += 1
            if uses[shown, name] > 1:
                name += f" ({uses[shown, name]})"
            case = SubElement(suite, "testcase", classname=shown, name=name)
            _add_outcome(case, check, accepted)
    return suites


def suites_of_error(kind: str, message: str) -> Element:
    """A single test case with an error.

    Args:
        kind: Type of the error.
        message: Why there is no verdict.
    """
    counts = {"tests": "1", "failures": "0", "errors": "1", "skipped": "0"}
    suites = Element("testsuites", counts)
    suite = SubElement(suites, "testsuite", {"name": "vgg-bench", **counts})
    case = SubElement(suite, "testcase", classname="vgg-bench", name="gate")
    SubElement(case, "error", type=kind, message=printable(message))
    return suites


def write(path: Path, suites: Element) -> None:
    """Write the report, or leave an earlier one untouched.

    Args:
        path: The file.
        suites: The root of the report.

    Raises:
        InputError: If the file cannot be written.
    """
    ElementTree.indent(suites)
    with whole_file(path) as partial:
        ElementTree.ElementTree(suites).write(partial, encoding="utf-8", xml_declaration=True)


def _counts(checks: list[Check], accepted: bool) -> dict[str, str]:
    failed = sum(check.verdict == Verdict.FAIL for check in checks)
    undecided = sum(check.verdict == Verdict.UNDECIDED for check in checks)
    return {
        "tests": str(len(checks)),
        "failures": str(failed if accepted else failed + undecided),
        "errors": "0",
        "skipped": str(undecided if accepted else 0),
    }


def _add_outcome(case: Element, check: Check, accepted: bool) -> None:
    if check.verdict == Verdict.PASS:
        return
    kind = "skipped" if check.verdict == Verdict.UNDECIDED and accepted else "failure"
    message = printable(check.message)
    outcome = SubElement(case, kind, type=check.verdict.value, message=message)
    outcome.text = "\n".join(map(printable, [check.message, *check.images]))
