"""The processes of one job, as torchrun starts them; a program started alone is a job of one."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn, TypeVar
from uuid import uuid4

import numpy as np
from click import ClickException

from vgg_deploy import progress
from vgg_deploy.errors import CheckFailed, InputError, Interrupted

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import Store

T = TypeVar("T")
LOST = "another process of this job ended; its own message is above or in its log. torchrun --max-restarts begins again from what was kept"
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
class Ranks:
    """This process's place among `world`; every method is called by all of them, or by none."""

    rank: int = 0
    world: int = 1
    local: int = 0  # place on this machine
    local_world: int = 1  # processes on this machine

    @property
    def main(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def mine(self, count: int) -> np.ndarray:
        """(count,) bool: this process's share, every world-th."""
        return np.arange(count) % self.world == self.rank

    def sum(self, values: np.ndarray) -> np.ndarray:
        """Element by element over all processes."""
        if self.world == 1:
            return values
        import torch

        total = torch.from_numpy(np.array(values))
        with told_when_lost():
            torch.distributed.all_reduce(total)
        return total.numpy()

    def gather(self, value: T) -> list[T]:
        """What each process has, in their order, to all of them."""
        if self.world == 1:
            return [value]
        import torch

        held: list = [None] * self.world
        with told_when_lost():
            torch.distributed.all_gather_object(held, value)
        return held

    def spread(self, tensor: "Tensor") -> None:
        """Fill every process's tensor, of one shape and on the process's device, with the main process's values."""
        if self.world > 1:
            import torch

            sent = tensor.contiguous()
            with told_when_lost():
                torch.distributed.broadcast(sent, 0)
            tensor.copy_(sent)

    def from_main(self, make: Callable[[], T]) -> T:
        """Make something in the main process only and give it to all.

        Raises: what `make` raises, in the main process; the others end in silence with the same code.
        """
        if self.world == 1:
            return make()
        made, error = _tried(make) if self.main else (None, None)
        made, code = self.gather((made, error.exit_code if error else 0))[0]
        if code:
            self._end(error, code)
        return made

    def together(self, do: Callable[[], T]) -> T:
        """Do the same in every process; each gets its own result.

        Raises: what `do` raises, in the first process where it fails; the others end in silence with the same code.
        """
        if self.world == 1:
            return do()
        done, error = _tried(do)
        codes = self.gather(error.exit_code if error else 0)
        if any(codes):
            first = next(rank for rank, code in enumerate(codes) if code)
            self._end(error if first == self.rank else None, codes[first])
        return done

    def _end(self, error: ClickException | None, code: int) -> NoReturn:
        """The process with the error tells it. Nobody ends before: torchrun stops all processes once it sees that one is gone."""
        if error:
            raise error
        with suppress(CheckFailed):
            self.gather(None)  # fails when the one that tells has left
        sys.exit(code)


ALONE = Ranks()


@contextmanager
def joined(device: str = "cpu", patience: timedelta | None = None) -> Iterator[Ranks]:
    """Meet the other processes for the length of the block, by the environment that torchrun sets.

    Only the main process shows progress and prints results; errors are told by whoever has them, before the others see
    it leave. Args: patience, how long one waits for another, by default PyTorch's own 10 to 30 minutes; one that is gone is noticed at once.
    """
    ranks = _from_environment()
    if ranks.world == 1:
        yield ranks
        return
    import torch

    if device == "cuda":
        if ranks.local >= torch.cuda.device_count():
            raise InputError(
                f"process {ranks.local} of this machine finds {torch.cuda.device_count()} GPUs; start as many processes as there are GPUs"
            )
        torch.cuda.set_device(ranks.local)
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    torch.distributed.init_process_group(
        backend, store=_store(ranks), rank=ranks.rank, world_size=ranks.world, timeout=patience
    )
    stdout = sys.stdout
    if not ranks.main:
        progress.mute()
        sys.stdout = open(os.devnull, "w")
    try:
        yield ranks
    except ClickException as error:
        if ranks.main or not isinstance(error, Interrupted):  # Ctrl-C reaches all of them
            error.show()
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


def by_torchrun() -> bool:
    """Whether torchrun started this process, alone or with others."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def job() -> str | None:
    """torchrun's name of this job, the same when it begins it again after a process was lost; None without torchrun."""
    return os.environ.get("TORCHELASTIC_RUN_ID")


def begun_again(name: str | None) -> bool:
    """Whether the job of that name is this one. "none" is what torchrun calls those that were given no --rdzv-id."""
    return (
        name is not None
        and name == job()
        and (name != "none" or int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0)
    )


def _store(ranks: Ranks) -> "Store":
    """Where these processes find each other.

    torchrun keeps its store when it begins a job again, with the addresses of the processes before: so they agree on a
    new name for this meeting. Its count of restarts would not do, it is every machine's own. A process asks under a name
    that no other ever had, the main process answers every one it finds until all have heard it, those long gone included.
    """
    from torch.distributed import PrefixStore, rendezvous

    store, *_ = next(rendezvous("env://"))
    own = uuid4().hex
    if ranks.main:
        missing = set(range(1, ranks.world))
        while missing:
            for rank in list(missing):
                if store.check([f"asks/{rank}"]):
                    store.set(f"answer/{store.get(f'asks/{rank}').decode()}", own)
                if store.check([f"heard/{own}/{rank}"]):
                    missing.remove(rank)
            time.sleep(0.02)
        return PrefixStore(own, store)
    store.set(f"asks/{ranks.rank}", own)
    name = store.get(f"answer/{own}").decode()
    store.set(f"heard/{name}/{ranks.rank}", "")
    return PrefixStore(name, store)


def _from_environment() -> Ranks:
    """Raises: InputError for variables of another launcher."""
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return ALONE
    try:
        return Ranks(
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


def _tried(do: Callable[[], T]) -> tuple[T | None, ClickException | None]:
    """The result or the error."""
    try:
        return do(), None
    except ClickException as error:
        return None, error


@contextmanager
def told_when_lost() -> Iterator[None]:
    """Tell what it means when the block's talk with the other processes ends; other errors pass."""
    try:
        yield
    except RuntimeError as error:
        if not any(word in str(error) for word in TRANSPORTS):
            raise
        raise CheckFailed(f"{LOST} ({str(error).splitlines()[0]})") from None
