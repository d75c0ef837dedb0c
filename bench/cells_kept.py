"""Turns Ctrl-C, SIGTERM and SIGHUP during scoring into a message that says how to resume."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vgg_deploy.errors import Interrupted, interrupted
from vgg_deploy.stop_signals import signals_raise

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
    try:
        with signals_raise():
            yield
    except KeyboardInterrupt as stop:
        error = interrupted(stop, kept)
        if error.exit_code == 128 + signal.SIGTERM:
            told = f"stopped by SIGTERM{OF_SCHEDULERS}; {kept}"
            error = Interrupted(told, signal.SIGTERM)
        raise error from None
