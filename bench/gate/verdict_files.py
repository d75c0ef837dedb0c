"""gate.json and gate.xml (JUnit): the verdict for machines, at every moment of a run.

They say "unfinished" while a run is under way and "error" when it ended without a verdict, so that no
verdict of an earlier run can be taken for this one's.
"""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from xml.etree import ElementTree

from bench.gate.gate_limits import GateLimits
from bench.gate.verdict import Check, Gate
from bench.results.printable import printable
from bench.results.results_folder import earlier_files
from bench.statistics.evidence import Verdict
from vgg_deploy.errors import InputError, VGGDeployError
from vgg_deploy.files import whole_file, write_text

JSON, XML = "gate.json", "gate.xml"
REPORTS = ("report.html", "report.md")  # they show the verdict too
UNFINISHED, ERROR = "unfinished", "error"


def write_gate(gate: Gate, accepted: bool | None, run_id: str, folder: Path) -> None:
    """The files of a gate that has its verdict.

    Args:
        gate: What was found.
        accepted: Whether an undecided gate counts as passed; None if nobody said.
        run_id: Of this run, as in its other files.
        folder: Where the files go.
    """
    document = {
        "run_id": run_id,
        "verdict": gate.verdict.value,
        "passed": gate.verdict == Verdict.PASS,
        "undecided_counts_as": {None: None, True: "pass", False: "fail"}[accepted],
        "reference": gate.reference,
        "images": gate.images,
        "images_in_data": gate.images_there,
        "images_left_out": len(gate.left_out),
        "images_to_decide": gate.images_to_decide,
        "limits": asdict(gate.limits) | {"left_out": gate.limits.left_out or 0},
        "level": gate.method.level,
        "method": gate.method.source,
        "warnings": gate.warnings,
        "equal_to_rounding": gate.equal,
        "left_out": gate.left_out,
        "checks": [{**asdict(check), "passed": check.passed} for check in gate.checks],
    }
    _write_json(folder, document)
    _write_xml(folder, _suites(gate.checks, bool(accepted)))


@contextmanager
def verdict_on_disk(folder: Path, limits: GateLimits, run_id: str) -> Iterator[None]:
    """Keep both files true while the block runs; the block itself calls `write_gate`.

    A block that ends with an error before that leaves the verdict "error" and the message.

    Raises:
        InputError: If the folder cannot be written, before anything is measured.
    """
    _remove(folder)
    _write_open(folder, limits, run_id, UNFINISHED, "the run has not finished, or was killed")
    try:
        yield
    except BaseException as error:
        if _is_open(folder, run_id):
            message = error.message if isinstance(error, VGGDeployError) else _described(error)
            _write_open(folder, limits, run_id, ERROR, message)
        raise


def withdraw_verdict(folder: Path, message: str, run_id: str) -> None:
    """Replace the verdict of an earlier run, if there is one, by an error.

    Args:
        folder: With the results of earlier runs.
        message: Why this run ended before it began.
        run_id: Of this run.

    Raises:
        InputError: If the folder cannot be written.
    """
    if any((folder / name).is_file() for name in (JSON, XML)):
        _remove(folder)
        _write_open(folder, GateLimits(), run_id, ERROR, message)


def _remove(folder: Path) -> None:
    """An earlier verdict goes first: on a full disk nothing could be written in its place.

    The reports of that run begin with the verdict, so they go with it.
    """
    earlier = earlier_files(folder)
    reports = [name for name in REPORTS if name in earlier] if JSON in earlier else []
    for name in (*reports, JSON, XML):
        try:
            (folder / name).unlink(missing_ok=True)
        except NotADirectoryError:
            raise InputError(f"{folder}: is not a folder; choose another with --out") from None
        except OSError as error:
            raise InputError(
                f"{folder / name}: cannot be removed ({error.strerror}); choose another folder with --out"
            ) from None


def _write_open(folder: Path, limits: GateLimits, run_id: str, verdict: str, message: str) -> None:
    """The files of a gate without a verdict."""
    _write_json(
        folder,
        {
            "run_id": run_id,
            "verdict": verdict,
            "passed": False,
            "message": message,
            "limits": asdict(limits),
        },
    )
    suites = ElementTree.Element("testsuites", tests="1", failures="0", errors="1", skipped="0")
    suite = ElementTree.SubElement(
        suites, "testsuite", name="vgg-bench", tests="1", failures="0", errors="1", skipped="0"
    )
    case = ElementTree.SubElement(suite, "testcase", classname="vgg-bench", name="gate")
    ElementTree.SubElement(case, "error", type=verdict, message=printable(message))
    _write_xml(folder, suites)


def _is_open(folder: Path, run_id: str) -> bool:
    """Whether gate.json is this run's and has no verdict yet."""
    try:
        held = json.loads((folder / JSON).read_text(encoding="utf-8"))
        return held["run_id"] == run_id and held["verdict"] == UNFINISHED
    except (OSError, ValueError, KeyError, TypeError):
        return True


def _described(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return "another process of this job ended; its own message is in its log"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return f"{type(error).__name__}: {error}"


def _suites(checks: list[Check], accepted: bool) -> ElementTree.Element:
    """A suite for each model, a test case for each check. Names of cases are unique."""
    suites = ElementTree.Element("testsuites", _counts(checks, accepted))
    uses: Counter[tuple[str, str]] = Counter()
    for model in dict.fromkeys(check.model for check in checks):
        own = [check for check in checks if check.model == model]
        shown = printable(model)
        suite = ElementTree.SubElement(
            suites, "testsuite", {"name": f"vgg-bench {shown}", **_counts(own, accepted)}
        )
        for check in own:
            name = printable(" ".join(part for part in (check.check, check.rows) if part))
            uses[shown, name] += 1
            if uses[shown, name] > 1:
                name += f" ({uses[shown, name]})"
            case = ElementTree.SubElement(suite, "testcase", classname=shown, name=name)
            _add_outcome(case, check, accepted)
    return suites


def _counts(checks: list[Check], accepted: bool) -> dict[str, str]:
    failed = sum(check.verdict == Verdict.FAIL for check in checks)
    undecided = sum(check.verdict == Verdict.UNDECIDED for check in checks)
    return {
        "tests": str(len(checks)),
        "failures": str(failed + (0 if accepted else undecided)),
        "errors": "0",
        "skipped": str(undecided if accepted else 0),
    }


def _add_outcome(case: ElementTree.Element, check: Check, accepted: bool) -> None:
    if check.verdict == Verdict.PASS:
        return
    kind = "skipped" if check.verdict == Verdict.UNDECIDED and accepted else "failure"
    outcome = ElementTree.SubElement(
        case, kind, type=check.verdict.value, message=printable(check.message)
    )
    outcome.text = "\n".join(map(printable, [check.message, *check.images]))


def _write_json(folder: Path, document: dict) -> None:
    write_text(folder / JSON, json.dumps(document, indent=2) + "\n")


def _write_xml(folder: Path, suites: ElementTree.Element) -> None:
    ElementTree.indent(suites)
    with whole_file(folder / XML) as partial:
        ElementTree.ElementTree(suites).write(partial, encoding="utf-8", xml_declaration=True)
