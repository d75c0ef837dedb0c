"""The processes of one job, as torchrun starts them; a program started alone is a job of one."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn, ParamSpec, TypeVar, cast
from uuid import uuid4

import numpy as np

from vgg_deploy import progress
from vgg_deploy.errors import CheckFailed, InputError, Interrupted, VGGDeployError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import Store

P = ParamSpec("P")
T = TypeVar("T")
LOST = "another process of this job ended; its own message is above or in its log. torchrun restarts from the last checkpoint if it is told how often"
TRANSPORTS = (
    "gloo",
    "Gloo",
    "NCCL",
    "nccl",
    "Connection",
    "ProcessGroup",
    "TCPStore",
    "Broken pipe",
)  # in PyTorch's errors when a process is gone


@dataclass(frozen=True)
class Job:
    """One process of a job of `world` processes.

    Every method that talks to the others is called by all of them, or by none.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0  # rank among the processes on this machine
    local_world: int = 1  # number of processes on this machine

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes files and prints."""
        return self.rank == 0

    def share(self, count: int) -> np.ndarray:
        """(count,) bool: the items of this process, every world-th."""
        return np.arange(count) % self.world == self.rank

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Element-wise sum over all processes."""
        if self.world == 1:
            return values
        import torch

        total = torch.from_numpy(np.array(values))
        with explain_lost_process():
            torch.distributed.all_reduce(total)
        return total.numpy()

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
            tensor: Of one shape in all processes, on the process's device.
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
        first: list[T] = []
        self.on_main(lambda: first.append(do(*args, **kwargs)))
        return self.on_all(lambda: first[0] if first else do(*args, **kwargs))

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
def joined(device: str = "cpu", patience: timedelta | None = None) -> Iterator[Job]:
    """Meet the other processes for the length of the block, by the environment that torchrun sets.

    Only the main process shows progress and prints results; errors are told by whoever has them, before the others see
    it leave. Args: patience, how long one waits for another, by default PyTorch's own 10 to 30 minutes; one that is gone is noticed at once.
    """
    job = _from_environment()
    if job.world == 1:
        yield job
        return
    import torch

    if device == "cuda":
        if job.local_rank >= torch.cuda.device_count():
            raise InputError(
                f"process {job.local_rank} of this machine finds {torch.cuda.device_count()} GPUs; start as many processes as there are GPUs"
            )
        torch.cuda.set_device(job.local_rank)
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    torch.distributed.init_process_group(
        backend, store=_store(job), rank=job.rank, world_size=job.world, timeout=patience
    )
    stdout = sys.stdout
    if not job.is_main:
        progress.mute()
        sys.stdout = open(os.devnull, "w")
    try:
        yield job
    except VGGDeployError as error:
        if job.is_main or not isinstance(error, Interrupted):  # Ctrl-C reaches all of them
            print(f"Error: {error.message}", file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
    finally:
        sys.stdout = stdout
        torch.distributed.destroy_process_group()


def hide_other_gpus() -> None:
    """Leave this process the GPU of its place on this machine, before CUDA starts: every runtime then takes that one.

    Raises: InputError where there are more processes than GPUs.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        return
    import torch

    local = int(os.environ["LOCAL_RANK"])
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = [str(place) for place in range(local + 1)] if shown is None else shown.split(",")
    os.environ["CUDA_VISIBLE_DEVICES"] = visible[local] if local < len(visible) else ""
    if local and not torch.cuda.is_available():  # asked only now: CUDA keeps what it sees first
        raise InputError(
            f"process {local} of this machine finds no GPU of its own; start as many processes as there are GPUs"
        )


def started_by_torchrun() -> bool:
    """Whether torchrun started this process, alone or with others."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def torchrun_id() -> str | None:
    """torchrun's name of this job, the same when it begins it again after a process was lost; None without torchrun."""
    return os.environ.get("TORCHELASTIC_RUN_ID")


def restarted(name: str | None) -> bool:
    """Whether the job of that name is this one. "none" is what torchrun calls jobs that were given no id."""
    return (
        name is not None
        and name == torchrun_id()
        and (name != "none" or int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0)
    )


def _store(job: Job) -> "Store":
    """Where these processes find each other.

    torchrun keeps its store when it begins a job again, with the addresses of the processes before: so they agree on a
    new name for this meeting. Its count of restarts would not do, it is every machine's own. A process asks under a name
    that no other ever had, the main process answers every one it finds until all have heard it, those long gone included.
    """
    from torch.distributed import PrefixStore, rendezvous

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
    """Raises: InputError for variables of another launcher."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return ALONE
    try:
        return Job(
            *(
                int(os.environ[name])
                for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
            )
        )
    except (KeyError, ValueError) as error:
        raise InputError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']} in the environment, but the other variables of torchrun are not as it sets them ({error!r}); "
            "start by torchrun, or remove WORLD_SIZE"
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
    """Tell what it means when the block's talk with the other processes ends; other errors pass."""
    try:
        yield
    except RuntimeError as error:
        if not any(word in str(error) for word in TRANSPORTS):
            raise
        raise CheckFailed(f"{LOST} ({str(error).splitlines()[0]})") from None
