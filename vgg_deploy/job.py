"""Lets the processes of one job, as torchrun starts them, work together.

A program that is started alone is a job of one process.
"""

import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar, cast
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from vgg_deploy import progress
from vgg_deploy.errors import CheckFailed, InputError, Interrupted, VGGDeployError
from vgg_deploy.printable import printable
from vgg_deploy.process_states import state_of

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed.distributed_c10d import ProcessGroup, Store

P = ParamSpec("P")
T = TypeVar("T")
LOST = (
    "another process of this job ended; its own message is above or in its log. torchrun restarts "
    "from the last checkpoint if it was started with a number of restarts"
)
# What PyTorch's errors contain when a process is gone
TRANSPORTS = (
    "gloo", "Gloo", "NCCL", "nccl", "Connection", "ProcessGroup", "TCPStore", "Broken pipe",
)  # fmt: skip
TIMED_OUT = "timed out"  # in PyTorch's errors when a process does not answer
STEP_GRACE_S = 5.0  # after the patience with a loader, so that its process can tell of it itself


@dataclass(frozen=True)
class Steps:
    """How the processes wait for each other in a step of a training.

    Attributes:
        group: Of all processes, with this patience, as PyTorch makes it.
        seconds: The longest wait.
        processes: Machine and number of each process, by rank.
    """

    group: "ProcessGroup"
    seconds: float
    processes: tuple[tuple[str, int], ...]

    def silent(self, rank: int) -> str:
        """What the others do, as far as this machine shows it; of stopped ones only, if any are.

        Args:
            rank: Of this process.
        """
        here = self.processes[rank][0]
        others = {
            other: f"{state_of(pid)}" if machine == here else f"on {machine}"
            for other, (machine, pid) in enumerate(self.processes)
            if other != rank
        }
        stopped = [other for other, state in others.items() if state.startswith("stopped")]
        return "; ".join(
            f"process {self.processes[other][1]} of rank {other} is {others[other]}"
            for other in stopped or others
        )


@dataclass(frozen=True)
class Job:
    """One process of a job of `world` processes.

    Methods that communicate must be called by all processes, or by none.

    Example:
        >>> job = Job()  # a program that is started alone
        >>> job.is_main, job.on_main(max, 1, 2), job.gather("a")
        (True, 2, ['a'])
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0  # rank among the processes on this machine
    local_world: int = 1  # number of processes on this machine
    steps: Steps | None = None

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes files and prints."""
        return self.rank == 0

    def share(self, count: int) -> NDArray[np.bool_]:
        """The items of this process, every `world`-th of all.

        Args:
            count: Number of items of all processes.

        Returns:
            (count,) bool.
        """
        mine: NDArray[np.bool_] = np.arange(count) % self.world == self.rank
        return mine

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Element-wise sum over all processes.

        Args:
            values: Of one shape and type in all processes.
        """
        if self.world == 1:
            return values
        import torch

        total = torch.from_numpy(np.array(values))
        with explain_lost_process():
            torch.distributed.all_reduce(total)
        summed: np.ndarray = total.numpy()
        return summed

    def sum_in_step(self, values: np.ndarray) -> np.ndarray:
        """As `sum`, in a step of a training: the wait for the other processes has an end.

        Args:
            values: As of `sum`.

        Raises:
            CheckFailed: A process gave nothing within the patience of the job.
        """
        if self.world == 1 or self.steps is None:
            return self.sum(values)
        import torch

        total = torch.from_numpy(np.array(values))
        with self.explained_waits():
            torch.distributed.all_reduce(total, group=self.steps.group)
        summed: np.ndarray = total.numpy()
        return summed

    @contextmanager
    def explained_waits(self) -> Iterator[None]:
        """Explain errors of PyTorch that mean that another process is gone, or silent in a step.

        Raises:
            CheckFailed: Instead of these errors; others pass.
        """
        with explain_lost_process():
            try:
                yield
            except RuntimeError as error:
                if self.steps is None or TIMED_OUT not in str(error).lower():
                    raise
                raise CheckFailed(
                    f"another process of this job gave nothing for {self.steps.seconds:g} s "
                    f"({self.steps.silent(self.rank)})",
                    about="patience",
                ) from None

    def gather(self, value: T) -> list[T]:
        """The value of each process, by rank, in all processes."""
        if self.world == 1:
            return [value]
        import torch

        values: list[Any] = [None] * self.world
        with explain_lost_process():
            torch.distributed.all_gather_object(values, value)
        return values

    def broadcast(self, tensor: "Tensor") -> None:
        """Overwrite a tensor with the main process's values.

        Args:
            tensor: Of one shape in all processes, each on its own device.
        """
        if self.world == 1:
            return
        import torch

        values = tensor.contiguous()
        with explain_lost_process():
            torch.distributed.broadcast(values, 0)
        tensor.copy_(values)

    def on_main(self, do: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in the main process only; all processes get its result.

        Raises:
            VGGDeployError: What `do` raises, in the main process. The others exit silently with the
                same code.
        """
        if self.world == 1:
            return do(*args, **kwargs)
        result: T | None = None
        error: VGGDeployError | None = None
        if self.is_main:
            result, error = _result_or_error(do, *args, **kwargs)
        result, code = self.gather((result, error.exit_code if error else 0))[0]
        if code:
            self._exit(error, code)
        return cast(T, result)

    def on_all(self, do: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in every process; each gets its own result.

        Raises:
            VGGDeployError: What `do` raises, in the first process where it fails. The others exit
                silently with the same code.
        """
        if self.world == 1:
            return do(*args, **kwargs)
        result, error = _result_or_error(do, *args, **kwargs)
        codes = self.gather(error.exit_code if error else 0)
        if any(codes):
            failed = next(rank for rank, code in enumerate(codes) if code)
            self._exit(error if failed == self.rank else None, codes[failed])
        return cast(T, result)

    def main_first(self, do: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in the main process, then in the others; each gets its own result.

        The main process leaves files in a cache that the others then read.

        Raises:
            VGGDeployError: As `on_all`.
        """
        own: T | None = None

        def call_and_keep() -> None:
            nonlocal own
            own = do(*args, **kwargs)

        def keep_or_call() -> T:
            return cast(T, own) if self.is_main else do(*args, **kwargs)

        self.on_main(call_and_keep)
        return self.on_all(keep_or_call)

    def _exit(self, error: VGGDeployError | None, code: int) -> NoReturn:
        """Raise the error where it happened, and only then exit in the other processes.

        torchrun stops all processes once it sees that one of them is gone.
        """
        if error:
            raise error
        with suppress(CheckFailed):
            self.gather(None)  # fails as soon as the process with the error has left
        sys.exit(code)


ALONE = Job()


@contextmanager
def joined(
    device: str = "cpu",
    patience: timedelta | None = None,
    step_patience: float | None = None,
) -> Iterator[Job]:
    """Join the job that torchrun's environment variables describe, for the length of the block.

    Only the main process shows progress and prints results. An error is reported by the process
    that has it, before the others see this process leave.

    Args:
        device: "cpu" or "cuda".
        patience: How long a process waits for another; by default PyTorch's own 10 to 30 minutes.
            A process that is gone is noticed at once.
        step_patience: The same in `Job.sum_in_step`, seconds; None for `patience`.

    Yields:
        This process's part in the job.

    Raises:
        InputError: If this machine has fewer GPUs than processes.
    """
    job = _from_environment()
    if job.world == 1:
        yield job
        return
    import torch

    if device == "cuda":
        _take_own_gpu(job)
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    torch.distributed.init_process_group(
        backend, store=_store(job), rank=job.rank, world_size=job.world, timeout=patience
    )
    if step_patience is not None:
        job = replace(job, steps=_steps(job, step_patience + STEP_GRACE_S))
    stdout = sys.stdout
    if not job.is_main:
        progress.mute()
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # in use until the block ends
    try:
        yield job
    except VGGDeployError as error:
        if job.is_main or not isinstance(error, Interrupted):  # Ctrl-C reaches all of them
            print(f"Error: {printable(error.message)}", file=sys.stderr, flush=True)
            if error.details:
                print(f"\n{error.details}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
    finally:
        sys.stdout = stdout
        torch.distributed.destroy_process_group()


def _steps(job: Job, seconds: float) -> Steps:
    """A group of all processes for the steps of a training."""
    import torch

    group = torch.distributed.new_group(backend="gloo", timeout=timedelta(seconds=seconds))
    return Steps(
        cast("ProcessGroup", group), seconds, tuple(job.gather((socket.gethostname(), os.getpid())))
    )


def hide_other_gpus() -> None:
    """Leave this process one GPU, by its rank on this machine, so that every runtime takes it.

    Call it before CUDA starts.

    Raises:
        InputError: If this machine has fewer GPUs than processes.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return
    import torch

    local = int(os.environ["LOCAL_RANK"])
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = [str(number) for number in range(local + 1)] if named is None else named.split(",")
    os.environ["CUDA_VISIBLE_DEVICES"] = visible[local] if local < len(visible) else ""
    # only now may CUDA be asked: it keeps what it sees first
    if local and not torch.cuda.is_available():
        raise InputError(
            f"process {local} of this machine has no GPU of its own; "
            "start as many processes as there are GPUs"
        )


def _take_own_gpu(job: Job) -> None:
    import torch

    count = torch.cuda.device_count()
    if job.local_rank >= count:
        raise InputError(
            f"process {job.local_rank} of this machine sees {count} GPUs; "
            "start as many processes as there are GPUs"
        )
    torch.cuda.set_device(job.local_rank)


def started_by_torchrun() -> bool:
    """Whether torchrun started this process, alone or with others."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def torchrun_id() -> str | None:
    """The id that torchrun gives this job; None without torchrun.

    It stays the same when torchrun restarts the job after a process was lost.
    """
    return os.environ.get("TORCHELASTIC_RUN_ID")


def restarted(name: str | None) -> bool:
    """Whether the job of that id is this one.

    Args:
        name: Of `torchrun_id`, from an earlier process. Jobs that were given no id are all called
            "none"; such a job counts as this one only if torchrun has restarted it.
    """
    if name is None or name != torchrun_id():
        return False
    return name != "none" or int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


def _store(job: Job) -> "Store":
    """The store in which these processes find each other.

    torchrun keeps its store when it restarts a job, with the addresses of the earlier processes in
    it. The processes therefore agree on a new name for each meeting. torchrun's count of restarts
    would not do: each machine has its own. Each process asks under a name that no other ever had.
    The main process answers every question, also those of earlier processes, until all of the
    present ones have confirmed the answer.
    """
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    store, *_ = next(rendezvous("env://"))
    own = uuid4().hex
    if job.is_main:
        missing = set(range(1, job.world))
        while missing:
            for rank in list(missing):
                if store.check([f"asks/{rank}"]):
                    store.set(f"answer/{store.get(f'asks/{rank}').decode()}", own)
                if store.check([f"heard/{own}/{rank}"]):
                    missing.remove(rank)
            time.sleep(0.02)
        return PrefixStore(own, store)
    store.set(f"asks/{job.rank}", own)
    name = store.get(f"answer/{own}").decode()
    store.set(f"heard/{name}/{job.rank}", "")
    return PrefixStore(name, store)


def _from_environment() -> Job:
    """The job by torchrun's variables.

    Raises:
        InputError: If another launcher set WORLD_SIZE.
    """
    world = os.environ.get("WORLD_SIZE", "1")
    if world == "1":
        return ALONE
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    try:
        rank, size, local_rank, local_size = (int(os.environ[name]) for name in names)
        return Job(rank, size, local_rank, local_size)
    except (KeyError, ValueError) as error:
        raise InputError(
            f"WORLD_SIZE is {world} in the environment, but the other variables of torchrun are "
            f"not as it sets them ({error!r}); start by torchrun, or remove WORLD_SIZE"
        ) from None


def _result_or_error(
    do: Callable[P, T], *args: P.args, **kwargs: P.kwargs
) -> tuple[T | None, VGGDeployError | None]:
    try:
        return do(*args, **kwargs), None
    except VGGDeployError as error:
        return None, error


@contextmanager
def explain_lost_process() -> Iterator[None]:
    """Explain errors of PyTorch that mean that another process is gone.

    Raises:
        CheckFailed: Instead of these errors; others pass.
    """
    try:
        yield
    except RuntimeError as error:
        if not any(word in str(error) for word in TRANSPORTS):
            raise
        raise CheckFailed(f"{LOST} ({str(error).splitlines()[0]})") from None
