"""Starts the instances of a model as processes, and gives all of them the same work."""

import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import numpy as np

from bench.load.instance import Call, Done, Failure, WarmUp, Work, serve
from bench.load.settings import Placement
from vgg_deploy.errors import CheckFailed
from vgg_deploy.worker_processes import signals_held_back

OPEN_S = 600.0  # for opening the model and the first calls
ANSWER_S = 120.0  # after the time of the work is over, for the calls under way
AHEAD_S = 0.05  # between the order to start and the start
POLL_S = 1.0
FEWER = "use fewer instances, or smaller batches"


class Team:
    """Instances of one model that are ready for work.

    Attributes:
        name: Of the model, for messages.
        placement: How many there are, and their threads.
    """

    def __init__(
        self,
        name: str,
        placement: Placement,
        taken: Any,
        members: list[tuple[BaseProcess, Connection]],
    ):
        self.name, self.placement = name, placement
        self._taken, self._members = taken, members

    def warm_up(self, batches: tuple[int, ...], members: int | None = None) -> float:
        """Call the model with batches of these sizes, in all instances at once.

        Args:
            batches: Their sizes.
            members: How many instances take part; None for all.

        Returns:
            Seconds of the last call; of the slowest instance.

        Raises:
            CheckFailed: If an instance fails.
        """
        answers = self._ask(WarmUp(batches), members, OPEN_S)
        return max(float(answer) for answer in answers)

    def run(
        self, due: np.ndarray, most: int, delay: float, until: float, members: int | None = None
    ) -> Done:
        """Answer queries.

        Args:
            due: (N,) float64 seconds, when they arrive.
            most: Queries per batch.
            delay: As of `Work`, seconds.
            until: As of `Work`, seconds.
            members: How many instances take part; None for all.

        Returns:
            The batches of all instances by their start, and their memory together.

        Raises:
            CheckFailed: If an instance fails, or gives no answer.
        """
        self._taken.value = 0
        start = time.perf_counter() + AHEAD_S
        work = Work(due, most, delay, until, start)
        answers = self._ask(work, members, until + ANSWER_S)
        batches = np.concatenate([answer.batches for answer in answers])
        memory = sum(answer.memory_mib for answer in answers)
        return Done(batches[np.argsort(batches[:, 2], kind="stable")], memory)

    def _ask(self, task: WarmUp | Work, members: int | None, patience: float) -> list[Any]:
        """Give a task to the first instances, and collect their answers."""
        asked = self._members[:members]
        for process, pipe in asked:
            try:
                pipe.send(task)
            except OSError:
                raise self._killed(process) from None
        end = time.monotonic() + patience
        answers: dict[Connection, Any] = {}
        while len(answers) < len(asked):
            waiting = [(process, pipe) for process, pipe in asked if pipe not in answers]
            ready = wait([one for p, pipe in waiting for one in (p.sentinel, pipe)], POLL_S)
            for process, pipe in waiting:
                if pipe in ready:
                    answers[pipe] = self._receive(process, pipe)
                elif process.sentinel in ready and not pipe.poll():
                    raise self._killed(process)
            if not ready and time.monotonic() > end:
                raise CheckFailed(
                    f"{self.name}: with {self.placement.words} an instance gave no answer for "
                    f"{patience:.0f} s",
                    FEWER,
                )
        return [answers[pipe] for _, pipe in asked]

    def _receive(self, process: BaseProcess, pipe: Connection) -> Any:
        try:
            answer = pipe.recv()
        except (EOFError, OSError):
            raise self._killed(process) from None
        if isinstance(answer, Failure):
            raise CheckFailed(
                f"{self.name}: failed with {self.placement.words} ({answer.what})", FEWER
            )
        return answer

    def _killed(self, process: BaseProcess) -> CheckFailed:
        process.join(1)
        return CheckFailed(
            f"{self.name}: with {self.placement.words} an instance ended with {process.exitcode}, "
            "perhaps because memory ran out",
            FEWER,
        )


@contextmanager
def team(
    name: str, open_call: Callable[[], Call], placement: Placement, side: int
) -> Iterator[Team]:
    """Start instances, which end with the block.

    They are new processes, not forks: threads of libraries do not survive a fork.

    Args:
        name: Of the model, for messages.
        open_call: Opens the model; is pickled.
        placement: How many instances, and their threads.
        side: Of the images, pixels.

    Yields:
        The instances, which have opened nothing yet.

    Raises:
        CheckFailed: If a process cannot be started.
    """
    context = multiprocessing.get_context("spawn")
    taken = context.Value("q", 0)
    members: list[tuple[BaseProcess, Connection]] = []
    try:
        try:
            with signals_held_back():
                for _ in range(placement.instances):
                    ours, theirs = context.Pipe()
                    process = context.Process(
                        target=serve, args=(theirs, taken, open_call, side), daemon=True
                    )
                    process.start()
                    theirs.close()
                    members.append((process, ours))
        except OSError as error:
            what = f"{name}: cannot start {placement.words} ({error.strerror})"
            raise CheckFailed(what, FEWER) from None
        yield Team(name, placement, taken, members)
    finally:
        for member, _ in members:
            member.kill()  # it has nothing to lose
        for member, pipe in members:
            member.join()
            pipe.close()
