"""Writes gate.json and gate.xml (JUnit): the verdict for machines, at every moment of a run.

The files say "unfinished" while a run is under way, and "error" if it ended without a verdict, so
that nobody takes the verdict of an earlier run for this one's.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from bench.gate import junit
from bench.gate.gate_limits import GateLimits
from bench.gate.verdict import Gate
from bench.results.results_folder import earlier_files
from vgg_deploy.errors import InputError, VGGDeployError
from vgg_deploy.files import write_text
from vgg_deploy.json_files import read_json
from vgg_deploy.printable import json_text
from vgg_deploy.statistics.evidence import Verdict

JSON, XML = "gate.json", "gate.xml"
REPORTS = ("report.html", "report.md")  # they show the verdict too
UNFINISHED, ERROR = "unfinished", "error"
COUNTS_AS = {None: None, True: "pass", False: "fail"}  # an undecided gate


def write_gate(gate: Gate, accepted: bool | None, run_id: str, folder: Path) -> None:
    """Write the files of a gate that has its verdict.

    Args:
        gate: What was found.
        accepted: Whether an undecided gate counts as passed; None if the options do not say.
        run_id: Of this run, as in its other files.
        folder: Where the files go.
    """
    document = {
        "run_id": run_id,
        "verdict": gate.verdict.value,
        "passed": gate.verdict == Verdict.PASS,
        "undecided_counts_as": COUNTS_AS[accepted],
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
    junit.write(folder / XML, junit.suites_of(gate.checks, bool(accepted)))


@contextmanager
def verdict_on_disk(folder: Path, limits: GateLimits, run_id: str) -> Iterator[None]:
    """Keep both files true while the block runs; the block itself calls `write_gate`.

    A block that ends with an error before that leaves the verdict "error" and the message.

    Args:
        folder: Where the files lie.
        limits: What is asked of the models.
        run_id: Of this run.

    Raises:
        InputError: If the folder cannot be written, before anything is measured.
    """
    _remove(folder)
    _write_open(folder, limits, run_id, UNFINISHED, "the run has not finished, or was killed")
    try:
        yield
    except BaseException as error:
        if _is_open(folder, run_id):
            _write_open(folder, limits, run_id, ERROR, _describe(error))
        raise


def withdraw_verdict(folder: Path, message: str, run_id: str) -> None:
    """Replace the verdict of an earlier run by an error; do nothing if there is none.

    Args:
        folder: With the results of earlier runs.
        message: Why this run ended before it started to measure.
        run_id: Of this run.

    Raises:
        InputError: If the folder cannot be written.
    """
    if any((folder / name).is_file() for name in (JSON, XML)):
        _remove(folder)
        _write_open(folder, GateLimits(), run_id, ERROR, message)


def _remove(folder: Path) -> None:
    """Remove an earlier verdict first: on a full disk nothing could be written in its place.

    The reports of that run begin with the verdict, so they are removed too.
    """
    earlier = earlier_files(folder)
    reports = [name for name in REPORTS if name in earlier] if JSON in earlier else []
    for name in (*reports, JSON, XML):
        try:
            (folder / name).unlink(missing_ok=True)
        except NotADirectoryError:
            raise InputError(f"{folder}: is not a folder", "choose another with --out") from None
        except OSError as error:
            what = f"{folder / name}: cannot be removed ({error.strerror})"
            raise InputError(what, "choose another folder with --out") from None


def _write_open(folder: Path, limits: GateLimits, run_id: str, verdict: str, message: str) -> None:
    """Write the files of a gate without a verdict."""
    document = {
        "run_id": run_id,
        "verdict": verdict,
        "passed": False,
        "message": message,
        "limits": asdict(limits),
    }
    _write_json(folder, document)
    junit.write(folder / XML, junit.suites_of_error(verdict, message))


def _is_open(folder: Path, run_id: str) -> bool:
    """Whether gate.json belongs to this run and has no verdict yet."""
    try:
        document = read_json(folder / JSON)
    except InputError:
        return True
    if not isinstance(document, dict):
        return True
    return document.get("run_id") == run_id and document.get("verdict") == UNFINISHED


def _describe(error: BaseException) -> str:
    """Why a run ended without a verdict."""
    if isinstance(error, VGGDeployError):
        return error.message
    if isinstance(error, SystemExit):
        return "another process of this job ended; its own message is in its log"
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    return f"{type(error).__name__}: {error}"


def _write_json(folder: Path, document: Mapping[str, object]) -> None:
    write_text(folder / JSON, json_text(document, 2) + "\n")
