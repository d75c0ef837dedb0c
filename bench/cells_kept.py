"""Turns Ctrl-C, SIGTERM and SIGHUP during scoring into a message that says how to resume."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from vgg_deploy.errors import Interrupted, interruptible
from vgg_deploy.stop_signals import STOPPING

OF_SCHEDULERS = ", which schedulers send, and torchrun when another process of the job has ended"


@contextmanager
def cells_kept(folder: Path) -> Iterator[None]:
    """Let Ctrl-C, SIGTERM or SIGHUP end the block with a message, after the cells have been saved.

    Args:
        folder: Where the cells are stored.

    Raises:
        Interrupted: After one of these signals.
    """
    kept = f"scored images are kept in {folder}; the same command resumes there"

    def stop(signum: int, frame: FrameType | None) -> None:
        senders = OF_SCHEDULERS if signum == signal.SIGTERM else ""
        raise Interrupted(
            f"stopped by {signal.Signals(signum).name}{senders}; {kept}",
            signum,
        )

    before = {number: signal.signal(number, stop) for number in STOPPING if number != signal.SIGINT}
    try:
        with interruptible(kept):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
