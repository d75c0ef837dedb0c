"""Starts the worker processes of a loader, and explains their loss."""

import atexit
import ctypes
import os
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import sharedctypes
from multiprocessing.context import BaseContext
from types import FrameType

import torch
from torch.utils.data import get_worker_info

from train.feed.anonymous_memory import AVAILABLE, SentBatch
from train.feed.views import Example, TrainBatch, collate
from vgg_deploy.errors import CheckFailed
from vgg_deploy.worker_processes import MEANT_FOR_MAIN, start_method, worker_context

LOST_WORKER = (
    "DataLoader worker",
    "shared memory",
    "ancdata",
    "Too many open",
)  # in PyTorch's errors
NO_SHARED_MEMORY = "unable to allocate shared memory"
NO_DESCRIPTORS = ("Too many open files", "Communication with the workers is no longer possible")
NO_MEMORY = ("Cannot allocate memory", "No space left on device")


@dataclass(frozen=True)
class Workers:
    """Settings of the worker processes of one `DataLoader`.

    Attributes:
        count: Number of workers; 0 loads in this process.
        context: How they start; None without workers.
        start: Prepares a worker, called in it with its number.
    """

    count: int
    context: BaseContext | None
    start: Callable[[int], None]


def workers_of_loader(count: int) -> Workers:
    """Choose how the workers of a loader start, and how they meet signals.

    Args:
        count: Number of workers; 0 loads in this process.

    Returns:
        The settings, which suit every start method.
    """
    context = worker_context()
    # Without a lock, unlike an Event: a worker that is killed would leave it taken
    exiting = sharedctypes.RawValue(ctypes.c_bool, False)
    atexit.register(_set, exiting)
    # of more workers than cores; the plan of a run says so in plain words
    warnings.filterwarnings("ignore", message="This DataLoader will create")
    return Workers(count, context if count else None, partial(_start, exiting=exiting))


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Start workers in the block, so that no signal ends one before it is prepared.

    A worker that is spawned needs seconds for its imports. Signals wait until `Workers.start` has
    installed its handlers. Windows, which has no such mask, does not send them to whole groups.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    if start_method() != "fork":
        # Python starts its resource tracker with the first worker, and unblocks signals then
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, MEANT_FOR_MAIN)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def collate_to_send(examples: Sequence[Example]) -> TrainBatch | SentBatch:
    """Stack a batch; in a worker, as it is sent."""
    return to_send(collate(examples))


def to_send(batch: TrainBatch) -> TrainBatch | SentBatch:
    """Move a worker's batch to memory that the main process sees.

    PyTorch would do so while it sends the batch, in a thread whose errors nobody receives, and the
    main process would wait forever.

    Raises:
        OSError: There is too little memory, or there are too few file descriptors.
        RuntimeError: There is too little space in /dev/shm, which systems other than Linux use.
    """
    if get_worker_info() is None:
        return batch
    if AVAILABLE:
        return SentBatch(batch)
    for tensor in batch.tensors:
        if tensor.numel():
            tensor.share_memory_()  # type: ignore[no-untyped-call]  # PyTorch states none
    return batch


@contextmanager
def explain_lost_worker(resume_command: str) -> Iterator[None]:
    """Explain the errors of PyTorch in the block when a loader process was lost.

    Args:
        resume_command: The command that resumes the run.

    Raises:
        CheckFailed: A loader process was killed or gave no batch, or lacked memory or file
            descriptors.
    """
    try:
        yield
    except CheckFailed as error:
        if error.about == "patience":
            error.hint = (
                f"look at that process and the disk; resume with: {resume_command} "
                "(--step-patience SECONDS waits longer)"
            )
        raise
    except (RuntimeError, OSError, EOFError) as error:
        # The pipe or the shared memory of a lost process fails in many ways
        text = str(error)
        if isinstance(error, RuntimeError) and not any(word in text for word in LOST_WORKER):
            raise
        raise CheckFailed(_explained(text, resume_command)) from None


def _explained(text: str, resume_command: str) -> str:
    if NO_SHARED_MEMORY in text:
        return (
            "the loader processes have too little shared memory (/dev/shm; in a container, see "
            f"docker run --shm-size); resume with fewer of them: {resume_command} --workers N"
        )
    if any(words in text for words in NO_DESCRIPTORS):
        return (
            "too few file descriptors for the loader processes; raise the limit (ulimit -n 1024) "
            f"or resume with fewer processes: {resume_command} --workers N"
        )
    if any(words in text for words in NO_MEMORY):
        return (
            "memory ran out in a loader process; resume with fewer of them: "
            f"{resume_command} --workers N"
        )
    return (
        f"a loader process was killed ({text.partition('.')[0]}), perhaps because memory ran out; "
        f"resume with fewer loader processes: {resume_command} --workers N"
    )


def _set(exiting: ctypes.c_bool) -> None:
    exiting.value = True


def _start(worker: int, exiting: ctypes.c_bool) -> None:
    """Prepare a worker: one thread, and signals that the main process alone decides about.

    Ctrl-C and a scheduler's SIGTERM reach all processes of a job.

    Args:
        worker: Its number, unused.
        exiting: In shared memory; set when the main process exits. From then on SIGTERM ends the
            worker, because Python ends by it the processes that are left.
    """

    def end_if_exiting(signum: int, frame: FrameType | None) -> None:
        if exiting.value:
            os._exit(0)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end_if_exiting)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, MEANT_FOR_MAIN)
    torch.set_num_threads(1)
