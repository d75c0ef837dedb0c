"""How a run meets Ctrl-C and a scheduler's SIGTERM: it finishes its step first."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from vgg_deploy.job import started_by_torchrun


class Signals:
    """The first Ctrl-C or SIGTERM is noted, so that a step is never cut in two; a second one acts as usual.

    Not so under torchrun: it passes on what its whole process group was sent already, and kills by itself what takes too long.
    """

    def __init__(self):
        self.noted = 0

    @contextmanager
    def watched(self) -> Iterator["Signals"]:
        before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}

        def note(signum, frame):
            self.noted = max(self.noted, signum)  # a scheduler's before a Ctrl-C
            for s, handler in before.items():
                signal.signal(s, note if started_by_torchrun() else handler)

        for s in before:
            signal.signal(s, note)
        try:
            yield self
        finally:
            for s, handler in before.items():
                signal.signal(s, handler)
