"""The processes of one job, as torchrun starts them; a program started alone is a job of one."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from vgg_deploy import progress
from vgg_deploy.errors import CheckFailed, InputError

T = TypeVar("T")
LOST = "another process of this job ended; its own message is above or in its log. torchrun --max-restarts begins again from the last checkpoint"


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
        with _told_when_lost():
            torch.distributed.all_reduce(total)
        return total.numpy()

    def gather(self, value: T) -> list[T]:
        """What each process has, in their order, to all of them."""
        if self.world == 1:
            return [value]
        import torch

        held: list = [None] * self.world
        with _told_when_lost():
            torch.distributed.all_gather_object(held, value)
        return held

    def from_main(self, make: Callable[[], T]) -> T:
        """Make something in the main process only and give it to all.

        Raises: what `make` raises, in the main process; the others end in silence with the same code.
        """
        if self.world == 1:
            return make()
        made, error = None, None
        if self.main:
            try:
                made = make()
            except (InputError, CheckFailed) as raised:
                error = raised
        made, code = self.gather((made, error.exit_code if error else 0))[0]
        if error:
            raise error
        if code:
            sys.exit(code)
        return made


@contextmanager
def joined(device: str = "cpu") -> Iterator[Ranks]:
    """Meet the other processes for the length of the block, by the environment that torchrun sets.

    Only the main process shows progress and prints results; errors are told by whoever has them.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) == 1:
        yield Ranks()
        return
    import torch

    ranks = Ranks(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")))
    if device == "cuda":
        if ranks.local >= torch.cuda.device_count():
            raise InputError(f"process {ranks.local} of this machine finds {torch.cuda.device_count()} GPUs; start as many processes as there are GPUs")
        torch.cuda.set_device(ranks.local)
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if device == "cuda" else "gloo")
    stdout = sys.stdout
    if not ranks.main:
        progress.mute()
        sys.stdout = open(os.devnull, "w")
    try:
        yield ranks
    finally:
        sys.stdout = stdout
        torch.distributed.destroy_process_group()


@contextmanager
def _told_when_lost() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise CheckFailed(f"{LOST} ({str(error).splitlines()[0]})") from None
