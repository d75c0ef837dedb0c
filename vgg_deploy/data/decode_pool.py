"""Decodes and rescales images ahead of the consumer, in order, in worker processes.

Processes, because threads would wait for Python's lock between two calls of Pillow. Pixels lie in
buffers that all processes share and that are reused: passing on fresh memory pages costs as much as
decoding. Pipes carry offsets only.

The parent (`decoded`) cuts the images into tasks and gives them to its workers in turn (`_Team`). A
worker (`_work`) answers each task with one result per image (`_scale_task`).
"""

import gc
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import closing
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.util import Finalize
from typing import NamedTuple, NoReturn

import numpy as np
from PIL import Image

from vgg_deploy.data.dataset import Dataset
from vgg_deploy.data.patience import POLL, Patience, StopWaiting
from vgg_deploy.errors import CheckFailed, InputError
from vgg_deploy.images.decode import resized
from vgg_deploy.process_states import state_of
from vgg_deploy.shared_buffers import SharedBuffers
from vgg_deploy.worker_processes import (
    outlive_signals,
    signals_held_back,
    start_method,
    worker_context,
)

TASK = 4  # images in one message
AHEAD = 2  # tasks per process that are in progress
ASPECT = 2  # ratio of sides up to which an image always fits into its part of a buffer


AS_STORED = "as stored"  # for nets that rescale by themselves


class Scale(NamedTuple):
    """How to rescale an image."""

    side: int  # of the shorter side, S or Q, pixels
    filter: str  # Pillow's name of the resampling filter, lower case; AS_STORED: not at all


def scaled(image: Image.Image, side: int, filter: str) -> Image.Image:
    """Rescale an image, unless it is to stay as it is stored.

    Args:
        image: RGB.
        side: As in Scale.
        filter: As in Scale.
    """
    return image if filter == AS_STORED else resized(image, side, filter)


class InBuffer(NamedTuple):
    """Pixels in the task's buffer."""

    offset: int  # bytes
    height: int
    width: int


class Failure(NamedTuple):
    """An error that is not the image's fault. Workers have no terminal; the parent raises it."""

    of_memory: bool
    text: str

    def throw(self) -> NoReturn:
        """Raise the error in the parent."""
        if self.of_memory:
            raise CheckFailed(self.text)
        raise RuntimeError(self.text)


Scaled = dict[Scale, np.ndarray]  # (3, h, w) uint8 RGB at every scale, min(h, w) == side
Pixels = InBuffer | np.ndarray  # the array itself where the buffer is full
Result = dict[Scale, Pixels] | InputError | Failure  # of one image
Wanted = Mapping[Scale, np.ndarray]  # (images,) bool per scale
USUAL = Patience()


def decoded(
    dataset: Dataset, wanted: Wanted, processes: int, patience: Patience = USUAL
) -> Iterator[tuple[int, Scaled | InputError]]:
    """Decode once, every image that is selected at any scale.

    Args:
        dataset: The images.
        wanted: For each scale, (images,) bool.
        processes: Largest number of worker processes.
        patience: How to wait for them.

    Yields:
        The image's index, and its pixels at each scale that it is selected for, or its error.
        Arrays are valid until the next image is asked for.

    Raises:
        CheckFailed: A process was killed, could not start, ran out of memory, or gave no answer.
        StopWaiting: A signal came while no image was ready.
    """
    indices = np.flatnonzero(np.any(list(wanted.values()), axis=0))
    tasks = [indices[i : i + TASK].tolist() for i in range(0, len(indices), TASK)]
    processes = min(processes, len(tasks))
    ahead = AHEAD * processes
    size = TASK * sum(3 * ASPECT * scale.side**2 for scale in wanted)
    buffers = SharedBuffers(ahead + 1, size, inherited=start_method() == "fork")
    with closing(buffers), closing(_Team(processes, dataset, wanted, buffers)) as team:
        for number in range(min(ahead, len(tasks))):
            team.give(number, tasks[number])
        for number, task in enumerate(tasks):
            results = team.take(number, patience, dataset.where(task[0]))
            if number + ahead < len(tasks):
                team.give(number + ahead, tasks[number + ahead])
            for index, result in zip(task, results, strict=True):
                if isinstance(result, Failure):
                    result.throw()
                if isinstance(result, InputError):
                    yield index, result
                else:
                    yield index, _arrays(result, buffers, number)


class _Team:
    """Worker processes that take tasks in turn.

    Task n is done by process n modulo their number, in buffer n modulo theirs.
    """

    def __init__(self, size: int, dataset: Dataset, wanted: Wanted, buffers: SharedBuffers):
        self.members: list[tuple[BaseProcess, Connection]] = []
        # At exit Python would end daemons by SIGTERM, which these ignore
        self.close = Finalize(self, _end, (self.members,), exitpriority=0)
        try:
            with signals_held_back():
                for _ in range(size):
                    self._start(dataset, wanted, buffers)
        except OSError as error:
            self.close()
            raise CheckFailed(
                f"cannot start {size} decoding processes ({error.strerror})",
                "use fewer threads",
                "threads",
            ) from None
        except BaseException:
            self.close()
            raise

    def _start(self, dataset: Dataset, wanted: Wanted, buffers: SharedBuffers) -> None:
        """Start one more process."""
        context = worker_context()
        ours, theirs = context.Pipe()
        inherited: list[Connection] = []  # the parent's ends, which a fork has to close
        if context.get_start_method() == "fork":
            inherited = [ours, *(pipe for _, pipe in self.members)]
        process: BaseProcess = context.Process(  # type: ignore[attr-defined]  # typeshed lacks it
            target=_work, args=(theirs, inherited, dataset, wanted, buffers), daemon=True
        )
        process.start()
        theirs.close()
        self.members.append((process, ours))

    def give(self, number: int, task: list[int]) -> None:
        """Send a task to its process.

        Args:
            number: Of the task.
            task: Indices of its images.

        Raises:
            CheckFailed: The process was killed.
        """
        process, pipe = self.members[number % len(self.members)]
        try:
            pipe.send((number, task))
        except OSError:
            raise _killed(process) from None

    def take(self, number: int, patience: Patience, name: str) -> list[Result]:
        """Wait for the results of a task that was given; tasks are taken in their order.

        Args:
            number: Of the task.
            patience: How to wait.
            name: Of the task's first image.

        Returns:
            One result per image of the task.

        Raises:
            CheckFailed: The process was killed, or gave no results.
            StopWaiting: A signal came first.
        """
        process, pipe = self.members[number % len(self.members)]
        end = time.monotonic() + patience.seconds
        try:
            while not (ready := wait([pipe, process.sentinel], POLL)):
                if patience.stopping():
                    raise StopWaiting
                if time.monotonic() > end:
                    raise _silent(process, patience, name)
            if pipe not in ready:
                raise EOFError
            results: list[Result] = pipe.recv()
            return results
        except (EOFError, OSError):  # the latter if it was killed in the middle of a message
            raise _killed(process) from None


def _end(members: list[tuple[BaseProcess, Connection]]) -> None:
    """Kill the workers; they have nothing to lose."""
    for process, _ in members:
        process.kill()
    for process, pipe in members:
        process.join()
        pipe.close()


def _killed(process: BaseProcess) -> CheckFailed:
    process.join(1)
    return CheckFailed(
        f"a decoding process ended with {process.exitcode}, perhaps because memory ran out",
        "use fewer threads and run again",
        "killed",
    )


def _silent(process: BaseProcess, patience: Patience, name: str) -> CheckFailed:
    return CheckFailed(
        f"a decoding process ({process.pid}, {state_of(process.pid)}) gave no image for "
        f"{patience.seconds:g} s, at {name} or up to {TASK - 1} images later",
        "look at that process and the disk, then run again",
        "patience",
    )


def _work(
    pipe: Connection,
    inherited: list[Connection],
    dataset: Dataset,
    wanted: Wanted,
    buffers: SharedBuffers,
) -> None:
    """Run a worker process until the parent closes the pipe.

    Args:
        pipe: Brings tasks and takes results.
        inherited: The parent's ends of all pipes. They are closed first: while another process has
            one of them open, the parent's death is not noticed.
        dataset: The images.
        wanted: For each scale, (images,) bool.
        buffers: Where the pixels go.
    """
    outlive_signals()
    # A fork must not free what the parent left, such as sessions whose threads are gone
    gc.freeze()
    for end in inherited:
        end.close()
    while True:
        try:
            number, task = pipe.recv()
        except (EOFError, ConnectionError):
            return
        results = _scale_task(dataset, wanted, task, buffers[number % len(buffers)])
        try:
            pipe.send(results)
        except ConnectionError:
            return


def _scale_task(
    dataset: Dataset, wanted: Wanted, task: list[int], buffer: np.ndarray
) -> list[Result]:
    """Decode and rescale the images of one task; pixels go into the buffer, one after another."""
    results: list[Result] = []
    used = 0  # bytes of the buffer
    for index in task:
        scales = [scale for scale, chosen in wanted.items() if chosen[index]]
        try:
            pixels, used = _scale_image(dataset, index, scales, buffer, used)
            results.append(pixels)
        except InputError as error:
            results.append(error)
        except MemoryError:
            name = dataset.where(index)
            text = f"{name}: decoding ran out of memory; use fewer threads, or remove the image"
            results.append(Failure(True, text))
        except Exception:  # a fault of the program; the parent raises it with this traceback
            results.append(Failure(False, f"{dataset.where(index)}: {traceback.format_exc()}"))
    return results


def _scale_image(
    dataset: Dataset, index: int, scales: list[Scale], buffer: np.ndarray, used: int
) -> tuple[dict[Scale, Pixels], int]:
    """Decode and rescale one image into the unused part of a buffer.

    Args:
        dataset: The images.
        index: Of the image.
        scales: At which it is wanted.
        buffer: (size,) uint8.
        used: Bytes of it that are in use.

    Returns:
        The image at each scale, and the bytes of the buffer that are in use afterwards.
    """
    image = dataset.image(index)
    by_scale: dict[Scale, Pixels] = {}
    for scale in scales:
        pixels = np.asarray(scaled(image, *scale)).transpose(2, 0, 1)
        if used + pixels.size <= len(buffer):
            _, height, width = pixels.shape
            region = InBuffer(used, height, width)
            _array(region, buffer)[...] = pixels
            by_scale[scale] = region
            used += pixels.size
        else:
            by_scale[scale] = np.ascontiguousarray(pixels)
    return by_scale, used


def _arrays(result: dict[Scale, Pixels], buffers: SharedBuffers, number: int) -> Scaled:
    """An image of task `number` as the parent reads it."""
    buffer = buffers[number % len(buffers)]
    arrays = {scale: _array(pixels, buffer) for scale, pixels in result.items()}
    if buffers.named:  # the block cannot be closed while arrays of it are in use
        arrays = {scale: array.copy() for scale, array in arrays.items()}
    return arrays


def _array(pixels: Pixels, buffer: np.ndarray) -> np.ndarray:
    """(3, h, w) uint8; a view of the buffer if the pixels lie there."""
    if isinstance(pixels, np.ndarray):
        return pixels
    offset, height, width = pixels
    return buffer[offset : offset + 3 * height * width].reshape(3, height, width)
