"""Turns Ctrl-C and SIGTERM during scoring into a message that says how to resume."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from vgg_deploy.errors import Interrupted, interruptible


@contextmanager
def cells_kept(folder: Path) -> Iterator[None]:
    """Let Ctrl-C or SIGTERM end the block with a message, after the cells have been saved.

    Args:
        folder: Where the cells are stored.

    Raises:
        Interrupted: After one of the two signals.
    """
    kept = f"scored images are kept in {folder}; the same command resumes there"

    def stop(signum: int, frame: FrameType | None) -> None:
        raise Interrupted(
            "stopped by SIGTERM, which schedulers send, and torchrun when another process of the "
            f"job has ended; {kept}",
            signum,
        )

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with interruptible(kept):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)
