"""Lists the settings that a load test tries: instances, threads of each, and batch size."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Placement:
    """How many instances run, and with how many threads.

    Attributes:
        instances: Processes, each with a session of its own.
        threads: Of each instance, on the CPU.
    """

    instances: int
    threads: int

    @property
    def words(self) -> str:
        """For people."""
        return f"{_counted(self.instances, 'instance')} of {_counted(self.threads, 'thread')}"

    @property
    def options(self) -> str:
        """As options of a command line."""
        return f"--instances {self.instances} --threads {self.threads}"


def placements(
    cores: int, threads: int | None = None, instances: Iterable[int] | None = None
) -> list[Placement]:
    """List the sensible placements within the cores; the one with most threads first.

    Threads are the powers of two up to the cores, and all cores. For each there are as many
    instances as the cores hold.

    Example:
        >>> [(p.instances, p.threads) for p in placements(6)]
        [(1, 6), (1, 4), (3, 2), (6, 1)]

    Args:
        cores: That may be used.
        threads: The only number of threads; None for all sensible ones.
        instances: The only numbers of instances; None for all sensible ones. They are taken with
            as many threads as the cores hold, at least one.
    """
    if instances is not None:
        chosen = [Placement(n, threads or max(1, cores // n)) for n in instances]
    elif threads is not None:
        chosen = [Placement(max(1, cores // threads), threads)]
    else:
        powers = [2**k for k in range(cores.bit_length()) if 2**k <= cores]
        chosen = [Placement(cores // n, n) for n in {*powers, cores}]
    return sorted(chosen, key=lambda placement: -placement.threads)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
