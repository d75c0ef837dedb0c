"""What the 99th percentile of a latency is to stay within."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Bound:
    """What p99 is to stay within: ms, or a multiple of the single stream's median.

    Attributes:
        ms: Milliseconds; None for a multiple.
        times: The multiple.
    """

    ms: float | None
    times: float

    def of(self, single_ms: float) -> float:
        """The bound in ms, by the median of the single stream."""
        return self.times * single_ms if self.ms is None else self.ms

    @property
    def words(self) -> str:
        """For people, behind the bound in ms."""
        return "" if self.ms is not None else f" ({self.times:g} x the single stream's median)"
