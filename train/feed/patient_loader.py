"""Waits for batches of loader processes, with patience, and ends these processes."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from typing import Generic, TypeVar

from torch.utils.data import DataLoader

from train.feed.loader_workers import signals_blocked
from vgg_deploy.data.patience import Patience, StopWaiting
from vgg_deploy.errors import CheckFailed
from vgg_deploy.process_states import state_of

T = TypeVar("T")
TIMED_OUT = "DataLoader timed out"  # begins PyTorch's error after POLL seconds


class PatientLoader(Iterator[T], Generic[T]):
    """Iterates over a `DataLoader`, whose processes end with this object."""

    def __init__(
        self,
        loader: DataLoader[T],
        patience: Patience,
        opened_last: Callable[[int], str],
    ):
        """Start the processes.

        Args:
            loader: With a timeout of `POLL` seconds if it has workers.
            patience: How to wait for a batch.
            opened_last: Names what a worker opened last, by its number.
        """
        self.patience, self.opened_last = patience, opened_last
        before = set(active_children())
        with signals_blocked(), _own_sigchld():
            self.batches = [iter(loader)]  # emptied by `close`, so that nothing else keeps it
        self.workers = sorted(
            (child for child in active_children() if child not in before), key=_number
        )
        self.close = Finalize(self, _end, (self.workers, self.batches), exitpriority=0)

    def __next__(self) -> T:
        """The next batch.

        Raises:
            StopWaiting: A signal came first.
            CheckFailed: No batch came within the patience.
        """
        if not self.batches:
            raise StopIteration
        end = time.monotonic() + self.patience.seconds
        while True:
            try:
                batch: T = next(self.batches[0])
                return batch
            except RuntimeError as error:
                if not str(error).startswith(TIMED_OUT):
                    raise
            if self.patience.stopping():
                raise StopWaiting
            if time.monotonic() > end:
                raise CheckFailed(
                    f"the loader processes gave no batch for {self.patience.seconds:g} s "
                    f"({'; '.join(self._silent())})",
                    about="patience",
                )

    def _silent(self) -> list[str]:
        """What each process does; of stopped ones only, if there are any."""
        states = [state_of(worker.pid) for worker in self.workers]
        stopped = [i for i, state in enumerate(states) if state.startswith("stopped")]
        return [
            f"process {self.workers[i].pid} is {states[i]}, {self.opened_last(i)}"
            for i in stopped or range(len(states))
        ]


def _number(worker: BaseProcess) -> int:
    """Processes of one parent are numbered in their names as they are made."""
    return int(worker.name.rpartition("-")[2])


def _end(workers: list[BaseProcess], batches: list[Iterator[object]]) -> None:
    """Kill the workers, which have nothing to lose; SIGTERM would not end a stopped one.

    PyTorch waits 5 s for each worker that is busy, and forever for a stopped one.
    """
    with _own_sigchld(signal.SIG_DFL):  # another DataLoader may have left PyTorch's handler
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.join()
    batches.clear()


@contextmanager
def _own_sigchld(during: signal.Handlers | None = None) -> Iterator[None]:
    """Keep the handler of ended children beyond the block, where PyTorch sets its own.

    That one raises at whatever line runs when a worker was killed, and a message is lost or printed
    twice. A worker that has ended is noticed without it, within POLL seconds.

    Args:
        during: The handler in the block; None for the present one.
    """
    if not hasattr(signal, "SIGCHLD") or (
        threading.current_thread() is not threading.main_thread()
    ):
        yield
        return
    before = signal.getsignal(signal.SIGCHLD)
    if during is not None:
        signal.signal(signal.SIGCHLD, during)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)
