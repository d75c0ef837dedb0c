"""Test processes that run side by side share no core."""

import os


def keep_to_own_cores() -> None:
    """Restrict this test process, and all that it starts, to its share of the cores.

    Threads that wait for each other in a busy loop take the cores that the other test process
    computes on. Without pytest-xdist, with fewer cores than test processes, and where the system
    knows no affinity, nothing is restricted.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    count = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if not worker.startswith("gw") or not hasattr(os, "sched_setaffinity"):
        return
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) >= count:
        os.sched_setaffinity(0, cores[int(worker[2:]) % count :: count])
