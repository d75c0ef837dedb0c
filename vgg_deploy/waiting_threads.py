"""Lets threads of OpenMP that wait for work leave the cores to others. Imports nothing heavy."""

import os

# Turns of a waiting thread before it sleeps: tenths of a millisecond. Threads of a layer wait for
# each other: two cores were idle for 7 % of ncnn's calls when each wait was a sleep, for 3 % with
# these turns.
TURNS = "30000"


def let_waiting_threads_sleep() -> None:
    """Set how threads of OpenMP wait, unless the user has; before PyTorch or ncnn are imported.

    Decoders and other runtimes need the same cores.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", TURNS)
