"""The gate of a CI build: the first model is the reference, and no other may fall behind it."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from bench.accuracy import Scored
from bench.compare import Comparison
from bench.faults import FAULT_KINDS, FAULT_KINDS_OF_REFERENCE, Fault
from bench.models import Model
from vgg_deploy.files import whole_file, write_text

NAMED = 5  # images that a message names; gate.json names up to LISTED
LISTED = 1000


@dataclass(frozen=True)
class Limits:
    """What an exported model may lose; None: not limited. Percentage points, and per cent of images."""

    top1_drop: float | None = None
    top5_drop: float | None = None
    agreement: float | None = None

    def __bool__(self) -> bool:
        return any(limit is not None for limit in (self.top1_drop, self.top5_drop, self.agreement))


@dataclass(frozen=True)
class Check:
    """One question and its answer."""

    model: str
    check: str
    rows: str  # protocol, scales and flips; empty where it concerns the file as a whole
    passed: bool
    found: float | None
    limit: float | None
    message: str
    images: list[str]
    images_total: int


def checks_of_faults(models: list[Model], faults: list[Fault]) -> list[Check]:
    """Every kind of finding for every model: a breach where it was found."""
    checks = []
    for m, model in enumerate(models):
        for kind in FAULT_KINDS if m else FAULT_KINDS_OF_REFERENCE:
            own = [f for f in faults if (f.model, f.check) == (m, kind)]
            checks += [Check(model.name, kind, "", False, None, None, f.what, f.images[:LISTED], len(f.images)) for f in own]
            if not own:
                checks.append(Check(model.name, kind, "", True, None, None, "nothing found", [], 0))
    return checks


def checks_of_pairs(pairs: list[tuple[Scored, Scored, Comparison]], limits: Limits, files: list[str]) -> list[Check]:
    """Every row of every model against the reference's. Args: files, of the images that the rows hold."""
    checks = []
    for reference, other, c in pairs:
        where = f"{c.protocol}, Q {c.scales}{', flips' if c.flips else ''}"
        for k, drop, limit in ((1, c.top1_difference_pct, limits.top1_drop), (5, c.top5_difference_pct, limits.top5_drop)):
            if limit is not None:
                lost = np.flatnonzero((reference.ranks < k) & (other.ranks >= k))
                low, high = (c.top1_low_pct, c.top1_high_pct) if k == 1 else (c.top5_low_pct, c.top5_high_pct)
                text = f"top-{k} accuracy is {drop:+.2f} points below {c.reference}'s (95 %: {low:+.2f} to {high:+.2f}), allowed {limit:g}"
                checks.append(_check(c, f"top-{k} drop", where, drop <= limit + ROUNDING, drop, limit, text, lost, files))
        if limits.agreement is not None:
            differ = np.flatnonzero(reference.best != other.best)
            text = f"agrees with {c.reference} on {c.agreement_pct:.2f} % of {c.images} images, wanted {limits.agreement:g} %"
            passed = c.agreement_pct >= limits.agreement - ROUNDING
            checks.append(_check(c, "agreement", where, passed, c.agreement_pct, limits.agreement, text, differ, files))
    return checks


ROUNDING = 1e-9  # per cent; 0.5 points of 200 images is one image, whatever floats make of it


def write_gate(checks: list[Check], limits: Limits, reference: str, folder: Path) -> None:
    """gate.json and gate.xml (JUnit) for machines."""
    document = {"passed": all(c.passed for c in checks), "reference": reference, "limits": asdict(limits), "checks": [asdict(c) for c in checks]}
    write_text(folder / "gate.json", json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    suites = ElementTree.Element("testsuites")
    for model in dict.fromkeys(c.model for c in checks):
        own = [c for c in checks if c.model == model]
        failures = str(sum(not c.passed for c in own))
        suite = ElementTree.SubElement(suites, "testsuite", name=f"vgg-bench {model}", tests=str(len(own)), failures=failures)
        for c in own:
            case = ElementTree.SubElement(suite, "testcase", classname=model, name=f"{c.check} {c.rows}".strip())
            if not c.passed:
                ElementTree.SubElement(case, "failure", message=_printable(c.message)).text = _printable("\n".join([c.message, *c.images]))
    with whole_file(folder / "gate.xml") as partial:
        ElementTree.ElementTree(suites).write(partial, encoding="utf-8", xml_declaration=True)


def tell(checks: list[Check], say: Callable[[str], None]) -> None:
    """The breaches, with the first images, then the verdict."""
    for c in checks:
        if not c.passed:
            named = f"; on {', '.join(c.images[:NAMED])}{f' and {c.images_total - NAMED} more' if c.images_total > NAMED else ''}" if c.images else ""
            say(f"BREACH {c.model}{f', {c.rows}' if c.rows else ''}: {c.message}{named}")
    broken = sum(not c.passed for c in checks)
    say(f"Gate: {broken} of {len(checks)} checks failed" if broken else f"Gate: all {len(checks)} checks passed")


def _printable(text: str) -> str:
    """XML has no place for control characters, which file names may hold."""
    return "".join(char if char.isprintable() or char == "\n" else "\N{REPLACEMENT CHARACTER}" for char in text)


def _check(c: Comparison, name: str, where: str, passed: bool, found: float, limit: float, text: str, at: np.ndarray, files: list[str]) -> Check:
    return Check(c.model, name, where, passed, found, limit, text, [files[i] for i in at[:LISTED]], len(at))
