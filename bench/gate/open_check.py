"""A check whose verdict is given together with those of all others of a gate."""

from collections.abc import Callable
from typing import NamedTuple

from bench.gate.verdict import Check
from vgg_deploy.statistics.evidence import Evidence, Verdict


class OpenCheck(NamedTuple):
    """What was found about one question, before it is judged.

    Attributes:
        evidence: About the loss and its limit.
        answer: Makes the check of the verdict.
    """

    evidence: Evidence
    answer: Callable[[Verdict], Check]
