"""One line of the comparison with an earlier run."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AgainstRow:
    """One number of this run beside the earlier run's.

    Field names are the columns of against.csv. A missing interval (NaN) is that of an exact number,
    or could not be computed.
    """

    model: str
    runtime: str
    precision: str
    measure: str  # "top-1 error", "top-5 error", "disagreement", "latency", "size", "peak memory"
    row: str  # protocol, scales and flips; or the size of the images; empty for files
    unit: str  # of old and new
    old: float
    new: float
    difference: float  # new minus old; of latency in per cent of the old
    low: float  # lower end of its 95 % interval
    high: float
    difference_unit: str
    how: str  # what was compared
