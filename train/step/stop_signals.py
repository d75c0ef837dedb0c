"""Delays Ctrl-C, a scheduler's SIGTERM, and SIGHUP to the end of a training step."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from vgg_deploy.job import started_by_torchrun

# SIGHUP, which Windows lacks, comes when a terminal closes
STOPPING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


class Signals:
    """Notes the first signal that ends a run, so that no step is cut short; a second acts at once.

    A second Ctrl-C raises, SIGTERM and SIGHUP end the process even in a step that never comes back.

    A signal that the caller ignores (nohup does) stays ignored.

    Under torchrun a second one is only noted, too: torchrun passes on what its whole process group
    has received already, and kills by itself what takes too long.

    Attributes:
        noted: Number of the signal; 0 without one. SIGTERM counts more than Ctrl-C,
            and Ctrl-C more than SIGHUP.
    """

    def __init__(self) -> None:
        self.noted = 0

    def arrived(self) -> bool:
        """Whether a signal was noted."""
        return self.noted > 0

    @contextmanager
    def watched(self) -> Iterator["Signals"]:
        """Note signals in the block.

        Yields:
            This object.
        """
        before = {number: signal.getsignal(number) for number in STOPPING}
        before = {number: it for number, it in before.items() if it is not signal.SIG_IGN}

        def note(signum: int, frame: FrameType | None) -> None:
            self.noted = max(self.noted, signum)
            for number, handler in before.items():
                second = handler if number == signal.SIGINT else signal.SIG_DFL
                signal.signal(number, note if started_by_torchrun() else second)

        for number in before:
            signal.signal(number, note)
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
